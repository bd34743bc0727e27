//! The state of the modelled system: nodes, their connections, one Redis, one session and the requests that end it.
//!
//! Every transition of a node calls [`AckState`], [`Cursor`] and [`Timing`]. The code around them stands for `ack_tracker.rs`,
//! `subscriber.rs`, `synchronizer.rs`, `session_cache.rs` and the scripts. Times are ticks of a fifth of `cache.max_staleness`.
//! A node that takes no step for some ticks is paused, hung or cut off from Redis.

use std::{
    collections::VecDeque,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use super::super::{
    ack_state::{AckState, ConfirmRequest, NodeName},
    cursor::{Applied, Cursor},
    event_entry::Position,
    timing::Timing,
};

/// `cache.max_staleness` of all nodes.
pub(super) const STALENESS: Duration = Duration::from_secs(1);
/// The interval of synchronizations.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// How far a slow node's clock is behind: a little less than a tenth of a lease.
pub(super) const SKEW: Duration = Duration::from_millis(90);
/// The maximum number of messages on their way to a subscriber. Redis closes the connection of a subscriber that is too slow.
pub(super) const MAX_QUEUED: usize = 4;
/// How long before the scenario the channels of warm nodes were established.
pub(super) const LONG_AGO: Duration = Duration::from_secs(3600);

/// The time of tick 0. It is in the future, so that [`LONG_AGO`] can be subtracted from it: an [`Instant`] may not reach far back.
pub(super) static START: LazyLock<Instant> = LazyLock::new(|| Instant::now() + 2 * LONG_AGO);
/// The names of nodes, one for each start of a process; more than any scenario needs.
pub(super) static NAMES: LazyLock<Vec<NodeName>> =
    LazyLock::new(|| (0..64).map(|number: u8| number.to_string().into()).collect());

pub(super) fn timing() -> Timing {
    Timing::new(STALENESS)
}

#[derive(Clone, Debug, Hash)]
pub(super) struct System {
    /// The number of ticks since the start.
    pub(super) tick: u8,
    /// The number of faults that may still happen.
    pub(super) faults: u8,
    pub(super) session_is_live: bool,
    /// The stream of the bucket: for each entry, whether it ends the session.
    pub(super) stream: Vec<bool>,
    pub(super) nodes: Vec<Node>,
    /// The progress of each request of the scenario.
    pub(super) progress: Vec<Progress>,
    /// The index in [`NAMES`] of the next node that starts.
    pub(super) next_name: usize,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Node {
    pub(super) name: NodeName,
    pub(super) is_up: bool,
    /// Whether the node looks the session up and caches it. A node without a cache only ends the session.
    pub(super) uses_cache: bool,
    /// Whether the node's clock has fallen behind by [`SKEW`].
    pub(super) is_slow: bool,
    pub(super) acks: AckState,
    pub(super) cursor: Cursor,
    /// Whether the node's cache contains the session.
    pub(super) is_cached: bool,
    /// The end of the period in which the node may use its cache.
    pub(super) valid_until: Option<Instant>,
    pub(super) sync: Sync,
    /// The tick of the last synchronization: a node synchronizes once a tick.
    pub(super) synced_in: Option<u8>,
    pub(super) lookup: Lookup,
    /// Messages that Redis has sent to the subscriber; none while the subscriber isn't connected.
    pub(super) connection: Option<VecDeque<Message>>,
}

/// The steps of a synchronization that began at `began`. Its heartbeat was sent at `sent` and announces `lease`.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum Sync {
    Idle,
    /// The position has been read from Redis. `before` is the cursor's position before that.
    PositionRead {
        began: Instant,
        before: Option<Position>,
        redis_position: Position,
    },
    /// Missing entries have been applied, and the heartbeat is on its way to Redis.
    Applied {
        began: Instant,
        sent: Instant,
        lease: Duration,
    },
    /// Redis has answered whether it published the heartbeat.
    Published {
        began: Instant,
        sent: Instant,
        lease: Duration,
        succeeded: bool,
    },
}

/// The steps of a lookup of the session in Redis. `version` is that of the cursor before the lookup. `live` is Redis' answer:
/// whether the session is live.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum Lookup {
    Idle,
    Sent { version: u64 },
    Answered { version: u64, live: bool },
}

/// A message on the channel. `from` is the node that waits for acknowledgements, if any, and the number of the acknowledgement.
#[derive(Clone, Debug, Hash)]
pub(super) enum Message {
    Heartbeat { node: NodeName, lease: Duration },
    Ping { sent: Instant },
    Event { position: Position, previous: Position, ends_session: bool, from: Option<(NodeName, u64)> },
    Confirm(ConfirmRequest),
    Ack { node: NodeName, number: u64 },
}

/// The progress of a request that ends the session. `number` is the number under which peers acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Progress {
    /// The node has not sent the script to Redis yet.
    Ready,
    Sent {
        number: Option<u64>,
    },
    /// Redis has run the script; `ended` says whether the script ended the session. `confirm` is the position that peers must
    /// confirm, if the event did not request acknowledgements.
    Done {
        number: Option<u64>,
        ended: bool,
        confirm: Option<Position>,
    },
    /// The node waits for the acknowledgements of its peers.
    Waiting {
        number: Option<u64>,
        since: Instant,
    },
    Answered,
    /// The node has crashed.
    Failed,
}

