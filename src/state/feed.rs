//! The subscribers of a node's revocation feed: their limits, and a fan-out for each core, which sends events to the subscribers of
//! the core.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use hyper::body::Bytes;
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore, SemaphorePermit,
    broadcast::{self, Receiver, Sender, WeakSender},
};

use crate::domain::{client::ClientId, feed::FeedEvent};

/// The number of messages that a fan-out buffers. A subscriber that is further behind gets `Lagged`.
const FAN_OUT_BUFFER: usize = 4096;

/// The number of subscribers for which a node reads streams from Redis at the same time. The others wait.
const CONCURRENT_READERS: usize = 4;

/// Counts the subscribers of a node and limits how many of them read from Redis at the same time.
#[derive(Debug)]
pub struct FeedSubscribers {
    permits: Arc<Semaphore>,
    readers: Semaphore,
    max_subscribers: usize,
    per_client: Arc<Mutex<HashMap<ClientId, usize>>>,
    max_per_client: usize,
    /// The fan-out of each core that has subscribers. The key `None` stands for threads that belong to no core.
    fan_outs: Mutex<HashMap<Option<usize>, WeakSender<FanOutMessage>>>,
}

/// An event of the feed, encoded once for all its subscribers.
#[derive(Debug)]
pub struct SharedEvent {
    event: FeedEvent,
    encoded: OnceLock<Bytes>,
}

impl SharedEvent {
    /// An event that is encoded when a subscriber first needs it.
    pub fn new(event: FeedEvent) -> Self {
        Self { event, encoded: OnceLock::new() }
    }

    /// The event.
    pub fn event(&self) -> &FeedEvent {
        &self.event
    }

    /// The encoded event. Only the `encode` of the first caller runs, so all callers must pass the same encoding.
    pub fn encoded(&self, encode: impl FnOnce(&FeedEvent) -> Vec<u8>) -> Bytes {
        self.encoded.get_or_init(|| encode(&self.event).into()).clone()
    }
}

/// A message to the subscribers of one core.
#[derive(Clone, Debug)]
pub(crate) enum FanOutMessage {
    /// A revocation or a heartbeat.
    Event(Arc<SharedEvent>),
    /// Replaces a heartbeat while this node is not synchronized with Redis.
    NotSynced,
    /// Revocations were lost for good: subscribers must start with a snapshot.
    Lost,
}

/// Why a subscriber was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// The node has `feed.max_subscribers` subscribers.
    NodeFull,
    /// The client has `feed.max_subscribers_per_client` subscribers on this node.
    ClientFull,
}

/// The admission of a subscriber, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct SubscriberPermit {
    _node: OwnedSemaphorePermit,
    _client: ClientPermit,
}

/// One subscriber in the count of its client.
#[derive(Debug)]
struct ClientPermit {
    client: ClientId,
    per_client: Arc<Mutex<HashMap<ClientId, usize>>>,
}

