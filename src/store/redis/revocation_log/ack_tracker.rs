//! Acknowledgements: a request that ends a session is answered once no other node can call the session active any more (I3).
//!
//! [`AckTracker`] keeps the state machine of `ack_state.rs` behind one mutex, sends this node's acknowledgements in batches
//! and lets the callers of [`PendingAck::confirmed`] wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use fred::{
    clients::{Client, Pool},
    interfaces::PubsubInterface,
};
use tokio::sync::{Notify, mpsc};

use super::{
    ack_state::{AckState, ConfirmRequest, NodeName, PeerChange},
    event_entry::Position,
    message::{self, Direct},
    timing::Timing,
};

/// The maximum number of acknowledgements that wait to be sent. If one is dropped, its origin waits for this node's lease to lapse.
const OUTBOX_CAPACITY: usize = 4096;
/// The maximum number of acknowledgements that are sent at a time.
const MAX_BATCH: usize = 256;

/// Tracks the acknowledgements of this node's revocations, and acknowledges the revocations of its peers.
pub(in crate::store::redis) struct AckTracker {
    node: NodeName,
    /// When this node started: the times in pings count from here.
    started: Instant,
    shared: Mutex<Shared>,
    outbox: mpsc::Sender<OutgoingAck>,
    /// The receiver of the outbox; `None` after [`send_acks`] has taken it.
    outgoing: Mutex<Option<mpsc::Receiver<OutgoingAck>>>,
}

#[derive(Default)]
struct Shared {
    state: AckState,
    /// By the number of a revocation: wakes the task that waits for its acknowledgements.
    waiters: HashMap<u64, Arc<Notify>>,
}

/// An acknowledgement that this node sends.
struct OutgoingAck {
    /// The node that waits for the acknowledgement.
    origin: NodeName,
    /// The number that the origin gave the revocation.
    number: u64,
}

/// A revocation that other nodes may not have applied yet. Dropping this value ends the wait.
pub(in crate::store::redis) struct PendingAck<'a> {
    /// The number under which peers acknowledge the revocation. `None` if there were no peers to wait for when [`AckTracker::open`] was
    /// called.
    number: Option<u64>,
    tracker: &'a AckTracker,
}

impl AckTracker {
    /// Creates a tracker for the node of this name, which is different for every start of a process and has no spaces.
    pub(in crate::store::redis) fn new(node: &str) -> Self {
        let (outbox, outgoing) = mpsc::channel(OUTBOX_CAPACITY);
        Self {
            node: node.into(),
            started: Instant::now(),
            shared: Mutex::default(),
            outbox,
            outgoing: Mutex::new(Some(outgoing)),
        }
    }

    /// Sets the durations of the protocol. From now on, the node also waits for peers whose heartbeats it may have missed.
    pub(super) fn configure(&self, timing: Timing) {
        self.lock().state.configure(timing);
    }

