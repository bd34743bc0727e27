//! One single-threaded runtime per core. A connection stays on the core to which it was assigned, and its Redis calls use
//! a connection of the same thread.
//!
//! The multi-threaded runtime moves tasks between cores and wakes a thread for nearly every response. Both cost more
//! than the work itself. Tasks that do not belong to a connection stay on the runtime that the process started with.

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

/// Maximum number of tasks that a core polls before it checks its sockets and timers. With tokio's default of 61, a core could
/// work on refreshes for about 4 ms before it reads the next answers of Redis, and Redis would be idle meanwhile.
const EVENT_INTERVAL: u32 = 16;

thread_local! {
    /// Index of the core that this thread runs. `None` on threads that [`Cores::start`] did not create.
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The runtimes that serve connections. Dropping `Cores` stops the tasks of the runtimes that [`Cores::start`] created.
pub struct Cores {
    cores: Vec<Core>,
}

struct Core {
    runtime: Handle,
    /// Number of connections assigned to this core.
    connections: Arc<AtomicUsize>,
    /// Dropping the sender stops the runtime. `None` for a runtime that belongs to the caller.
    _stop: Option<oneshot::Sender<()>>,
}

/// The assignment of a connection to a core. Counts as one of the core's connections until it is dropped.
pub struct CoreSlot {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

impl Cores {
    /// Starts one thread and runtime for each core that this process may use.
    ///
    /// # Errors
    /// If the system refuses a thread or the resources of a runtime.
    pub fn start() -> io::Result<Self> {
        let count = thread::available_parallelism()?.get();
        let cores = (0..count).map(Core::start).collect::<io::Result<_>>()?;
        Ok(Self { cores })
    }

    /// Uses only the runtime of the caller: for commands, the server of metrics, and tests.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn current_runtime() -> Self {
        Self { cores: vec![Core { runtime: Handle::current(), connections: Arc::default(), _stop: None }] }
    }

    /// Assigns a connection to the core with the fewest connections.
    pub fn assign(&self) -> CoreSlot {
        let least_loaded = self.cores.iter().min_by_key(|core| core.connections.load(Ordering::Relaxed));
        // never the fallback: there is at least one core
        let core = least_loaded.unwrap_or(&self.cores[0]);
        core.connections.fetch_add(1, Ordering::Relaxed);
        CoreSlot { runtime: core.runtime.clone(), connections: Arc::clone(&core.connections) }
    }

    /// Enters the runtime of core `index` (modulo the number of cores): tasks spawned while the guard lives run on that core.
    pub fn enter(&self, index: usize) -> EnterGuard<'_> {
        self.cores[index % self.cores.len()].runtime.enter()
    }
}

/// Index of the core that the current thread runs. `None` on threads that [`Cores::start`] did not create.
pub fn current_core() -> Option<usize> {
    CURRENT.get()
}

impl Core {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().event_interval(EVENT_INTERVAL).enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name(format!("core-{index}")).spawn(move || {
            CURRENT.set(Some(index));
            // completes with an error when the sender is dropped
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, connections: Arc::default(), _stop: Some(stop) })
    }
}

impl CoreSlot {
    /// The runtime for the connection's tasks.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

impl Drop for CoreSlot {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_balanced_and_stay_on_their_core() {
        let cores = Cores { cores: (0..3).map(|index| Core::start(index).unwrap()).collect() };
        let slots: Vec<_> = (0..6).map(|_| cores.assign()).collect();
        let mut used_cores = Vec::new();
        for slot in &slots {
            // a task that the connection's task spawns stays on the core, too
            let task = slot.runtime().spawn(async { tokio::spawn(async { current_core() }).await.unwrap() });
            used_cores.push(task.await.unwrap().unwrap());
        }
        used_cores.sort_unstable();
        assert_eq!(used_cores, [0, 0, 1, 1, 2, 2]);
        assert_eq!(current_core(), None, "the test's own thread runs no core");
        drop(slots);
        assert!(cores.cores.iter().all(|core| core.connections.load(Ordering::Relaxed) == 0));
    }

    #[tokio::test]
    async fn tasks_spawned_after_enter_run_on_that_core() {
        let cores = Cores { cores: (0..2).map(|index| Core::start(index).unwrap()).collect() };
        for index in 0..4 {
            let task = {
                let _entered = cores.enter(index);
                tokio::spawn(async { current_core() })
            };
            assert_eq!(task.await.unwrap(), Some(index % 2));
        }
    }

    #[tokio::test]
    async fn dropping_cores_cancels_their_tasks() {
        let cores = Cores { cores: vec![Core::start(0).unwrap()] };
        let task = cores.assign().runtime().spawn(std::future::pending::<()>());
        drop(cores);
        assert!(task.await.unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn current_runtime_uses_the_callers_runtime() {
        let cores = Cores::current_runtime();
        assert_eq!(cores.assign().runtime().spawn(async { current_core() }).await.unwrap(), None);
    }
}
