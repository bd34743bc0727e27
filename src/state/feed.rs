//! Limits that all subscribers of a node's revocation feed share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::domain::client::ClientId;

/// Subscribers for which streams are read from Redis at the same time; the others wait.
const CONCURRENT_READERS: usize = 4;

/// Counts the subscribers of a node and limits how many of them read from Redis at the same time.
#[derive(Debug)]
pub struct FeedSubscribers {
    seats: Arc<Semaphore>,
    readers: Semaphore,
    max_subscribers: usize,
    per_client: Arc<Mutex<HashMap<ClientId, usize>>>,
    max_per_client: usize,
}

/// Why a subscriber was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// The node has `feed.max_subscribers` subscribers.
    NodeFull,
    /// The client has `feed.max_subscribers_per_client` subscribers on this node.
    ClientFull,
}

/// The seat of a subscriber, free again when dropped.
#[derive(Debug)]
pub(crate) struct FeedSeat {
    _node: OwnedSemaphorePermit,
    _client: ClientSeat,
}

/// A client's subscriber in the count of its client.
#[derive(Debug)]
struct ClientSeat {
    client: ClientId,
    per_client: Arc<Mutex<HashMap<ClientId, usize>>>,
}

impl FeedSubscribers {
    /// Admits at most `max_subscribers` (`feed.max_subscribers`), of which one client has at most `max_per_client`
    /// (`feed.max_subscribers_per_client`).
    pub fn new(max_subscribers: usize, max_per_client: usize) -> Self {
        Self {
            seats: Arc::new(Semaphore::new(max_subscribers)),
            readers: Semaphore::new(CONCURRENT_READERS),
            max_subscribers,
            per_client: Arc::default(),
            max_per_client,
        }
    }

    /// The number of subscribers.
    pub fn count(&self) -> usize {
        self.max_subscribers - self.seats.available_permits().min(self.max_subscribers)
    }

    /// Admits a subscriber of the client until the seat is dropped.
    pub(crate) fn admit(&self, client: &ClientId) -> Result<FeedSeat, NotAdmitted> {
        let client = self.admit_client(client).ok_or(NotAdmitted::ClientFull)?;
        let node = Arc::clone(&self.seats).try_acquire_owned().map_err(|_| NotAdmitted::NodeFull)?;
        Ok(FeedSeat { _node: node, _client: client })
    }

    fn admit_client(&self, client: &ClientId) -> Option<ClientSeat> {
        let mut counts = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(client).copied().unwrap_or_default();
        if count >= self.max_per_client {
            return None;
        }
        counts.insert(client.clone(), count + 1);
        Some(ClientSeat { client: client.clone(), per_client: Arc::clone(&self.per_client) })
    }

    /// Waits until a subscriber may read from Redis.
    pub(crate) async fn reader(&self) -> Option<SemaphorePermit<'_>> {
        self.readers.acquire().await.ok()
    }
}

impl Drop for ClientSeat {
    fn drop(&mut self) {
        let mut counts = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> ClientId {
        ClientId::parse(name).unwrap()
    }

    #[test]
    fn client_at_its_limit_is_refused_while_other_clients_are_admitted() {
        let subscribers = FeedSubscribers::new(3, 2);
        let (billing, search) = (client("billing"), client("search"));
        let first = subscribers.admit(&billing).unwrap();
        let _second = subscribers.admit(&billing).unwrap();
        assert_eq!(subscribers.admit(&billing).unwrap_err(), NotAdmitted::ClientFull);
        let _third = subscribers.admit(&search).unwrap();
        assert_eq!(subscribers.admit(&search).unwrap_err(), NotAdmitted::NodeFull);
        drop(first);
        assert_eq!(subscribers.count(), 2);
        subscribers.admit(&billing).unwrap();
    }

    #[test]
    fn client_without_subscribers_is_not_remembered() {
        let subscribers = FeedSubscribers::new(1, 1);
        let seat = subscribers.admit(&client("billing")).unwrap();
        assert!(subscribers.admit(&client("billing")).is_err());
        assert!(subscribers.admit(&client("search")).is_err(), "the node is full");
        drop(seat);
        assert!(subscribers.per_client.lock().unwrap().is_empty());
    }
}
