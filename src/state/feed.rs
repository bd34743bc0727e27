//! Limits that all subscribers of a node's revocation feed share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Subscribers for which streams are read from Redis at the same time; the others wait.
const CONCURRENT_READERS: usize = 4;

/// Counts the subscribers of a node and limits how many of them read from Redis at the same time.
#[derive(Debug)]
pub struct FeedSubscribers {
    seats: Arc<Semaphore>,
    readers: Semaphore,
    max_subscribers: usize,
}

impl FeedSubscribers {
    /// Admits at most `max_subscribers` (`feed.max_subscribers`).
    pub fn new(max_subscribers: usize) -> Self {
        Self {
            seats: Arc::new(Semaphore::new(max_subscribers)),
            readers: Semaphore::new(CONCURRENT_READERS),
            max_subscribers,
        }
    }

    /// The number of subscribers.
    pub fn count(&self) -> usize {
        self.max_subscribers - self.seats.available_permits().min(self.max_subscribers)
    }

    /// Admits a subscriber until the permit is dropped; none if there are as many as allowed.
    pub(crate) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.seats).try_acquire_owned().ok()
    }

    /// Waits until a subscriber may read from Redis.
    pub(crate) async fn reader(&self) -> Option<SemaphorePermit<'_>> {
        self.readers.acquire().await.ok()
    }
}
