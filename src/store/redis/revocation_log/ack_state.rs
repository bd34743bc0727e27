//! State machine of the acknowledgements: how long the node that ended a session waits for its peers (I3: once a revocation is answered,
//! no node accepts the session). A peer's *lease* is how long it may use its session cache after a heartbeat.
//!
//! The functions in this file do no I/O: the caller passes `now`, sends the messages and waits (`ack_tracker.rs`). The model in `model/`
//! checks these transitions for I3. docs/architecture.md describes the protocol.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{event_entry::Position, timing::Timing};

/// The maximum number of tracked peers. While there are more, the node also waits until the leases of the
/// untracked peers have lapsed.
const MAX_PEERS: usize = 1024;

/// The maximum number of `confirm` requests that wait for this node to catch up. If a request is dropped, its origin waits
/// as long as for a node that does not answer.
const MAX_DEFERRED: usize = 4096;

/// The name of a node on the channel, different for every start of a process.
pub(super) type NodeName = Arc<str>;

/// The peers of a node, the health of its channel, and the revocations that await acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct AckState {
    /// The durations of the protocol; `None` while this node doesn't follow the revocation log, or no node caches sessions.
    timing: Option<Timing>,
    peers: BTreeMap<NodeName, Peer>,
    /// The time until which peers beyond [`MAX_PEERS`] may use their caches.
    untracked_until: Option<Instant>,
    /// By number: the revocations that this node waits for, with the peers that have acknowledged each.
    pending: BTreeMap<u64, BTreeSet<NodeName>>,
    /// The number of the next revocation.
    next_number: u64,
    /// The health of the channel; `None` at first and after each loss, until a ping has returned.
    channel: Option<ChannelHealth>,
    /// The heartbeats of this node; `None` unless the last one announced a lease.
    announced: Option<Announced>,
    /// Requests of peers that this node can't confirm yet.
    deferred: Vec<Deferred>,
}

/// A node that sends heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Peer {
    /// The lease that its last heartbeat announced.
    lease: Duration,
    /// When the lease lapses.
    until: Instant,
}

/// Evidence that this node receives the messages of the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ChannelHealth {
    /// When the first ping since the channel was established returned.
    first_received: Instant,
    /// When the newest returned ping was sent: everything published before has arrived.
    last_sent: Instant,
}

/// The heartbeats that this node has sent without a long pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Announced {
    /// When Redis' answer to the first heartbeat arrived.
    first_published: Instant,
    /// When the last heartbeat was sent.
    last_sent: Instant,
}

/// A request to acknowledge a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConfirmRequest {
    /// The node that waits for the acknowledgement.
    pub(super) origin: NodeName,
    /// The number that the origin gave the revocation.
    pub(super) number: u64,
    /// The bucket: a group of accounts, whose events are one stream.
    pub(super) bucket: usize,
    /// The id of the event up to which the peer must first have applied the bucket's stream.
    pub(super) position: Position,
}

/// A request that waits for this node to catch up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Deferred {
    request: ConfirmRequest,
    /// When the origin has stopped waiting.
    expires: Instant,
}

/// The change that a heartbeat caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerChange {
    /// The peer is new: it should learn of this node soon.
    Joined,
    /// The peer has renewed its lease.
    Extended,
    /// The peer doesn't use its cache any more, so no revocation waits for it.
    Left,
}

impl AckState {
    /// Sets the durations of the protocol. From now on, the node also waits for peers whose heartbeats it may have missed.
    pub(super) fn configure(&mut self, timing: Timing) {
        self.timing = Some(timing);
    }

