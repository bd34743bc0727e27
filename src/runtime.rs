//! A thread and a runtime for each core: a connection is served where it began, and what it asks of Redis goes over a
//! connection of the same thread.
//!
//! One runtime for all would move work from core to core and wake a thread for nearly every answer, which costs more than
//! the work. What is not about one connection stays in the runtime that the process began with.

use std::{
    cell::Cell,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    runtime::{Builder, EnterGuard, Handle},
    sync::oneshot,
};

/// After how many tasks at most a core looks at what has arrived. Tokio's 61 would be some four milliseconds of refreshes, for
/// which Redis would wait for its next call.
const LOOK_EVERY: u32 = 16;

thread_local! {
    /// Which of the cores this thread is, if it is one.
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Where connections are served. Dropped, it ends what is still going on there.
pub struct Cores {
    cores: Vec<Core>,
}

struct Core {
    runtime: Handle,
    /// Connections that are served there.
    load: Arc<AtomicUsize>,
    /// Dropped, it ends the runtime, if that is its own.
    _until: Option<oneshot::Sender<()>>,
}

/// A place for one connection on one of the cores.
pub struct Place {
    runtime: Handle,
    load: Arc<AtomicUsize>,
}

impl Cores {
    /// Starts a thread for each core of the machine, as far as this process may use them.
    ///
    /// # Errors
    /// If the system refuses a thread, or what a runtime needs.
    pub fn start() -> io::Result<Self> {
        let count = thread::available_parallelism()?.get();
        let cores = (0..count).map(Core::start).collect::<io::Result<_>>()?;
        Ok(Self { cores })
    }

    /// Only the runtime that this is called in.
    ///
    /// # Panics
    /// If there is none.
    pub fn here() -> Self {
        Self { cores: vec![Core { runtime: Handle::current(), load: Arc::default(), _until: None }] }
    }

    /// Finds a place for a connection where there are the fewest.
    pub fn place(&self) -> Place {
        let core = self.cores.iter().min_by_key(|core| core.load.load(Ordering::Relaxed)).unwrap_or(&self.cores[0]);
        core.load.fetch_add(1, Ordering::Relaxed);
        Place { runtime: core.runtime.clone(), load: Arc::clone(&core.load) }
    }

    /// Has tasks run on one core, counted round, for as long as what it gives is held.
    pub fn enter(&self, number: usize) -> EnterGuard<'_> {
        self.cores[number % self.cores.len()].runtime.enter()
    }
}

/// Which of the cores this is, if it is one of [`Cores::start`].
pub fn current() -> Option<usize> {
    CURRENT.get()
}

impl Core {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().event_interval(LOOK_EVERY).enable_all().build()?;
        let handle = runtime.handle().clone();
        let (until, ended) = oneshot::channel::<()>();
        thread::Builder::new().name(format!("core-{number}")).spawn(move || {
            CURRENT.set(Some(number));
            // an error is its end
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, load: Arc::default(), _until: Some(until) })
    }
}

impl Place {
    /// Where the connection's tasks run.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_spread_and_stay_where_they_are() {
        let cores = Cores { cores: (0..3).map(|number| Core::start(number).unwrap()).collect() };
        let places: Vec<_> = (0..6).map(|_| cores.place()).collect();
        let mut seen = Vec::new();
        for place in &places {
            let of_task = place.runtime().spawn(async { tokio::spawn(async { current() }).await.unwrap() });
            seen.push(of_task.await.unwrap().unwrap());
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 0, 1, 1, 2, 2]);
        assert_eq!(current(), None);
        drop(places);
        assert!(cores.cores.iter().all(|core| core.load.load(Ordering::Relaxed) == 0));
    }

    #[tokio::test]
    async fn what_is_spawned_after_entering_runs_there() {
        let cores = Cores { cores: (0..2).map(|number| Core::start(number).unwrap()).collect() };
        for number in 0..4 {
            let task = {
                let _entered = cores.enter(number);
                tokio::spawn(async { current() })
            };
            assert_eq!(task.await.unwrap(), Some(number % 2));
        }
    }

    #[tokio::test]
    async fn dropped_they_end_what_goes_on() {
        let cores = Cores { cores: vec![Core::start(0).unwrap()] };
        let task = cores.place().runtime().spawn(std::future::pending::<()>());
        drop(cores);
        assert!(task.await.unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn here_is_where_it_was_made() {
        let cores = Cores::here();
        assert_eq!(cores.place().runtime().spawn(async { current() }).await.unwrap(), None);
    }
}
