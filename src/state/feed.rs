//! The subscribers of a node's revocation feed: their limits, and a fan-out for each core, which sends events to the subscribers of
//! the core.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use hyper::body::Bytes;
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore, SemaphorePermit,
        broadcast::{self, Receiver, Sender},
    },
    time::Instant,
};

use crate::domain::{client::ClientId, feed::FeedEvent};

/// The number of messages that a fan-out buffers. A receiver that is further behind gets the error `Lagged` of tokio's channel.
const FAN_OUT_BUFFER: usize = 4096;

/// The number of subscribers for which a node reads streams from Redis at the same time. The others wait.
const CONCURRENT_READERS: usize = 4;

/// Counts the subscribers of a node and limits how many of them read from Redis at the same time.
#[derive(Debug)]
pub struct FeedSubscribers {
    /// A permit for each subscriber that the node can still admit.
    permits: Arc<Semaphore>,
    /// [`CONCURRENT_READERS`] permits.
    readers: Semaphore,
    max_subscribers: usize,
    /// The number of subscribers of each client that has any.
    per_client: Arc<Mutex<HashMap<ClientId, usize>>>,
    max_per_client: usize,
    /// The fan-out of each core that has subscribers. The key `None` stands for threads that belong to no core.
    channels: Mutex<HashMap<Option<usize>, Weak<FanOutChannel>>>,
}

/// An event of the feed, encoded once for all its subscribers.
#[derive(Debug)]
pub struct SharedEvent {
    event: FeedEvent,
    encoded: OnceLock<EncodedEvent>,
}

/// An encoded event: a chunk of an HTTP/1.1 body, and the text in it.
#[derive(Debug)]
pub struct EncodedEvent {
    /// The text as a chunk (RFC 9112, section 7.1).
    pub chunk: Bytes,
    /// The text.
    pub text: Bytes,
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
    pub fn encoded(&self, encode: impl FnOnce(&FeedEvent) -> EncodedEvent) -> &EncodedEvent {
        self.encoded.get_or_init(|| encode(&self.event))
    }
}

/// Events that are written to a subscriber at once.
#[derive(Debug)]
pub struct EventBatch {
    events: Vec<Arc<SharedEvent>>,
    chunks: OnceLock<Bytes>,
}

impl EventBatch {
    /// A batch of events, in their order.
    pub fn new(events: Vec<Arc<SharedEvent>>) -> Self {
        Self { events, chunks: OnceLock::new() }
    }