    /// Handles a peer's heartbeat.
    pub(super) fn on_heartbeat(&mut self, peer: NodeName, lease: Duration, now: Instant) -> PeerChange {
        // A known sender stays even if its lease has lapsed: it does not join again.
        self.peers.retain(|name, other| *name == peer || now < other.until);
        if lease.is_zero() {
            self.peers.remove(&peer);
            return PeerChange::Left;
        }
        let until = now + lease;
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer) {
            self.untracked_until = self.untracked_until.max(Some(until));
            // Not `Joined`: the peer is not remembered, so each of its heartbeats would count as the first.
            return PeerChange::Extended;
        }
        match self.peers.insert(peer, Peer { lease, until }) {
            Some(_) => PeerChange::Extended,
            None => PeerChange::Joined,
        }
    }

    /// Handles a returned ping, which this node sent to itself at `sent`. Returns whether it is the first since the channel was
    /// established.
    pub(super) fn on_ping(&mut self, sent: Instant, now: Instant) -> bool {
        if let Some(health) = &mut self.channel {
            health.last_sent = health.last_sent.max(sent);
            return false;
        }
        self.channel = Some(ChannelHealth { first_received: now, last_sent: sent });
        true
    }

    /// Handles the loss of the channel: messages may have been lost, heartbeats of peers among them.
    pub(super) fn on_channel_lost(&mut self) {
        self.channel = None;
    }

    /// Whether this node receives the messages of other nodes with little delay.
    pub(super) fn channel_is_healthy(&self, now: Instant) -> bool {
        let Some((timing, health)) = self.timing.zip(self.channel) else { return false };
        health.last_sent + timing.max_channel_lag() >= now
    }

    /// Handles the answer of Redis that it has published this node's heartbeat, which was sent at `sent`.
    pub(super) fn on_heartbeat_published(&mut self, lease: Duration, sent: Instant, now: Instant) {
        let Some(timing) = self.timing.filter(|_| !lease.is_zero()) else {
            self.announced = None;
            return;
        };
        // After a longer pause, a new probation begins, in which the node sends heartbeats and does not use its cache.
        let unbroken = self.announced.filter(|announced| now <= announced.last_sent + timing.max_heartbeat_gap());
        let first_published = unbroken.map_or(now, |announced| announced.first_published);
        self.announced = Some(Announced { first_published, last_sent: sent });
    }

    /// The time from which this node may use its cache; `None` while its heartbeats announce no lease.
    pub(super) fn cache_usable_from(&self) -> Option<Instant> {
        let (timing, announced) = self.timing.zip(self.announced)?;
        Some(announced.first_published + timing.probation())
    }

    /// The number of peers whose leases haven't lapsed.
    pub(super) fn peers(&self, now: Instant) -> usize {
        self.peers.values().filter(|peer| now < peer.until).count()
    }

    /// Allocates the number under which peers acknowledge a revocation; `None` if there are no peers to wait for.
    pub(super) fn open(&mut self, now: Instant) -> Option<u64> {
        let no_number = None;
        self.wait_until(no_number, now, now)?;
        let number = self.next_number;
        self.next_number += 1;
        self.pending.insert(number, BTreeSet::new());
        Some(number)
    }

    /// Removes a number: no request waits for its acknowledgements any more.
    pub(super) fn close(&mut self, number: u64) {
        self.pending.remove(&number);
    }

    /// Handles an acknowledgement: a peer has applied the revocation with this number.
    pub(super) fn on_ack(&mut self, peer: &NodeName, number: u64) {
        if let Some(acknowledged) = self.pending.get_mut(&number) {
            acknowledged.insert(Arc::clone(peer));
        }
    }

    /// The time until which the node waits for peers that haven't acknowledged a revocation. `None` if none of these peers can still use a
    /// cache from before the revocation. `since` is the time at which Redis' answer to the revocation arrived. Without a `number` from
    /// [`AckState::open`], no acknowledgement counts.
    pub(super) fn wait_until(&self, number: Option<u64>, since: Instant, now: Instant) -> Option<Instant> {
        let acknowledged = number.and_then(|number| self.pending.get(&number));
        let has_acknowledged = |name| acknowledged.is_some_and(|names| names.contains(name));
        // A ping that was sent after the revocation has returned, so no heartbeat from before the revocation is on its way.
        let heartbeats_have_arrived = self.channel.is_some_and(|health| health.last_sent > since);
        let awaited = self.peers.iter().filter(|(name, peer)| since < peer.until && !has_acknowledged(*name));
        let deadlines = awaited.map(|(_, peer)| {
            // If the peer uses its cache beyond this time, its last synchronization began after the revocation, and found it.
            let longest = since + peer.lease;
            if heartbeats_have_arrived { peer.until.min(longest) } else { longest }
        });
        deadlines.chain(self.unseen_until(since)).filter(|until| now < *until).max()
    }

    /// The time until which peers that this node may not know can use sessions that they cached before `since`.
    fn unseen_until(&self, since: Instant) -> Option<Instant> {
        let timing = self.timing?;
        let lease = timing.announced_lease();
        let was_healthy = |health: &ChannelHealth| health.last_sent + timing.max_channel_lag() >= since;
        let longest = since + lease;
        let until = match self.channel.filter(was_healthy) {
            // The channel was established a lease before `since`: a heartbeat of every peer that uses its cache has arrived.
            Some(health) if since >= health.first_received + lease => since,
            // No heartbeat is on its way. Heartbeats may have been missed only before the channel was established.
            Some(health) if health.last_sent > since => longest.min(health.first_received + lease),
            // A heartbeat may be on its way, or the channel is lost or silent.
            _ => longest,
        };
        Some(self.untracked_until.map_or(until, |untracked| until.max(untracked.min(longest))))
    }

    /// Defers a peer's request until [`AckState::take_confirmed`] returns it.
    pub(super) fn on_confirm(&mut self, request: ConfirmRequest, now: Instant) {
        if self.deferred.len() < MAX_DEFERRED {
            let lease = self.timing.map_or(Duration::ZERO, Timing::announced_lease);
            self.deferred.push(Deferred { request, expires: now + lease });
        }
    }

    /// Takes the requests that this node can confirm, and drops expired ones. `reached` returns the node's position in a bucket.
    pub(super) fn take_confirmed(
        &mut self,
        reached: impl Fn(usize) -> Option<Position>,
        now: Instant,
    ) -> Vec<ConfirmRequest> {
        let is_reached =
            |wanted: &ConfirmRequest| reached(wanted.bucket).is_some_and(|position| position >= wanted.position);
        let taken = self.deferred.extract_if(.., |deferred| is_reached(&deferred.request));
        let taken = taken.map(|deferred| deferred.request).collect();
        self.deferred.retain(|deferred| now < deferred.expires);
        taken
    }

    /// Whether requests wait for this node to catch up.
    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    struct Node {
        state: AckState,
        now: Instant,
    }

    impl Node {
        fn new() -> Self {
            let mut state = AckState::default();
            state.configure(Timing::new(LEASE));
            Self { state, now: Instant::now() }
        }

        /// A node whose channel was established a lease ago, so it knows every peer that uses its cache.
        fn established() -> Self {
            let mut node = Self::new();
            node.ping();
            node.advance(LEASE);
            node.ping();
            node
        }

        fn advance(&mut self, time: Duration) {
            self.now += time;
        }

        /// Sends a ping, which returns at once. Returns whether it is the first since the channel was established.
        fn ping(&mut self) -> bool {
            self.state.on_ping(self.now, self.now)
        }

        fn heartbeat(&mut self, peer: &str, lease: Duration) -> PeerChange {
            self.state.on_heartbeat(peer.into(), lease, self.now)
        }

        /// How much longer the node waits.
        fn wait(&self, number: Option<u64>, since: Instant) -> Duration {
            self.state.wait_until(number, since, self.now).map_or(Duration::ZERO, |until| until - self.now)
        }

        /// How long the node waits for a revocation of this moment that no peer can acknowledge.
        fn wait_without_number(&self) -> Duration {
            self.wait(None, self.now)
        }
    }

    #[test]
    fn node_without_peers_does_not_wait() {
        let mut node = Node::established();
        assert_eq!(node.state.open(node.now), None);
        assert_eq!(node.wait_without_number(), Duration::ZERO);
    }

    #[test]
    fn peer_is_waited_for_until_it_acknowledges() {
        let mut node = Node::established();
        assert_eq!(node.heartbeat("two", LEASE), PeerChange::Joined);
        assert_eq!(node.heartbeat("three", LEASE), PeerChange::Joined);
        assert_eq!(node.heartbeat("two", LEASE), PeerChange::Extended);
        assert_eq!(node.state.peers(node.now), 2);
        assert_eq!(node.state.open(node.now), Some(0));
        assert_eq!(node.state.open(node.now), Some(1));
        node.state.on_ack(&"two".into(), 0);
        // An acknowledgement of an unknown number has no effect.
        node.state.on_ack(&"three".into(), 77);
        assert_eq!(node.wait(Some(0), node.now), LEASE);
        node.state.on_ack(&"three".into(), 0);
        assert_eq!(node.wait(Some(0), node.now), Duration::ZERO);
        assert_eq!(node.wait(Some(1), node.now), LEASE);
        node.state.close(1);
        assert!(!node.state.pending.contains_key(&1));
    }

    #[test]
    fn silent_peer_is_waited_for_until_its_lease_lapses() {
        let mut node = Node::established();
        node.heartbeat("two", LEASE);
        node.advance(LEASE / 10);
        node.ping();
        let number = node.state.open(node.now);
        let since = node.now;
        assert_eq!(node.wait(number, since), LEASE, "a heartbeat may be on its way");
        node.advance(LEASE / 10);
        node.ping();
        let rest_of_lease = LEASE * 8 / 10;
        assert_eq!(node.wait(number, since), rest_of_lease, "no heartbeat was on its way");
        node.heartbeat("two", LEASE);
        let rest_of_longest_wait = LEASE * 9 / 10;
        assert_eq!(
            node.wait(number, since),
            rest_of_longest_wait,
            "a later lease does not extend the use of the earlier cache"
        );
        node.advance(LEASE * 9 / 10);
        assert_eq!(node.wait(number, since), Duration::ZERO);
        node.advance(LEASE);
        assert_eq!(node.state.peers(node.now), 0);
    }

    #[test]
    fn peer_that_leaves_is_not_waited_for() {
        let mut node = Node::established();
        node.heartbeat("two", LEASE);
        let number = node.state.open(node.now);
        assert_eq!(node.heartbeat("two", Duration::ZERO), PeerChange::Left);
        assert_eq!(node.wait(number, node.now), Duration::ZERO);
    }

    #[test]
    fn node_that_lost_the_channel_waits_a_whole_lease() {
        let mut node = Node::established();
        node.heartbeat("two", LEASE);
        node.state.on_channel_lost();
        assert!(!node.state.channel_is_healthy(node.now));
        let number = node.state.open(node.now);
        node.state.on_ack(&"two".into(), number.unwrap());
        assert_eq!(node.wait(number, node.now), LEASE);
        assert!(node.ping(), "the first ping since the loss");
        assert!(!node.ping());
        let since = node.now;
        assert_eq!(node.wait(number, since), LEASE, "a heartbeat may be on its way");
        node.advance(LEASE / 5);
        node.ping();
        assert_eq!(
            node.wait(number, since),
            LEASE * 4 / 5,
            "peers may have announced leases before the channel was established"
        );
    }

    #[test]
    fn node_whose_pings_return_late_waits_a_whole_lease() {
        let mut node = Node::established();
        let lag = Timing::new(LEASE).max_channel_lag();
        node.advance(LEASE);
        // The ping was under way for the maximum lag.
        node.state.on_ping(node.now - lag, node.now);
        assert_eq!(node.wait_without_number(), Duration::ZERO);
        assert!(node.state.channel_is_healthy(node.now));
        node.advance(Duration::from_millis(1));
        assert_eq!(node.wait_without_number(), LEASE);
        assert!(!node.state.channel_is_healthy(node.now));
    }

    #[test]
    fn node_that_does_not_replicate_does_not_wait() {
        let mut state = AckState::default();
        assert_eq!(state.open(Instant::now()), None);
    }

    #[test]
    fn cache_is_usable_after_the_probation_and_after_each_long_pause() {
        let mut node = Node::established();
        let timing = Timing::new(LEASE);
        let publish = |node: &mut Node, lease| node.state.on_heartbeat_published(lease, node.now, node.now);
        assert_eq!(node.state.cache_usable_from(), None);
        publish(&mut node, LEASE);
        let usable = node.now + timing.probation();
        assert_eq!(node.state.cache_usable_from(), Some(usable));
        node.advance(timing.max_heartbeat_gap());
        publish(&mut node, LEASE);
        assert_eq!(node.state.cache_usable_from(), Some(usable));
        node.advance(timing.max_heartbeat_gap() + Duration::from_millis(1));
        publish(&mut node, LEASE);
        assert_eq!(node.state.cache_usable_from(), Some(node.now + timing.probation()));
        publish(&mut node, Duration::ZERO);
        assert_eq!(node.state.cache_usable_from(), None);
    }

    #[test]
    fn peer_beyond_the_limit_is_waited_for_until_its_lease_lapses() {
        let mut node = Node::established();
        for peer in 0..=MAX_PEERS {
            node.heartbeat(&peer.to_string(), LEASE);
        }
        let number = node.state.open(node.now);
        for peer in 0..MAX_PEERS {
            node.state.on_ack(&peer.to_string().into(), number.unwrap());
        }
        assert_eq!(node.wait(number, node.now), LEASE);
    }

    #[test]
    fn confirmation_waits_for_the_position() {
        let mut node = Node::new();
        // The position that each request waits for has the request's number.
        let position = |number| Position { millis: 7, number };
        for (number, bucket) in [(1, 0), (2, 0), (3, 9)] {
            let position = position(number);
            node.state.on_confirm(ConfirmRequest { origin: "two".into(), number, bucket, position }, node.now);
        }
        // Only bucket 0 advances.
        let confirmed = |node: &mut Node, reached| {
            let taken = node.state.take_confirmed(|bucket| (bucket == 0).then_some(reached), node.now);
            taken.iter().map(|request| request.number).collect::<Vec<_>>()
        };
        assert_eq!(confirmed(&mut node, position(1)), [1]);
        assert!(node.state.has_deferred());
        assert_eq!(confirmed(&mut node, position(2)), [2]);
        node.advance(LEASE);
        assert!(confirmed(&mut node, position(2)).is_empty());
        assert!(!node.state.has_deferred(), "the request for bucket 9 has expired");
    }
}
