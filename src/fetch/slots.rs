//! Limits the concurrent requests that a node sends: by purpose, so that slow hosts of one purpose don't delay requests of the
//! other, and by host.

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

/// The limits, and the requests in progress.
pub(super) struct Slots {
    authorization: Semaphore,
    client_authentication: Semaphore,
    /// Has no entry for a host without requests in progress, so the number of hosts is bounded.
    by_host: Mutex<HashMap<(FetchPurpose, String), usize>>,
}

/// A request in progress. Its slot is free again when this value is dropped.
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    purpose_and_host: (FetchPurpose, String),
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
        let purpose_and_host = (purpose, host.to_owned());
        let mut by_host = self.lock_by_host();
        let count = by_host.entry(purpose_and_host.clone()).or_default();
        if *count >= MAX_PER_HOST {
            return None;
        }
        *count += 1;
        Some(Slot { slots: self, purpose_and_host, _permit: permit })
    }

    fn lock_by_host(&self) -> MutexGuard<'_, HashMap<(FetchPurpose, String), usize>> {
        self.by_host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut by_host = self.slots.lock_by_host();
        if let Some(count) = by_host.get_mut(&self.purpose_and_host) {
            *count -= 1;
            if *count == 0 {
                by_host.remove(&self.purpose_and_host);
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
    fn requests_for_a_purpose_to_a_host_are_limited() {
        let slots = Slots::new();
        let mut taken: Vec<_> =
            (0..MAX_PER_HOST).map(|_| slots.try_take(Authorization, "a.example").unwrap()).collect();
        assert!(slots.try_take(Authorization, "a.example").is_none());
        assert!(slots.try_take(Authorization, "b.example").is_some());
        assert!(slots.try_take(ClientAuthentication, "a.example").is_some());
        drop(taken.pop());
        assert!(slots.try_take(Authorization, "a.example").is_some());
        taken.clear();
        assert!(slots.lock_by_host().is_empty());
    }

    #[test]
    fn requests_for_client_authentication_leave_the_slots_of_authorization_requests_free() {
        let slots = Slots::new();
        // Each request goes to another host, so only the limit of the purpose applies.
        let take = |purpose, number: usize| slots.try_take(purpose, &format!("{number}.example"));
        let attempts = MAX_CONCURRENT + 1;
        let taken: Vec<_> = (0..attempts).filter_map(|number| take(ClientAuthentication, number)).collect();
        assert_eq!(taken.len(), MAX_CONCURRENT);
        let other_purpose: Vec<_> = (0..attempts).filter_map(|number| take(Authorization, number)).collect();
        assert_eq!(other_purpose.len(), MAX_CONCURRENT);
    }
}
