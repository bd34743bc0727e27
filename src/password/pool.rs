//! The threads that hash: few, of low priority, each with one block of memory, behind a bounded queue.
//!
//! What a job found out is told at once while few wait. Where many do, the outcomes of several are told together: each
//! telling wakes a core, Redis and the database, whose caches argon2 has just filled, and what is told together goes on
//! together from there. An outcome is kept back for no more than a quarter of what whoever is last in the queue waits.
//!
//! While the cores are busy with others ([`LoadMonitor`]), every second thread rests.

use std::{
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use argon2::Block;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::load_monitor::LoadMonitor;
use crate::crypto::huge_pages;

/// A thread's memory for argon2, allocated once.
pub(super) type Memory = Vec<Block>;

/// Gives what is to be told when it is done; nothing if there was nothing to do.
type Job = Box<dyn FnOnce(&mut Memory) -> Option<Delivery> + Send>;

/// Tells whoever waits for a job what came of it.
pub(super) type Delivery = Box<dyn FnOnce() + Send>;

/// One outcome is kept back for so many jobs that wait.
const SHARE: usize = 4;

/// And no more than so many are told together: beyond that little is won.
const TOGETHER: usize = 16;

/// How long a thread rests before it looks again whether it should.
const REST: Duration = Duration::from_millis(10);

/// The least of processor time beside others, where [`yield_to_others`] isn't possible.
const NICENESS: i32 = 19;

pub(super) struct Pool {
    jobs: SyncSender<Job>,
    places: Arc<Semaphore>,
    stats: Arc<Stats>,
    crowd: Arc<LoadMonitor>,
    threads: usize,
}

#[derive(Default)]
struct Stats {
    /// Counted when a job is in the queue, and no longer when it has been taken out: at no time more than there are, so that
    /// whoever sees one knows that a thread will have done one after.
    waiting: AtomicI64,
    begun: AtomicU64,
    /// A running average of how long a job takes.
    job_micros: AtomicU64,
    /// What wasn't told yet.
    untold: Mutex<Vec<Delivery>>,
}

/// Why a job wasn't taken.
pub(super) enum Refused {
    Full { retry_after: Duration },
    Stopped,
}

impl Pool {
    pub(super) fn start(threads: usize, queue: usize, blocks: usize) -> io::Result<Self> {
        Self::beside(LoadMonitor::new(thread::available_parallelism()?.get()), threads, queue, blocks)
    }

    fn beside(crowd: LoadMonitor, threads: usize, queue: usize, blocks: usize) -> io::Result<Self> {
        let crowd = Arc::new(crowd);
        let (jobs, queued) = sync_channel(queue);
        let queued = Arc::new(Mutex::new(queued));
        let stats = Arc::new(Stats::default());
        for number in 0..threads {
            let (queued, stats, crowd) = (Arc::clone(&queued), Arc::clone(&stats), Arc::clone(&crowd));
            // made here, while this thread makes nothing else
            let memory = huge_pages::with(|| vec![Block::default(); blocks]);
            thread::Builder::new().name(format!("password-{number}")).spawn(move || {
                let rest = || {
                    while number % 2 == 1 && crowd.is_there() {
                        thread::park_timeout(REST);
                    }
                };
                work(&queued, &stats, memory, rest);
            })?;
        }
        let places = Arc::new(Semaphore::new(queue.saturating_add(threads).min(Semaphore::MAX_PERMITS)));
        Ok(Self { jobs, places, stats, crowd, threads })
    }

    pub(super) fn submit(&self, job: Job) -> Result<(), Refused> {
        self.crowd.look();
        self.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => Refused::Full { retry_after: self.retry_after() },
            TrySendError::Disconnected(_) => Refused::Stopped,
        })?;
        self.stats.waiting.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Takes one of the places that there are, as many as jobs can be worked on and wait.
    pub(super) fn reserve(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| Refused::Full { retry_after: self.retry_after() })
    }

    /// When those who wait now will have been worked for, or a second.
    fn retry_after(&self) -> Duration {
        let threads = if self.crowd.is_there() { self.threads.div_ceil(2) } else { self.threads };
        let rounds = u64::try_from(self.waiting() / threads).unwrap_or(u64::MAX);
        let micros = self.stats.job_micros.load(Ordering::Relaxed).saturating_mul(rounds);
        Duration::from_micros(micros).max(Duration::from_secs(1))
    }

    pub(super) fn waiting(&self) -> usize {
        self.stats.waiting()
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

/// Works until the pool is gone; before each job it may `rest`.
fn work(queued: &Mutex<Receiver<Job>>, stats: &Stats, mut memory: Memory, rest: impl Fn()) {
    #[cfg(target_os = "linux")]
    if let Err(error) = yield_to_others() {
        tracing::debug!(%error, "the password threads keep the scheduling of the others");
    }
    // For Linux, "the process" here is the calling thread.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the password threads keep the priority of the others");
    }
    loop {
        rest();
        // the lock is held while waiting, and passed on before working
        let job = queued.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        stats.waiting.fetch_sub(1, Ordering::SeqCst);
        stats.begun.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| job(&mut memory))).unwrap_or_else(|_| {
            tracing::error!("a password thread caught a panic");
            None
        });
        if done.is_some() {
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            let average = stats.job_micros.load(Ordering::Relaxed);
            let average = if average == 0 { micros } else { average - average / 8 + micros / 8 };
            stats.job_micros.store(average, Ordering::Relaxed);
        }
        stats.tell(done);
    }
}

