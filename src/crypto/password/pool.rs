//! The threads that hash: few, of low priority, each with one block of memory, behind a bounded queue.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use argon2::Block;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::crypto::huge_pages;

/// A thread's memory for argon2, allocated once.
pub(super) type Memory = Vec<Block>;

/// Answers whether there was anything to do.
type Job = Box<dyn FnOnce(&mut Memory) -> bool + Send>;

/// The least of processor time beside others, where [`yield_to_others`] isn't possible.
const NICENESS: i32 = 19;

pub(super) struct Pool {
    jobs: SyncSender<Job>,
    places: Arc<Semaphore>,
    stats: Arc<Stats>,
    threads: usize,
}

#[derive(Default)]
struct Stats {
    waiting: AtomicUsize,
    begun: AtomicU64,
    /// A running average of how long a job takes.
    job_micros: AtomicU64,
}

/// Why a job wasn't taken.
pub(super) enum Refused {
    Full { retry_after: Duration },
    Stopped,
}

impl Pool {
    pub(super) fn start(threads: usize, queue: usize, blocks: usize) -> io::Result<Self> {
        let (jobs, queued) = sync_channel(queue);
        let queued = Arc::new(Mutex::new(queued));
        let stats = Arc::new(Stats::default());
        for number in 0..threads {
            let (queued, stats) = (Arc::clone(&queued), Arc::clone(&stats));
            // made here, while this thread makes nothing else
            let memory = huge_pages::with(|| vec![Block::default(); blocks]);
            thread::Builder::new().name(format!("password-{number}")).spawn(move || work(&queued, &stats, memory))?;
        }
        let places = Arc::new(Semaphore::new(queue.saturating_add(threads).min(Semaphore::MAX_PERMITS)));
        Ok(Self { jobs, places, stats, threads })
    }

    pub(super) fn submit(&self, job: Job) -> Result<(), Refused> {
        self.stats.waiting.fetch_add(1, Ordering::Relaxed);
        self.jobs.try_send(job).map_err(|refused| {
            self.stats.waiting.fetch_sub(1, Ordering::Relaxed);
            match refused {
                TrySendError::Full(_) => Refused::Full { retry_after: self.retry_after() },
                TrySendError::Disconnected(_) => Refused::Stopped,
            }
        })
    }

    /// Takes one of the places that there are, as many as jobs can be worked on and wait.
    pub(super) fn reserve(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| Refused::Full { retry_after: self.retry_after() })
    }

    /// When those who wait now will have been worked for, or a second.
    fn retry_after(&self) -> Duration {
        let rounds = u64::try_from(self.waiting() / self.threads).unwrap_or(u64::MAX);
        let micros = self.stats.job_micros.load(Ordering::Relaxed).saturating_mul(rounds);
        Duration::from_micros(micros).max(Duration::from_secs(1))
    }

    pub(super) fn waiting(&self) -> usize {
        self.stats.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn begun(&self) -> u64 {
        self.stats.begun.load(Ordering::Relaxed)
    }
}

/// Has this thread run when no other wants to, and stop as soon as one does: a flood of sign-ins leaves refreshes and
/// introspections nearly all of the processor. The least niceness wouldn't do: such a thread isn't interrupted at once.
#[cfg(target_os = "linux")]
fn yield_to_others() -> Result<(), thread_priority::Error> {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
        thread_native_id,
    };
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
}

fn work(queued: &Mutex<Receiver<Job>>, stats: &Stats, mut memory: Memory) {
    #[cfg(target_os = "linux")]
    if let Err(error) = yield_to_others() {
        tracing::debug!(%error, "the password threads keep the scheduling of the others");
    }
    // For Linux, "the process" here is the calling thread.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the password threads keep the priority of the others");
    }
    loop {
        // the lock is held while waiting, and passed on before working
        let job = queued.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        stats.waiting.fetch_sub(1, Ordering::Relaxed);
        stats.begun.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| job(&mut memory))) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(_) => {
                tracing::error!("a password thread caught a panic");
                continue;
            }
        }
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let average = stats.job_micros.load(Ordering::Relaxed);
        let average = if average == 0 { micros } else { average - average / 8 + micros / 8 };
        stats.job_micros.store(average, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn retry_after_is_what_the_queue_will_take() {
        let pool = Pool::start(1, 3, 1).unwrap();
        let (started, is_started) = channel();
        let (release, released) = channel::<()>();
        let block = move |_: &mut Memory| {
            started.send(()).unwrap();
            released.recv().is_ok()
        };
        assert!(pool.submit(Box::new(block)).is_ok());
        is_started.recv().unwrap();
        for _ in 0..3 {
            assert!(pool.submit(Box::new(|_| true)).is_ok());
        }
        assert_eq!(pool.waiting(), 3);
        let retry_after = || match pool.submit(Box::new(|_| true)) {
            Err(Refused::Full { retry_after }) => retry_after,
            _ => panic!("not refused as full"),
        };
        assert_eq!(retry_after(), Duration::from_secs(1), "nothing is known yet of how long a job takes");
        pool.stats.job_micros.store(2_000_000, Ordering::Relaxed);
        assert_eq!(retry_after(), Duration::from_secs(6));
        release.send(()).unwrap();
    }
}