/// An action of the system. The numbers are the indexes of nodes, or of requests in the actions `Request…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Tick,
    /// A tick during which a node's clock falls behind.
    SlowTick(usize),
    /// Reads the position from Redis.
    SyncAsk(usize),
    /// Applies the missing entries, and sends the heartbeat.
    SyncApply(usize),
    /// Redis publishes the heartbeat.
    SyncPublish(usize),
    SyncPublishFails(usize),
    /// Receives Redis' answer to the heartbeat, and extends the use of the cache.
    SyncExtend(usize),
    SyncFails(usize),
    LookupAsk(usize),
    LookupAnswer(usize),
    /// Caches the session, if it is live.
    LookupInsert(usize),
    /// A node receives the first message on its way to it.
    Deliver(usize),
    /// An event overtakes the message before it.
    DeliverEarly(usize),
    /// The first message on its way to a subscriber is lost.
    Lose(usize),
    /// The connection of a subscriber is cut.
    Cut(usize),
    Reconnect(usize),
    Crash(usize),
    Restart(usize),
    RequestSend(usize),
    /// Redis runs the script.
    RequestRun(usize),
    /// The node receives Redis' answer, and begins to wait for its peers.
    RequestReceive(usize),
    /// The node answers its client.
    RequestAnswer(usize),
    /// Another session of the bucket ends.
    OtherEvent,
}

impl Node {
    pub(super) fn new(name: usize, uses_cache: bool) -> Self {
        let mut acks = AckState::default();
        acks.configure(timing());
        Self {
            name: Arc::clone(&NAMES[name]),
            is_up: true,
            uses_cache,
            is_slow: false,
            acks,
            cursor: Cursor::default(),
            is_cached: false,
            valid_until: None,
            sync: Sync::Idle,
            synced_in: None,
            lookup: Lookup::Idle,
            connection: Some(VecDeque::new()),
        }
    }

    pub(super) fn now(&self, tick: u8) -> Instant {
        let behind = if self.is_slow { SKEW } else { Duration::ZERO };
        *START + TICK * tick.into() - behind
    }

    pub(super) fn cache_is_valid(&self, tick: u8) -> bool {
        self.valid_until.is_some_and(|until| self.now(tick) < until)
    }

    /// Removes the session from the cache: the node is no longer synchronized.
    pub(super) fn clear(&mut self) {
        self.valid_until = None;
        self.is_cached = false;
        self.cursor.invalidate();
    }

    /// Applies an event. `previous` is the position of the event before it, if it is known.
    pub(super) fn apply(&mut self, position: Position, previous: Option<Position>, ends_session: bool) {
        if self.cursor.apply(position, previous) != Applied::Duplicate && ends_session {
            self.is_cached = false;
        }
    }
}

impl System {
    /// Whether the invariant holds in all further states: no node can call the session active any more, or no request can be answered.
    pub(super) fn is_settled(&self) -> bool {
        let may_be_cached = |node: &Node| node.is_cached || matches!(node.lookup, Lookup::Answered { live: true, .. });
        (!self.session_is_live && !self.nodes.iter().any(may_be_cached))
            || self.progress.iter().all(|progress| *progress == Progress::Failed)
    }

    /// The position of the bucket: the model numbers the entries of the stream from 1.
    pub(super) fn position(&self) -> Position {
        Position { millis: self.stream.len() as u64, number: 0 }
    }

    /// Sends a message to all nodes.
    pub(super) fn publish(&mut self, message: &Message) {
        for node in 0..self.nodes.len() {
            self.send(node, message.clone());
        }
    }

    /// Sends a message to a node. If the node's queue is full, Redis closes its connection instead.
    pub(super) fn send(&mut self, node: usize, message: Message) {
        let connection = &mut self.nodes[node].connection;
        if let Some(queue) = connection {
            if queue.len() < MAX_QUEUED { queue.push_back(message) } else { *connection = None }
        }
    }

    /// Sends the acknowledgement of a number to the node that waits for it, if it is still up.
    pub(super) fn send_ack(&mut self, from: usize, origin: &NodeName, number: u64) {
        let sender = Arc::clone(&self.nodes[from].name);
        if let Some(to) = self.nodes.iter().position(|node| node.is_up && node.name == *origin) {
            self.send(to, Message::Ack { node: sender, number });
        }
    }

    /// Appends an event to the stream and publishes it.
    pub(super) fn append(&mut self, ends_session: bool, from: Option<(NodeName, u64)>) {
        let previous = self.position();
        self.stream.push(ends_session);
        let position = self.position();
        self.publish(&Message::Event { position, previous, ends_session, from });
    }

    /// Acknowledges the `confirm` requests whose position the node has reached.
    pub(super) fn send_confirmations(&mut self, node: usize) {
        let now = self.nodes[node].now(self.tick);
        let Node { acks, cursor, .. } = &mut self.nodes[node];
        for ConfirmRequest { origin, number, .. } in acks.take_confirmed(|_| cursor.position(), now) {
            self.send_ack(node, &origin, number);
        }
    }
}