impl FeedSubscribers {
    /// Admits at most `max_subscribers` subscribers (`feed.max_subscribers`), and at most `max_per_client` of one client
    /// (`feed.max_subscribers_per_client`).
    pub fn new(max_subscribers: usize, max_per_client: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(max_subscribers)),
            readers: Semaphore::new(CONCURRENT_READERS),
            max_subscribers,
            per_client: Arc::default(),
            max_per_client,
            fan_outs: Mutex::default(),
        }
    }

    /// The number of subscribers.
    pub fn count(&self) -> usize {
        self.max_subscribers - self.permits.available_permits().min(self.max_subscribers)
    }

    /// Admits a subscriber of the client until the result is dropped.
    pub(crate) fn admit(&self, client: &ClientId) -> Result<SubscriberPermit, NotAdmitted> {
        let client = self.admit_client(client).ok_or(NotAdmitted::ClientFull)?;
        let node = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| NotAdmitted::NodeFull)?;
        Ok(SubscriberPermit { _node: node, _client: client })
    }

    fn admit_client(&self, client: &ClientId) -> Option<ClientPermit> {
        let mut counts = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(client).copied().unwrap_or_default();
        if count >= self.max_per_client {
            return None;
        }
        counts.insert(client.clone(), count + 1);
        Some(ClientPermit { client: client.clone(), per_client: Arc::clone(&self.per_client) })
    }

    /// Subscribes to the fan-out of a core. If the core has none, creates one and passes its sender to `start`. The fan-out lives
    /// until the sender is dropped.
    pub(crate) fn subscribe(
        &self,
        core: Option<usize>,
        start: impl FnOnce(Sender<FanOutMessage>),
    ) -> Receiver<FanOutMessage> {
        let mut fan_outs = self.fan_outs();
        if let Some(sender) = fan_outs.get(&core).and_then(WeakSender::upgrade) {
            return sender.subscribe();
        }
        let (sender, receiver) = broadcast::channel(FAN_OUT_BUFFER);
        fan_outs.insert(core, sender.downgrade());
        start(sender);
        receiver
    }

    /// Removes the fan-out of a core if it has no subscribers. Returns whether it was removed: the caller must then drop the
    /// sender.
    pub(crate) fn end_if_unused(&self, core: Option<usize>, sender: &Sender<FanOutMessage>) -> bool {
        let mut fan_outs = self.fan_outs();
        let is_unused = sender.receiver_count() == 0;
        if is_unused {
            fan_outs.remove(&core);
        }
        is_unused
    }

    fn fan_outs(&self) -> MutexGuard<'_, HashMap<Option<usize>, WeakSender<FanOutMessage>>> {
        self.fan_outs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a subscriber may read from Redis. Returns `None` only if the semaphore was closed, which never happens.
    pub(crate) async fn acquire_reader(&self) -> Option<SemaphorePermit<'_>> {
        self.readers.acquire().await.ok()
    }
}

impl Drop for ClientPermit {
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
    fn event_is_encoded_once() {
        let event = SharedEvent::new(FeedEvent::Gap("missed"));
        let first = event.encoded(|_| b"text".to_vec());
        let second = event.encoded(|_| unreachable!("it is encoded"));
        assert_eq!((first.as_ptr(), second.as_ref()), (second.as_ptr(), b"text".as_slice()));
    }

    #[test]
    fn subscribers_of_a_core_share_a_fan_out_until_there_are_none() {
        let subscribers = FeedSubscribers::new(1, 1);
        let mut senders = Vec::new();
        let one = subscribers.subscribe(Some(0), |sender| senders.push(sender));
        let two = subscribers.subscribe(Some(0), |sender| senders.push(sender));
        let other = subscribers.subscribe(Some(1), |sender| senders.push(sender));
        assert_eq!(senders.len(), 2);
        assert_eq!(senders[0].send(FanOutMessage::Lost).unwrap(), 2);
        assert_eq!((one.len(), two.len(), other.len()), (1, 1, 0));
        drop(one);
        assert!(!subscribers.end_if_unused(Some(0), &senders[0]));
        drop(two);
        assert!(subscribers.end_if_unused(Some(0), &senders[0]));
        let mut next = subscribers.subscribe(Some(0), |sender| senders.push(sender));
        assert_eq!(senders.len(), 3, "a new fan-out was started");
        drop(senders);
        assert!(next.try_recv().is_err_and(|error| error == broadcast::error::TryRecvError::Closed));
        let mut restarted = false;
        subscribers.subscribe(Some(0), |_| restarted = true);
        assert!(restarted, "the sender was dropped");
    }

    #[test]
    fn count_of_a_client_is_removed_with_its_last_subscriber() {
        let subscribers = FeedSubscribers::new(1, 1);
        let permit = subscribers.admit(&client("billing")).unwrap();
        assert!(subscribers.admit(&client("billing")).is_err());
        assert!(subscribers.admit(&client("search")).is_err(), "the node is full");
        drop(permit);
        assert!(subscribers.per_client.lock().unwrap().is_empty());
    }
}