impl Stats {
    fn waiting(&self) -> usize {
        usize::try_from(self.waiting.load(Ordering::SeqCst)).unwrap_or_default()
    }

    /// Tells what was done, or keeps it back for what is done next. To be called after every job, even one that did nothing.
    fn tell(&self, done: Option<Delivery>) {
        let telling = {
            let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
            untold.extend(done);
            // how many wait is looked at under the lock: whoever comes after sees what is kept back here
            let kept_back = (self.waiting() / SHARE).min(TOGETHER - 1);
            if untold.len() > kept_back { mem::take(&mut *untold) } else { Vec::new() }
        };
        for tell in telling {
            if catch_unwind(AssertUnwindSafe(tell)).is_err() {
                tracing::error!("a password thread caught a panic while it told what it had found out");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A pool of one thread, which works on its first job until it is told otherwise.
    fn busy(queue: usize) -> (Pool, Sender<()>) {
        let pool = Pool::start(1, queue, 1).unwrap();
        let (started, is_started) = channel();
        let (release, released) = channel::<()>();
        let block = move |_: &mut Memory| -> Option<Delivery> {
            started.send(()).unwrap();
            released.recv().unwrap();
            None
        };
        assert!(pool.submit(Box::new(block)).is_ok());
        is_started.recv().unwrap();
        (pool, release)
    }

    #[test]
    fn retry_after_is_what_the_queue_will_take() {
        let (pool, release) = busy(3);
        for _ in 0..3 {
            assert!(pool.submit(Box::new(|_| None)).is_ok());
        }
        assert_eq!(pool.waiting(), 3);
        let retry_after = || match pool.submit(Box::new(|_| None)) {
            Err(Refused::Full { retry_after }) => retry_after,
            _ => panic!("not refused as full"),
        };
        assert_eq!(retry_after(), Duration::from_secs(1), "nothing is known yet of how long a job takes");
        pool.stats.job_micros.store(2_000_000, Ordering::Relaxed);
        assert_eq!(retry_after(), Duration::from_secs(6));
        release.send(()).unwrap();
    }

    #[test]
    fn every_second_thread_rests_while_there_is_a_crowd() {
        let pool = Pool::beside(LoadMonitor::staying(), 2, 40, 1).unwrap();
        let (tell, told) = channel();
        for _ in 0..40 {
            let tell = tell.clone();
            let who = move |_: &mut Memory| -> Option<Delivery> {
                tell.send(thread::current().name().map(str::to_owned)).unwrap();
                None
            };
            assert!(pool.submit(Box::new(who)).is_ok());
        }
        assert!(told.iter().take(40).all(|name| name.as_deref() == Some("password-0")));
        pool.crowd.leave();
        // each waits for the other
        let both = Arc::new(std::sync::Barrier::new(2));
        let (done, are_done) = channel();
        for _ in 0..2 {
            let (both, done) = (Arc::clone(&both), done.clone());
            let wait = move |_: &mut Memory| -> Option<Delivery> {
                both.wait();
                done.send(()).unwrap();
                None
            };
            assert!(pool.submit(Box::new(wait)).is_ok());
        }
        assert_eq!(are_done.iter().take(2).count(), 2);
    }

    #[test]
    fn what_is_found_out_is_told_at_once_where_few_wait_and_together_where_many_do() {
        let (pool, release) = busy(40);
        let (tell, told) = channel();
        for number in 0..40_u64 {
            let (tell, stats) = (tell.clone(), Arc::clone(&pool.stats));
            // with how many had been begun by then
            let telling = move || tell.send((number, stats.begun.load(Ordering::Relaxed))).unwrap();
            assert!(pool.submit(Box::new(|_| Some(Box::new(telling)))).is_ok());
        }
        release.send(()).unwrap();
        let told: Vec<(u64, u64)> = told.iter().take(40).collect();
        let order: Vec<u64> = told.iter().map(|(number, _)| *number).collect();
        assert_eq!(order, (0..40).collect::<Vec<_>>());
        // the first job was the one that held up the others; each of these is told when those in its group have been done
        let behind: Vec<u64> = told.iter().map(|(number, begun)| begun - (number + 2)).collect();
        assert_eq!(behind[..9], [8, 7, 6, 5, 4, 3, 2, 1, 0], "of 39 that waited, at first");
        assert!(behind[36..].iter().all(|behind| *behind == 0), "when less than {SHARE} waited: {behind:?}");
    }

    #[test]
    fn what_is_kept_back_is_told_even_if_the_rest_do_nothing_or_panic() {
        let (pool, release) = busy(40);
        let (tell, told) = channel();
        assert!(pool.submit(Box::new(move |_| Some(Box::new(move || tell.send(()).unwrap())))).is_ok());
        for _ in 0..19 {
            assert!(pool.submit(Box::new(|_| None)).is_ok());
        }
        for _ in 0..20 {
            assert!(pool.submit(Box::new(|_| panic!("as a test wants it"))).is_ok());
        }
        release.send(()).unwrap();
        told.recv().unwrap();
    }
}
