//! Limits concurrent requests: by purpose, so that slow hosts of one purpose don't delay the other, and by host.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::FetchPurpose;

/// The maximum number of concurrent requests for a purpose.
const MAX_CONCURRENT: usize = 16;
/// The maximum number of concurrent requests to a host for one purpose.
const MAX_PER_HOST: usize = 4;

/// Counts the requests in progress.
pub(super) struct Slots {
    authorization: Semaphore,
    client_authentication: Semaphore,
    by_host: Mutex<HashMap<(FetchPurpose, String), usize>>,
}

/// A request in progress. Its slot is free again when this value is dropped.
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    target: (FetchPurpose, String),
    _permit: SemaphorePermit<'a>,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self {
            authorization: Semaphore::new(MAX_CONCURRENT),
            client_authentication: Semaphore::new(MAX_CONCURRENT),
            by_host: Mutex::default(),
        }
    }

    /// Takes a slot for a request to a host; `None` if the purpose or the host has no free one.
    pub(super) fn try_take(&self, purpose: FetchPurpose, host: &str) -> Option<Slot<'_>> {
        let semaphore = match purpose {
            FetchPurpose::Authorization => &self.authorization,
            FetchPurpose::ClientAuthentication => &self.client_authentication,
        };
        let permit = semaphore.try_acquire().ok()?;
        let target = (purpose, host.to_owned());
        let mut by_host = self.by_host();
        let count = by_host.entry(target.clone()).or_default();
        if *count >= MAX_PER_HOST {
            return None;
        }
        *count += 1;
        Some(Slot { slots: self, target, _permit: permit })
    }

    fn by_host(&self) -> MutexGuard<'_, HashMap<(FetchPurpose, String), usize>> {
        self.by_host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut by_host = self.slots.by_host();
        if let Some(count) = by_host.get_mut(&self.target) {
            *count -= 1;
            if *count == 0 {
                by_host.remove(&self.target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        FetchPurpose::{Authorization, ClientAuthentication},
        *,
    };

    #[test]
    fn host_has_four_concurrent_requests_for_a_purpose_at_most() {
        let slots = Slots::new();
        let mut taken: Vec<_> = (0..MAX_PER_HOST).filter_map(|_| slots.try_take(Authorization, "a.example")).collect();
        assert_eq!(taken.len(), MAX_PER_HOST);
        assert!(slots.try_take(Authorization, "a.example").is_none());
        assert!(slots.try_take(Authorization, "b.example").is_some());
        assert!(slots.try_take(ClientAuthentication, "a.example").is_some());
        taken.pop();
        assert!(slots.try_take(Authorization, "a.example").is_some());
        taken.clear();
        assert!(slots.by_host().is_empty());
    }

    #[test]
    fn requests_for_client_authentication_leave_the_slots_of_authorization_requests_free() {
        let slots = Slots::new();
        let take = |purpose, number: usize| slots.try_take(purpose, &format!("{number}.example"));
        let taken: Vec<_> = (0..100).filter_map(|number| take(ClientAuthentication, number)).collect();
        assert_eq!(taken.len(), MAX_CONCURRENT);
        assert!(take(ClientAuthentication, 100).is_none());
        let free: Vec<_> = (0..100).filter_map(|number| take(Authorization, number)).collect();
        assert_eq!(free.len(), MAX_CONCURRENT);
    }
}