    /// The chunks of all events in one buffer, which all subscribers share. As for [`SharedEvent::encoded`], all callers must pass the same
    /// encoding.
    pub fn chunks(&self, encode: impl Fn(&FeedEvent) -> EncodedEvent) -> &Bytes {
        self.chunks.get_or_init(|| match &*self.events {
            // shares the bytes of the event
            [event] => event.encoded(encode).chunk.clone(),
            events => {
                let chunks: Vec<_> = events.iter().map(|event| event.encoded(&encode).chunk.clone()).collect();
                chunks.concat().into()
            }
        })
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

/// A subscriber that the fan-out calls with events. It has no receiver: waking its task for each event would cost a third of a
/// delivery.
pub(crate) trait AttachedSubscriber: Send + Sync {
    /// The client that subscribed.
    fn client(&self) -> &ClientId;

    /// Sends events without waiting. Returns false if the subscriber must be detached, because it reads too slowly at the
    /// moment or has ended; it keeps the unsent rest of the events.
    fn try_send(&self, events: &EventBatch) -> bool;

    /// Detaches the subscriber. The receiver gets the messages after the last one that the subscriber was sent.
    fn detach(&self, receiver: DetachedReceiver);
}

/// The receiver of a detached subscriber.
pub(crate) struct DetachedReceiver {
    /// The messages after those that were sent while the subscriber was attached.
    pub messages: Receiver<FanOutMessage>,
    /// The time of the last heartbeat before these messages.
    pub last_heartbeat_at: Instant,
}

/// The subscribers of a core that are attached to its fan-out.
pub(crate) type AttachedSubscribers = Vec<Weak<dyn AttachedSubscriber>>;

/// The channel of a core's fan-out. Only the fan-out sends messages on it, while it holds the lock of `attaching`.
pub(crate) struct FanOutChannel {
    /// Sends to the subscribers that are not attached.
    pub sender: Sender<FanOutMessage>,
    /// See [`Self::lock_attaching`].
    attaching: Mutex<Option<AttachedSubscribers>>,
}

impl FanOutChannel {
    /// The subscribers that have attached since the last message; `None` when the fan-out has ended. No subscriber attaches until
    /// the result is dropped.
    pub(crate) fn lock_attaching(&self) -> MutexGuard<'_, Option<AttachedSubscribers>> {
        self.attaching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for FanOutChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FanOutChannel").field("sender", &self.sender).finish_non_exhaustive()
    }
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
            channels: Mutex::default(),
        }
    }

    /// The number of subscribers.
    pub fn count(&self) -> usize {
        self.max_subscribers.saturating_sub(self.permits.available_permits())
    }

    /// Admits a subscriber of the client until the permit is dropped.
    pub(crate) fn admit(&self, client: &ClientId) -> Result<SubscriberPermit, NotAdmitted> {
        // given back if the node is full
        let client_permit = self.admit_client(client).ok_or(NotAdmitted::ClientFull)?;
        let node_permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| NotAdmitted::NodeFull)?;
        Ok(SubscriberPermit { _node: node_permit, _client: client_permit })
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

    /// Subscribes to the fan-out of a core. If the core has none, creates one and passes its channel to `start`. The fan-out lives
    /// until the channel is dropped.
    pub(crate) fn subscribe(
        &self,
        core: Option<usize>,
        start: impl FnOnce(Arc<FanOutChannel>),
    ) -> Receiver<FanOutMessage> {
        let mut channels = self.channels();
        if let Some(channel) = channels.get(&core).and_then(Weak::upgrade) {
            return channel.sender.subscribe();
        }
        let (sender, receiver) = broadcast::channel(FAN_OUT_BUFFER);
        let channel = Arc::new(FanOutChannel { sender, attaching: Mutex::new(Some(Vec::new())) });
        channels.insert(core, Arc::downgrade(&channel));
        start(channel);
        receiver
    }

    /// Attaches a subscriber to the fan-out of a core, in place of its receiver. Does nothing and returns false if the fan-out has
    /// ended, or if `is_receiver_empty` returns false. No message is sent during that call.
    pub(crate) fn attach(
        &self,
        core: Option<usize>,
        subscriber: Weak<dyn AttachedSubscriber>,
        is_receiver_empty: impl FnOnce() -> bool,
    ) -> bool {
        let Some(channel) = self.channels().get(&core).and_then(Weak::upgrade) else { return false };
        let mut guard = channel.lock_attaching();
        let Some(attaching) = guard.as_mut() else { return false };
        if !is_receiver_empty() {
            return false;
        }
        attaching.push(subscriber);
        true
    }

    /// Removes the fan-out of a core if no receiver and no newly attached subscriber is left. The caller, which is the fan-out itself, has
    /// no attached subscribers. Returns whether it was removed: the fan-out must then end, which drops the channel.
    pub(crate) fn end_if_unused(&self, core: Option<usize>, channel: &FanOutChannel) -> bool {
        let mut channels = self.channels();
        let has_receivers = channel.sender.receiver_count() > 0;
        let is_unused = !has_receivers && channel.lock_attaching().as_ref().is_none_or(Vec::is_empty);
        if is_unused {
            channels.remove(&core);
        }
        is_unused
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<Option<usize>, Weak<FanOutChannel>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
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
            // a client without subscribers takes no memory
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
        let (max_subscribers, max_per_client) = (3, 2);
        let subscribers = FeedSubscribers::new(max_subscribers, max_per_client);
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
        let encode = |_: &FeedEvent| EncodedEvent { chunk: "4\r\ntext\r\n".into(), text: "text".into() };
        let first = event.encoded(encode);
        let second = event.encoded(|_| unreachable!("it is encoded"));
        assert_eq!(&first.text[..], b"text");
        assert_eq!(first.text.as_ptr(), second.text.as_ptr());
    }

    #[test]
    fn subscribers_of_a_core_share_a_fan_out_until_there_are_none() {
        // the limits do not matter: this test admits nobody
        let subscribers = FeedSubscribers::new(1, 1);
        let mut channels = Vec::new();
        let one = subscribers.subscribe(Some(0), |channel| channels.push(channel));
        let two = subscribers.subscribe(Some(0), |channel| channels.push(channel));
        let other = subscribers.subscribe(Some(1), |channel| channels.push(channel));
        assert_eq!(channels.len(), 2, "a channel of core 0 and one of core 1");
        channels[0].sender.send(FanOutMessage::Lost).unwrap();
        assert_eq!([one.len(), two.len(), other.len()], [1, 1, 0], "messages received");
        drop(one);
        assert!(!subscribers.end_if_unused(Some(0), &channels[0]));
        drop(two);
        assert!(subscribers.end_if_unused(Some(0), &channels[0]));
        let mut next = subscribers.subscribe(Some(0), |channel| channels.push(channel));
        assert_eq!(channels.len(), 3, "a new fan-out was started");
        // a fan-out that ends in another way, such as by a panic, drops its channel
        drop(channels);
        assert_eq!(next.try_recv().unwrap_err(), broadcast::error::TryRecvError::Closed);
        let mut is_restarted = false;
        subscribers.subscribe(Some(0), |_| is_restarted = true);
        assert!(is_restarted);
    }

    #[test]
    fn count_of_a_client_is_removed_with_its_last_subscriber() {
        let (max_subscribers, max_per_client) = (1, 1);
        let subscribers = FeedSubscribers::new(max_subscribers, max_per_client);
        let permit = subscribers.admit(&client("billing")).unwrap();
        assert!(subscribers.admit(&client("billing")).is_err());
        assert!(subscribers.admit(&client("search")).is_err(), "the node is full");
        drop(permit);
        assert!(subscribers.per_client.lock().unwrap().is_empty());
    }
}
