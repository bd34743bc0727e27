//! The hashing threads: few, of low priority, each with one argon2 buffer, behind a bounded queue.
//!
//! Results are delivered at once when the queue is short and in batches when it is long. Each delivery wakes a core of the
//! runtime, and then Redis and the database. They start with cold processor caches, because argon2 has just evicted their data.
//! The requests of a batch continue together, so that they share this cost and also batch their next steps. A result waits for at
//! most a quarter of the jobs that are queued behind it.
//!
//! While the request load is high ([`LoadMonitor`]), every second thread pauses.

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

use super::{huge_pages, load_monitor::LoadMonitor};
use crate::logging::panic_message;

/// A thread's argon2 buffer, allocated once.
pub(super) type Memory = Vec<Block>;

/// A job. It returns the delivery of its result, or `None` if the caller no longer waits.
type Job = Box<dyn FnOnce(&mut Memory) -> Option<Delivery> + Send>;

/// Sends a job's result to the caller.
pub(super) type Delivery = Box<dyn FnOnce() + Send>;

/// One result may be held back for every four jobs in the queue.
const JOBS_PER_HELD_RESULT: usize = 4;

/// The largest batch of results. Larger batches gain little.
const MAX_BATCH: usize = 16;

/// The interval at which a paused thread checks the load.
const PAUSE_INTERVAL: Duration = Duration::from_millis(10);

/// The niceness of the threads. It matters if [`set_idle_priority`] fails, and on systems other than Linux.
const NICENESS: i32 = 19;

/// The hashing threads and their queue. The threads end when the pool is dropped.
pub(super) struct Pool {
    jobs: SyncSender<Job>,
    /// One permit for each thread and each place in the queue.
    slots: Arc<Semaphore>,
    stats: Arc<Stats>,
    monitor: Arc<LoadMonitor>,
    threads: usize,
}

/// The state that the pool shares with its threads.
#[derive(Default)]
struct Stats {
    /// The number of jobs in the queue. Incremented after a job is queued, and decremented after a thread has taken it. So while the
    /// number is positive, some thread will still call [`Stats::deliver`].
    waiting: AtomicI64,
    /// The number of jobs that the threads have taken so far.
    started: AtomicU64,
    /// The moving average of the duration of a job, in microseconds. Each job has a weight of an eighth.
    job_micros: AtomicU64,
    /// The results that are held back.
    undelivered: Mutex<Vec<Delivery>>,
}

/// The reason why a job was not queued.
pub(super) enum Refused {
    /// All places are taken. `retry_after` is the estimated time until the current queue is empty.
    Full { retry_after: Duration },
    /// The threads have ended.
    Stopped,
}

impl Pool {
    /// Starts `threads` threads behind a queue of `queue` jobs. Each thread has a buffer of `blocks` argon2 blocks of 1 KiB.
    pub(super) fn start(threads: usize, queue: usize, blocks: usize) -> io::Result<Self> {
        Self::with_monitor(LoadMonitor::new(thread::available_parallelism()?.get()), threads, queue, blocks)
    }

    fn with_monitor(monitor: LoadMonitor, threads: usize, queue: usize, blocks: usize) -> io::Result<Self> {
        let monitor = Arc::new(monitor);
        let (jobs, queued) = sync_channel(queue);
        let queued = Arc::new(Mutex::new(queued));
        let stats = Arc::new(Stats::default());
        for number in 0..threads {
            let (queued, stats, monitor) = (Arc::clone(&queued), Arc::clone(&stats), Arc::clone(&monitor));
            // The calling thread allocates the buffer, and nothing else meanwhile: only the buffer is to have huge pages.
            let memory = huge_pages::enable_during(|| vec![Block::default(); blocks]);
            thread::Builder::new().name(format!("password-{number}")).spawn(move || {
                let is_every_second = number % 2 == 1;
                let pause = || {
                    while is_every_second && monitor.is_high() {
                        thread::park_timeout(PAUSE_INTERVAL);
                    }
                };
                run_jobs(&queued, &stats, memory, pause);
            })?;
        }
        let slots = Arc::new(Semaphore::new(queue.saturating_add(threads).min(Semaphore::MAX_PERMITS)));
        Ok(Self { jobs, slots, stats, monitor, threads })
    }