    /// Begins to track a revocation: allocates its number, if there are peers. Must be called before the revocation is sent to Redis.
    pub(in crate::store::redis) fn open(&self) -> PendingAck<'_> {
        let mut shared = self.lock();
        let number = shared.state.open(Instant::now());
        if let Some(number) = number {
            shared.waiters.insert(number, Arc::default());
        }
        PendingAck { number, tracker: self }
    }

    /// The number of peers whose leases haven't lapsed.
    pub(super) fn peers(&self) -> usize {
        self.lock().state.peers(Instant::now())
    }

    /// Whether this node receives the messages of other nodes with little delay.
    pub(super) fn channel_is_healthy(&self) -> bool {
        self.lock().state.channel_is_healthy(Instant::now())
    }

    /// The heartbeat message that announces a lease.
    pub(super) fn heartbeat_message(&self, lease: Duration) -> String {
        message::heartbeat(&self.node, lease)
    }

    /// The message of a ping from this node to itself.
    pub(super) fn ping_message(&self) -> String {
        message::ping(self.started.elapsed())
    }

    /// The channel on which other nodes acknowledge this node's revocations.
    pub(super) fn own_channel(&self, channel: &str) -> String {
        message::own_channel(channel, &self.node)
    }

    /// Handles a heartbeat. Returns whether this node should send a heartbeat soon, because the peer is new.
    pub(super) fn on_heartbeat(&self, node: NodeName, lease: Duration) -> bool {
        if node == self.node {
            return false;
        }
        let mut shared = self.lock();
        let change = shared.state.on_heartbeat(node, lease, Instant::now());
        if change == PeerChange::Left {
            shared.wake_all();
        }
        change == PeerChange::Joined
    }

    /// Handles a message on this node's own channel. Returns whether it is the first ping since the channel was
    /// established: this node should send a heartbeat soon.
    pub(super) fn on_direct(&self, message: &str) -> bool {
        let mut shared = self.lock();
        match Direct::parse(message) {
            Some(Direct::Ping(after_start)) => {
                let is_first = shared.state.on_ping(self.started + after_start, Instant::now());
                // A returned ping may show that a pending revocation has no further peers to wait for.
                shared.wake_all();
                is_first
            }
            Some(Direct::Acks { node, numbers }) => {
                for number in numbers {
                    shared.state.on_ack(&node, number);
                    shared.wake(number);
                }
                false
            }
            None => false,
        }
    }

    /// Handles the loss of the channel: messages may have been lost.
    pub(super) fn on_channel_lost(&self) {
        self.lock().state.on_channel_lost();
    }

    /// Handles the answer of Redis to the publication of this node's heartbeat. The heartbeat was sent at `sent` and announced `lease`.
    pub(super) fn on_heartbeat_published(&self, lease: Duration, sent: Instant) {
        self.lock().state.on_heartbeat_published(lease, sent, Instant::now());
    }

    /// The time from which this node may use its cache. `None` while its heartbeats announce no lease.
    pub(super) fn cache_usable_from(&self) -> Option<Instant> {
        self.lock().state.cache_usable_from()
    }

    /// Queues the acknowledgement of a revocation that this node has applied. `sender` is the sender field of the revocation.
    pub(super) fn queue_ack(&self, sender: &str) {
        let Some((origin, number)) = message::parse_origin(sender) else { return };
        if *origin != *self.node {
            // Dropped if the outbox is full: the origin then waits for this node's lease to lapse.
            drop(self.outbox.try_send(OutgoingAck { origin: origin.into(), number }));
        }
    }

    /// Handles a peer's `confirm` request, which is acknowledged once this node has applied the bucket's events up to the position.
    /// `reached` returns the node's position in a bucket. Returns whether the node must synchronize first.
    pub(super) fn on_confirm(&self, request: ConfirmRequest, reached: impl Fn(usize) -> Option<Position>) -> bool {
        if request.origin == self.node {
            return false;
        }
        self.lock().state.on_confirm(request, Instant::now());
        self.send_confirmations(reached)
    }

    /// Acknowledges the `confirm` requests whose positions are reached. Returns whether further requests wait.
    pub(super) fn send_confirmations(&self, reached: impl Fn(usize) -> Option<Position>) -> bool {
        let (confirmed, others_wait) = {
            let mut shared = self.lock();
            let confirmed = shared.state.take_confirmed(reached, Instant::now());
            (confirmed, shared.state.has_deferred())
        };
        for ConfirmRequest { origin, number, .. } in confirmed {
            drop(self.outbox.try_send(OutgoingAck { origin, number }));
        }
        others_wait
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn wake(&self, number: u64) {
        if let Some(waiter) = self.waiters.get(&number) {
            waiter.notify_one();
        }
    }

    fn wake_all(&self) {
        for waiter in self.waiters.values() {
            waiter.notify_one();
        }
    }
}

impl PendingAck<'_> {
    /// The sender field of the revocation: the node and the number to acknowledge. Empty if there are no peers.
    pub(in crate::store::redis) fn origin(&self) -> String {
        self.number.map(|number| format!("{} {number}", self.tracker.node)).unwrap_or_default()
    }

    /// The message that requests an acknowledgement from every peer, once the peer has applied all entries of a bucket up to a position.
    /// None if there are no peers. For revocations that don't carry [`PendingAck::origin`].
    pub(super) fn request(&self, bucket: usize, position: Position) -> Option<String> {
        let origin = Arc::clone(&self.tracker.node);
        self.number.map(|number| message::confirm(&ConfirmRequest { origin, number, bucket, position }))
    }

    /// Waits until every peer has acknowledged, or can't use what it cached before. Must be called after Redis has answered.
    pub(in crate::store::redis) async fn confirmed(self) {
        let answered = Instant::now();
        loop {
            let (until, waiter) = {
                let shared = self.tracker.lock();
                let Some(until) = shared.state.wait_until(self.number, answered, Instant::now()) else { return };
                (until.into(), self.number.and_then(|number| shared.waiters.get(&number).cloned()))
            };
            // A wake-up after the lock was released is not lost: the waiter keeps it until `notified` is called.
            match waiter {
                Some(waiter) => drop(tokio::time::timeout_at(until, waiter.notified()).await),
                None => tokio::time::sleep_until(until).await,
            }
        }
    }
}

impl Drop for PendingAck<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let mut shared = self.tracker.lock();
            shared.state.close(number);
            shared.waiters.remove(&number);
        }
    }
}

/// Sends queued acknowledgements until the task is aborted. The queued acknowledgements for a node go into one message.
pub(super) async fn send_acks(tracker: Arc<AckTracker>, pool: Pool, channel: String) {
    let outgoing = tracker.outgoing.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut outgoing) = outgoing else { return };
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while outgoing.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let mut by_origin: HashMap<NodeName, String> = HashMap::new();
        for OutgoingAck { origin, number } in batch.drain(..) {
            let message = by_origin.entry(origin).or_insert_with(|| tracker.node.to_string());
            message.push(' ');
            message.push_str(&number.to_string());
        }
        for (origin, message) in by_origin {
            publish(pool.next(), &message::own_channel(&channel, &origin), message).await;
        }
    }
}

