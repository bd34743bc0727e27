//! Enables transparent huge pages for argon2's memory only, where they make hashing a tenth faster. Elsewhere they only
//! increase memory use: the allocator requests them everywhere, and a small allocation can then keep 2 MiB resident.
//!
//! The switch applies to the whole process and takes effect when a page is first touched (`PR_SET_THP_DISABLE`, prctl(2)).

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// Whether [`disable`] was called. If not, [`enable_during`] leaves the switch alone.
static IS_DISABLED: AtomicBool = AtomicBool::new(false);
/// Locked while huge pages are enabled for an allocation, because the switch applies to the whole process.
static ALLOCATING: Mutex<()> = Mutex::new(());

/// Disables huge pages except inside `enable_during`. Call this in `main`, before it starts threads: memory that is touched
/// earlier keeps its huge pages.
pub fn disable() {
    IS_DISABLED.store(true, Ordering::Relaxed);
    set_disabled(true);
}

/// Runs `allocate`, which allocates memory and touches all of it, with huge pages enabled.
pub(crate) fn enable_during<T>(allocate: impl FnOnce() -> T) -> T {
    if !IS_DISABLED.load(Ordering::Relaxed) {
        return allocate();
    }
    let _guard = ALLOCATING.lock().unwrap_or_else(PoisonError::into_inner);
    set_disabled(false);
    let _disable = DisableOnDrop;
    allocate()
}

/// Disables huge pages, also if [`enable_during`] panics.
struct DisableOnDrop;

impl Drop for DisableOnDrop {
    fn drop(&mut self) {
        set_disabled(true);
    }
}

#[cfg(target_os = "linux")]
fn set_disabled(disabled: bool) {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(disabled) {
        tracing::debug!(
            %error,
            "setting transparent huge pages failed; the kernel's default stays in effect, and the node may use more \
             memory"
        );
    }
}

/// Other systems have no such switch.
#[cfg(not(target_os = "linux"))]
fn set_disabled(_: bool) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn panic_during_the_allocation_disables_huge_pages_again() {
        disable();
        std::panic::catch_unwind(|| enable_during::<()>(|| panic!("the allocation failed"))).unwrap_err();
        // so that no other test enables them meanwhile
        let _guard = ALLOCATING.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(rustix::thread::transparent_huge_pages_are_disabled().unwrap());
    }
}