    /// Queues a job. Does not wait for its result.
    pub(super) fn submit(&self, job: Job) -> Result<(), Refused> {
        self.monitor.sample();
        self.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => Refused::Full { retry_after: self.retry_after() },
            TrySendError::Disconnected(_) => Refused::Stopped,
        })?;
        self.stats.waiting.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Reserves a slot for a job that the caller will submit. [`Self::submit`] itself checks only the queue.
    pub(super) fn reserve(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        slot.map_err(|_| Refused::Full { retry_after: self.retry_after() })
    }

    /// The estimated time until the current queue is empty, at least a second.
    fn retry_after(&self) -> Duration {
        let running_threads = if self.monitor.is_high() { self.threads.div_ceil(2) } else { self.threads };
        let jobs_per_thread = u64::try_from(self.waiting() / running_threads).unwrap_or(u64::MAX);
        let micros = self.stats.job_micros.load(Ordering::Relaxed).saturating_mul(jobs_per_thread);
        Duration::from_micros(micros).max(Duration::from_secs(1))
    }

    /// The number of jobs in the queue.
    pub(super) fn waiting(&self) -> usize {
        self.stats.waiting()
    }

    /// The number of jobs that the threads have taken so far.
    pub(super) fn started(&self) -> u64 {
        self.stats.started.load(Ordering::Relaxed)
    }
}

/// Schedules this thread only while no other wants the processor, so that a flood of sign-ins leaves nearly all of it to
/// refreshes and introspections. The highest niceness is not enough: the scheduler doesn't preempt such a thread at once.
#[cfg(target_os = "linux")]
fn set_idle_priority() -> Result<(), thread_priority::Error> {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
        thread_native_id,
    };
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
}

/// Runs jobs until the pool is dropped. Calls `pause` before each job.
fn run_jobs(queued: &Mutex<Receiver<Job>>, stats: &Stats, mut memory: Memory, pause: impl Fn()) {
    #[cfg(target_os = "linux")]
    if let Err(error) = set_idle_priority() {
        tracing::debug!(
            %error,
            "setting the scheduling policy of a password thread failed: password hashing may slow down other \
             requests"
        );
    }
    // On Linux this affects the calling thread only.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(
            %error,
            "setting the niceness of a password thread failed: password hashing may slow down other requests"
        );
    }
    loop {
        pause();
        // The thread holds the lock while it waits for a job, not while it runs one.
        let job = queued.lock().unwrap_or_else(PoisonError::into_inner).recv();
        // The pool was dropped, and with it the sender.
        let Ok(job) = job else { return };
        stats.waiting.fetch_sub(1, Ordering::SeqCst);
        stats.started.fetch_add(1, Ordering::Relaxed);
        let started_at = Instant::now();
        let delivery = catch_unwind(AssertUnwindSafe(|| job(&mut memory))).unwrap_or_else(|panic| {
            tracing::error!(
                cause = panic_message(&*panic),
                "a request failed because of a bug (a panic in a password job); other requests are unaffected. Report it with the panic's message \
                 on standard error"
            );
            None
        });
        // A job whose caller no longer waits may have done no work, so its duration does not count.
        if delivery.is_some() {
            let micros = u64::try_from(started_at.elapsed().as_micros()).unwrap_or(u64::MAX);
            let former = stats.job_micros.load(Ordering::Relaxed);
            let average = if former == 0 { micros } else { former - former / 8 + micros / 8 };
            stats.job_micros.store(average, Ordering::Relaxed);
        }
        stats.deliver(delivery);
    }
}

impl Stats {
    fn waiting(&self) -> usize {
        // The counter is negative for a moment if a thread takes a job before `submit` has counted the job.
        usize::try_from(self.waiting.load(Ordering::SeqCst)).unwrap_or_default()
    }