/// Publishes a message. Returns whether Redis did so.
pub(super) async fn publish(client: &Client, channel: &str, message: String) -> bool {
    // Boxed: fred's futures have several kilobytes, which would be moved with the futures of all callers.
    match Box::pin(client.publish::<(), _, _>(channel, message)).await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(
                %error,
                channel,
                "publishing to the revocation channel failed: sign-outs may take up to cache.max_staleness"
            );
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lease that does not lapse in a test.
    const LEASE: Duration = Duration::from_secs(100);

    #[tokio::test]
    async fn pending_ack_is_confirmed_once_all_peers_acknowledged() {
        let tracker = AckTracker::new("one");
        let are_new = ["two", "three", "two", "one"].map(|node| tracker.on_heartbeat(node.into(), LEASE));
        assert_eq!(are_new, [true, true, false, false], "two has joined before, and one is this node");
        assert_eq!(tracker.peers(), 2);
        let (first, second) = (tracker.open(), tracker.open());
        assert_eq!(first.origin(), "one 0");
        assert_eq!(second.origin(), "one 1");
        let mut first = Box::pin(first.confirmed());
        // An acknowledgement has the name of the sender and the numbers of revocations. This node has no revocation 77.
        tracker.on_direct("two 0 1");
        tracker.on_direct("three 1 77");
        assert!(futures_util::poll!(&mut first).is_pending());
        second.confirmed().await;
        tracker.on_direct("three 0");
        first.await;
        assert!(tracker.lock().waiters.is_empty());
    }

    #[tokio::test]
    async fn pending_ack_is_confirmed_when_the_peer_leaves_or_lapses() {
        let tracker = AckTracker::new("one");
        tracker.on_heartbeat("two".into(), LEASE);
        let mut pending = Box::pin(tracker.open().confirmed());
        assert!(futures_util::poll!(&mut pending).is_pending());
        // a peer that shuts down announces no lease
        tracker.on_heartbeat("two".into(), Duration::ZERO);
        pending.await;
        // a lease that lapses during the wait
        tracker.on_heartbeat("two".into(), Duration::from_millis(5));
        tracker.open().confirmed().await;
        assert_eq!(tracker.peers(), 0);
        assert_eq!(tracker.open().origin(), "");
        assert_eq!(tracker.open().request(0, Position::default()), None);
    }

    #[tokio::test]
    async fn acks_are_queued_for_well_formed_senders_of_other_nodes_only() {
        let tracker = AckTracker::new("one");
        // the node itself, no sender, a malformed number, and another node
        for sender in ["one 1", "", "two x", "two 7"] {
            tracker.queue_ack(sender);
        }
        let mut outgoing = tracker.outgoing.lock().unwrap().take().unwrap();
        let ack = outgoing.recv().await.unwrap();
        assert_eq!(ack.origin.as_ref(), "two");
        assert_eq!(ack.number, 7);
        assert!(outgoing.try_recv().is_err(), "a further acknowledgement is queued");
    }

    #[tokio::test]
    async fn confirmation_is_sent_once_the_position_is_reached() {
        let tracker = AckTracker::new("one");
        tracker.configure(Timing::new(LEASE));
        let position = Position { millis: 7, number: 0 };
        let request = |origin: &str| ConfirmRequest { origin: origin.into(), number: 3, bucket: 1, position };
        let must_synchronize = tracker.on_confirm(request("one"), |_| None);
        assert!(!must_synchronize, "a node's own request");
        let must_synchronize = tracker.on_confirm(request("two"), |_| None);
        assert!(must_synchronize);
        let others_wait = tracker.send_confirmations(|_| Some(position));
        assert!(!others_wait);
        let mut outgoing = tracker.outgoing.lock().unwrap().take().unwrap();
        let ack = outgoing.recv().await.unwrap();
        assert_eq!(ack.origin.as_ref(), "two");
        assert_eq!(ack.number, 3);
        // With a peer, this node's own requests have a number.
        tracker.on_heartbeat("two".into(), LEASE);
        let request = tracker.open().request(1, position);
        assert_eq!(request.as_deref(), Some("confirm one 0 1 7-0"), "node, number, bucket, position");
    }

    #[test]
    fn returned_ping_makes_the_channel_healthy_until_it_is_lost() {
        let tracker = AckTracker::new("one");
        tracker.configure(Timing::new(LEASE));
        assert!(!tracker.channel_is_healthy());
        let is_first_ping = tracker.on_direct(&tracker.ping_message());
        assert!(is_first_ping);
        let is_first_ping = tracker.on_direct(&tracker.ping_message());
        assert!(!is_first_ping);
        assert!(tracker.channel_is_healthy());
        tracker.on_channel_lost();
        assert!(!tracker.channel_is_healthy());
    }
}
