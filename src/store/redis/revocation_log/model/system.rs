//! The state of the modelled system: nodes, their connections, one Redis, one session and the requests that end it.
//!
//! Every transition of a node goes through [`AckState`], [`Cursor`] and [`Timing`]; what surrounds them here stands for
//! `ack_tracker.rs`, `subscriber.rs`, `synchronizer.rs`, `session_cache.rs` and the scripts. Times are ticks of a fifth of
//! `cache.max_staleness`. A node that takes no step for some ticks is paused, hung or cut off from Redis.

use std::{
    collections::VecDeque,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use super::super::{
    ack_state::{AckState, Confirmation, NodeName},
    cursor::{Applied, Cursor},
    event_entry::Position,
    timing::Timing,
};

pub(super) const STALENESS: Duration = Duration::from_secs(1);
pub(super) const TICK: Duration = Duration::from_millis(200);
/// How far a node's clock falls behind once: a little less than a tenth of a lease.
pub(super) const SKEW: Duration = Duration::from_millis(90);
/// Messages on the way to a subscriber, at most; Redis closes the connection of one that is too slow.
pub(super) const QUEUE: usize = 4;
/// The age of nodes that have run long before the scenario starts.
pub(super) const LONG_AGO: Duration = Duration::from_secs(3600);

pub(super) static START: LazyLock<Instant> = LazyLock::new(|| Instant::now() + 2 * LONG_AGO);
pub(super) static NAMES: LazyLock<Vec<NodeName>> =
    LazyLock::new(|| (0..64).map(|name: u8| name.to_string().into()).collect());

pub(super) fn timing() -> Timing {
    Timing::new(STALENESS)
}

#[derive(Clone, Debug, Hash)]
pub(super) struct System {
    pub(super) tick: u8,
    pub(super) faults: u8,
    pub(super) session_is_live: bool,
    /// The stream of the bucket: of each entry whether it ends the session.
    pub(super) stream: Vec<bool>,
    pub(super) nodes: Vec<Node>,
    pub(super) progress: Vec<Progress>,
    pub(super) names: usize,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Node {
    pub(super) name: NodeName,
    pub(super) is_up: bool,
    pub(super) uses_cache: bool,
    pub(super) is_slow: bool,
    pub(super) acks: AckState,
    pub(super) cursor: Cursor,
    pub(super) is_cached: bool,
    pub(super) valid_until: Option<Instant>,
    pub(super) sync: Sync,
    pub(super) synced_in: Option<u8>,
    pub(super) lookup: Lookup,
    /// Messages that Redis has sent to the subscriber; none while the subscriber isn't connected.
    pub(super) connection: Option<VecDeque<Message>>,
}

#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum Sync {
    Idle,
    /// The position has been read from Redis.
    PositionRead {
        began: Instant,
        before: Option<Position>,
        there: Position,
    },
    /// Missing entries have been applied, and the heartbeat is on its way to Redis.
    Applied {
        began: Instant,
        sent: Instant,
        lease: Duration,
    },
    /// Redis has answered.
    Published {
        began: Instant,
        sent: Instant,
        lease: Duration,
        succeeded: bool,
    },
}

#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum Lookup {
    Idle,
    SessionRead { version: u64 },
    Answered { version: u64, live: bool },
}

#[derive(Clone, Debug, Hash)]
pub(super) enum Message {
    Heartbeat { node: NodeName, lease: Duration },
    Ping { sent: Instant },
    Event { position: Position, previous: Position, ends_session: bool, from: Option<(NodeName, u64)> },
    Confirm(Confirmation),
    Ack { node: NodeName, number: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Progress {
    Ready,
    Sent {
        number: Option<u64>,
    },
    /// Redis has run the script; with a position where the node has to ask for confirmation.
    Done {
        number: Option<u64>,
        ended: bool,
        confirm: Option<Position>,
    },
    Waiting {
        number: Option<u64>,
        since: Instant,
    },
    Answered,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Tick,
    /// A tick during which a node's clock falls behind.
    SlowTick(usize),
    SyncAsk(usize),
    SyncApply(usize),
    SyncPublish(usize),
    SyncPublishFails(usize),
    SyncExtend(usize),
    SyncFails(usize),
    LookupAsk(usize),
    LookupAnswer(usize),
    LookupInsert(usize),
    Deliver(usize),
    /// An event overtakes the message before it.
    DeliverEarly(usize),
    Lose(usize),
    Cut(usize),
    Reconnect(usize),
    Crash(usize),
    Restart(usize),
    RequestSend(usize),
    RequestRun(usize),
    RequestReceive(usize),
    RequestAnswer(usize),
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
        *START + TICK * tick.into() - if self.is_slow { SKEW } else { Duration::ZERO }
    }

    pub(super) fn cache_is_valid(&self, tick: u8) -> bool {
        self.valid_until.is_some_and(|until| self.now(tick) < until)
    }

    pub(super) fn clear(&mut self) {
        self.valid_until = None;
        self.is_cached = false;
        self.cursor.invalidate();
    }

    pub(super) fn apply(&mut self, position: Position, previous: Option<Position>, ends_session: bool) {
        if self.cursor.apply(position, previous) != Applied::Duplicate && ends_session {
            self.is_cached = false;
        }
    }
}

impl System {
    /// Whether no node can call the session active any more, or no request can be answered.
    pub(super) fn is_settled(&self) -> bool {
        let may_be_cached = |node: &Node| node.is_cached || matches!(node.lookup, Lookup::Answered { live: true, .. });
        (!self.session_is_live && !self.nodes.iter().any(may_be_cached))
            || self.progress.iter().all(|progress| *progress == Progress::Failed)
    }

    pub(super) fn position(&self) -> Position {
        Position { millis: self.stream.len() as u64, number: 0 }
    }

    pub(super) fn publish(&mut self, message: &Message) {
        for node in 0..self.nodes.len() {
            self.send(node, message.clone());
        }
    }

    pub(super) fn send(&mut self, node: usize, message: Message) {
        let connection = &mut self.nodes[node].connection;
        if let Some(queue) = connection {
            if queue.len() < QUEUE { queue.push_back(message) } else { *connection = None }
        }
    }

    pub(super) fn send_ack(&mut self, from: usize, origin: &NodeName, number: u64) {
        let node = Arc::clone(&self.nodes[from].name);
        if let Some(to) = self.nodes.iter().position(|node| node.is_up && node.name == *origin) {
            self.send(to, Message::Ack { node, number });
        }
    }

    pub(super) fn append(&mut self, ends_session: bool, from: Option<(NodeName, u64)>) {
        let previous = self.position();
        self.stream.push(ends_session);
        let position = self.position();
        self.publish(&Message::Event { position, previous, ends_session, from });
    }

    pub(super) fn give_confirmations(&mut self, node: usize) {
        let now = self.nodes[node].now(self.tick);
        let Node { acks, cursor, .. } = &mut self.nodes[node];
        for Confirmation { origin, number, .. } in acks.take_confirmed(|_| cursor.position(), now) {
            self.send_ack(node, &origin, number);
        }
    }
}
