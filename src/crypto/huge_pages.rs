//! Transparent huge pages where they pay: under the memory that argon2 works in, which is hashed a tenth faster there.
//! Everywhere else they only round up what the process takes: the allocator asks the kernel for them throughout, and each
//! small thing that is kept would keep 2 MiB.
//!
//! The switch is the process's, and counts when a page is first touched (`PR_SET_THP_DISABLE`, prctl(2)).

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

static OFF: AtomicBool = AtomicBool::new(false);
static SWITCHING: Mutex<()> = Mutex::new(());

/// None from now on, but for what [`with`] makes. For `main`, before there are other threads.
pub fn off() {
    OFF.store(true, Ordering::Relaxed);
    disable(true);
}

/// Makes something large and touches all of it, in huge pages where the system has them.
pub(crate) fn with<T>(make: impl FnOnce() -> T) -> T {
    if !OFF.load(Ordering::Relaxed) {
        return make();
    }
    let _one_at_a_time = SWITCHING.lock().unwrap_or_else(PoisonError::into_inner);
    disable(false);
    let made = make();
    disable(true);
    made
}

#[cfg(target_os = "linux")]
fn disable(disable: bool) {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(disable) {
        tracing::debug!(%error, "transparent huge pages stay as they are");
    }
}

#[cfg(not(target_os = "linux"))]
fn disable(_: bool) {}