    /// Delivers all results that are held back, or holds this one back too. Must be called after every job, even one without a
    /// result: it may be the last in the queue.
    fn deliver(&self, delivery: Option<Delivery>) {
        let batch = {
            let mut undelivered = self.undelivered.lock().unwrap_or_else(PoisonError::into_inner);
            undelivered.extend(delivery);
            // Read under the lock, so that a thread that finishes later sees the results held back here.
            let max_held_back = (self.waiting() / JOBS_PER_HELD_RESULT).min(MAX_BATCH - 1);
            if undelivered.len() > max_held_back { mem::take(&mut *undelivered) } else { Vec::new() }
        };
        for delivery in batch {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(delivery)) {
                tracing::error!(
                    cause = panic_message(&*panic),
                    "a request failed because of a bug (a panic in the delivery of a password job's result); other requests are unaffected. \
                     Report it with the panic's message on standard error"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::logging;

    /// The size of a thread's buffer. The jobs of these tests do not use it.
    const BLOCKS: usize = 1;

    /// A pool of one thread, whose first job blocks it until the returned sender sends.
    fn busy_pool(queue: usize) -> (Pool, Sender<()>) {
        let pool = Pool::start(1, queue, BLOCKS).unwrap();
        let (started_tx, started_rx) = channel();
        let (release, released) = channel::<()>();
        let block = move |_: &mut Memory| -> Option<Delivery> {
            started_tx.send(()).unwrap();
            released.recv().unwrap();
            None
        };
        assert!(pool.submit(Box::new(block)).is_ok());
        started_rx.recv().unwrap();
        (pool, release)
    }

    #[test]
    fn retry_after_estimates_the_time_to_empty_the_queue() {
        let (pool, release) = busy_pool(3);
        for _ in 0..3 {
            assert!(pool.submit(Box::new(|_| None)).is_ok());
        }
        assert_eq!(pool.waiting(), 3);
        let refused_retry_after = || match pool.submit(Box::new(|_| None)) {
            Err(Refused::Full { retry_after }) => retry_after,
            _ => panic!("not refused as full"),
        };
        assert_eq!(refused_retry_after(), Duration::from_secs(1), "the minimum, since no job was measured yet");
        pool.stats.job_micros.store(2_000_000, Ordering::Relaxed);
        assert_eq!(refused_retry_after(), Duration::from_secs(6), "three jobs of two seconds");
        release.send(()).unwrap();
    }

    #[test]
    fn every_second_thread_pauses_under_high_load() {
        let (threads, queue) = (2, 40);
        let pool = Pool::with_monitor(LoadMonitor::with_full_load(), threads, queue, BLOCKS).unwrap();
        let (sender, receiver) = channel();
        for _ in 0..queue {
            let sender = sender.clone();
            let report_thread = move |_: &mut Memory| -> Option<Delivery> {
                sender.send(thread::current().name().map(str::to_owned)).unwrap();
                None
            };
            assert!(pool.submit(Box::new(report_thread)).is_ok());
        }
        // the second thread, `password-1`, pauses
        assert!(receiver.iter().take(queue).all(|name| name.as_deref() == Some("password-0")));
        pool.monitor.clear();
        // Each job waits for the other one, so they end only if both threads run.
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
    fn results_are_delivered_in_batches_while_the_queue_is_long() {
        let (pool, release) = busy_pool(40);
        let (sender, receiver) = channel();
        for number in 0..40_u64 {
            let (sender, stats) = (sender.clone(), Arc::clone(&pool.stats));
            // Sends the number of jobs that have started when the result is delivered.
            let delivery = move || sender.send((number, stats.started.load(Ordering::Relaxed))).unwrap();
            assert!(pool.submit(Box::new(|_| Some(Box::new(delivery)))).is_ok());
        }
        release.send(()).unwrap();
        let results: Vec<(u64, u64)> = receiver.iter().take(40).collect();
        let order: Vec<u64> = results.iter().map(|(number, _)| *number).collect();
        assert_eq!(order, (0..40).collect::<Vec<_>>());
        // How many jobs have started between the job of a result and its delivery. The job that blocked the thread was the first,
        // so `number + 2` jobs have started when job `number` ends.
        let delays: Vec<u64> = results.iter().map(|(number, started)| started - (number + 2)).collect();
        assert_eq!(
            delays[..9],
            [8, 7, 6, 5, 4, 3, 2, 1, 0],
            "the first batch: nine results when 31 jobs wait, as 9 > 31 / 4"
        );
        assert!(delays[36..].iter().all(|delay| *delay == 0), "with fewer than 4 jobs waiting: {delays:?}");
    }

    #[test]
    fn panics_of_a_job_and_of_a_delivery_are_logged_with_their_messages() {
        let (sender, receiver) = sync_channel::<Job>(2);
        sender.send(Box::new(|_| panic!("panic of a job"))).unwrap();
        sender.send(Box::new(|_| Some(Box::new(|| panic!("panic of a delivery"))))).unwrap();
        drop(sender);
        // A thread of its own, whose priority `run_jobs` lowers.
        let run = move || logging::capture(|| run_jobs(&Mutex::new(receiver), &Stats::default(), Vec::new(), || {}));
        let text = thread::spawn(run).join().unwrap();
        for message in ["panic of a job", "panic of a delivery"] {
            assert!(text.contains(&format!("cause=\"{message}\"")), "{text}");
        }
    }

    #[test]
    fn held_back_result_is_delivered_although_later_jobs_panic() {
        let (pool, release) = busy_pool(40);
        let (sender, receiver) = channel();
        assert!(pool.submit(Box::new(move |_| Some(Box::new(move || sender.send(()).unwrap())))).is_ok());
        for _ in 0..19 {
            assert!(pool.submit(Box::new(|_| None)).is_ok());
        }
        // The result is held back while at least JOBS_PER_HELD_RESULT (4) jobs wait: until one of the last jobs, which panic.
        for _ in 0..20 {
            assert!(pool.submit(Box::new(|_| panic!("on purpose"))).is_ok());
        }
        release.send(()).unwrap();
        receiver.recv().unwrap();
    }
}
