//! The modelled system: nodes, their connections, one Redis, one session and the requests that end it.
//!
//! Every transition of a node goes through [`AckState`], [`Cursor`] and [`Timing`]; what surrounds them here stands for
//! `ack_tracker.rs`, `subscriber.rs`, `synchronizer.rs`, `session_cache.rs` and the scripts. Times are ticks of a fifth of
//! `cache.max_staleness`. A node that takes no step for some ticks is paused, hung or cut off from Redis.

use std::{
    collections::VecDeque,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use super::{
    super::{
        ack_state::{AckState, Confirmation, NodeName},
        cursor::{Applied, Cursor},
        event_entry::Position,
        timing::Timing,
    },
    checker::Model,
    rules::Rule,
};

const STALENESS: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(200);
/// How far a node's clock falls behind once: a little less than a tenth of a lease.
const SKEW: Duration = Duration::from_millis(90);
/// Messages on the way to a subscriber, at most; Redis closes the connection of one that is too slow.
const QUEUE: usize = 4;
/// The age of nodes that have run long before the scenario starts.
const LONG_AGO: Duration = Duration::from_secs(3600);

static START: LazyLock<Instant> = LazyLock::new(|| Instant::now() + 2 * LONG_AGO);
static NAMES: LazyLock<Vec<NodeName>> = LazyLock::new(|| (0..64).map(|name: u8| name.to_string().into()).collect());

fn timing() -> Timing {
    Timing::new(STALENESS)
}

/// A scenario: the initial nodes, the possible events, and the rule of the protocol that is switched off, if any.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// The initial state of each node.
    pub(super) nodes: Vec<Start>,
    /// The requests that end the session.
    pub(super) requests: Vec<Request>,
    /// Ticks that pass, at most.
    pub(super) ticks: u8,
    /// Messages lost, connections cut, nodes crashed and commands failed, at most.
    pub(super) faults: u8,
    /// Further possible events.
    pub(super) allow: Allow,
    pub(super) broken: Option<Rule>,
}

/// The possible events of a scenario. With fewer of them, the search visits a larger part of the states.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allow {
    /// Other events occur between the steps of a synchronization.
    pub(super) interleaved_sync: bool,
    /// Nodes look up the session again.
    pub(super) lookups: bool,
    /// A clock falls behind, once.
    pub(super) skew: bool,
    /// Another session of the bucket ends.
    pub(super) other_event: bool,
    /// Events overtake other messages.
    pub(super) reordering: bool,
}

/// The initial state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The node has just been started.
    Cold,
    /// The node has run for long, and its list of peers contains the others that have.
    Warm,
    /// As [`Start::Warm`], and the node has cached the session.
    Caching,
    /// As [`Start::Warm`], and the node only ends sessions: it never uses its cache.
    WarmOrigin,
    /// As [`Start::Cold`], and the node only ends sessions.
    ColdOrigin,
}

/// A request that ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) node: usize,
    /// Whether the event requests acknowledgements (a sign-out), or the node requests them afterwards (reuse, the session cap).
    pub(super) asks_in_event: bool,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct System {
    tick: u8,
    faults: u8,
    session_is_live: bool,
    /// The stream of the bucket: of each entry whether it ends the session.
    stream: Vec<bool>,
    nodes: Vec<Node>,
    progress: Vec<Progress>,
    names: usize,
}

#[derive(Clone, Debug, Hash)]
struct Node {
    name: NodeName,
    is_up: bool,
    uses_cache: bool,
    is_slow: bool,
    acks: AckState,
    cursor: Cursor,
    is_cached: bool,
    valid_until: Option<Instant>,
    sync: Sync,
    synced_in: Option<u8>,
    lookup: Lookup,
    /// Messages that Redis has sent to the subscriber; none while the subscriber isn't connected.
    connection: Option<VecDeque<Message>>,
}

#[derive(Clone, Copy, Debug, Hash)]
enum Sync {
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
enum Lookup {
    Idle,
    SessionRead { version: u64 },
    Answered { version: u64, live: bool },
}

#[derive(Clone, Debug, Hash)]
enum Message {
    Heartbeat { node: NodeName, lease: Duration },
    Ping { sent: Instant },
    Event { position: Position, previous: Position, ends_session: bool, from: Option<(NodeName, u64)> },
    Confirm(Confirmation),
    Ack { node: NodeName, number: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Progress {
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
    fn new(name: usize, uses_cache: bool) -> Self {
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

    fn now(&self, tick: u8) -> Instant {
        *START + TICK * tick.into() - if self.is_slow { SKEW } else { Duration::ZERO }
    }

    fn cache_is_valid(&self, tick: u8) -> bool {
        self.valid_until.is_some_and(|until| self.now(tick) < until)
    }

    fn clear(&mut self) {
        self.valid_until = None;
        self.is_cached = false;
        self.cursor.invalidate();
    }

    fn apply(&mut self, position: Position, previous: Option<Position>, ends_session: bool) {
        if self.cursor.apply(position, previous) != Applied::Duplicate && ends_session {
            self.is_cached = false;
        }
    }
}

impl System {
    /// Whether no node can call the session active any more, or no request can be answered.
    fn is_settled(&self) -> bool {
        let may_be_cached = |node: &Node| node.is_cached || matches!(node.lookup, Lookup::Answered { live: true, .. });
        (!self.session_is_live && !self.nodes.iter().any(may_be_cached))
            || self.progress.iter().all(|progress| *progress == Progress::Failed)
    }

    fn position(&self) -> Position {
        Position { millis: self.stream.len() as u64, number: 0 }
    }

    fn publish(&mut self, message: &Message) {
        for node in 0..self.nodes.len() {
            self.send(node, message.clone());
        }
    }

    fn send(&mut self, node: usize, message: Message) {
        let connection = &mut self.nodes[node].connection;
        if let Some(queue) = connection {
            if queue.len() < QUEUE { queue.push_back(message) } else { *connection = None }
        }
    }

    fn send_ack(&mut self, from: usize, origin: &NodeName, number: u64) {
        let node = Arc::clone(&self.nodes[from].name);
        if let Some(to) = self.nodes.iter().position(|node| node.is_up && node.name == *origin) {
            self.send(to, Message::Ack { node, number });
        }
    }

    fn append(&mut self, ends_session: bool, from: Option<(NodeName, u64)>) {
        let previous = self.position();
        self.stream.push(ends_session);
        let position = self.position();
        self.publish(&Message::Event { position, previous, ends_session, from });
    }

    fn give_confirmations(&mut self, node: usize) {
        let now = self.nodes[node].now(self.tick);
        let Node { acks, cursor, .. } = &mut self.nodes[node];
        for Confirmation { origin, number, .. } in acks.take_confirmed(|_| cursor.position(), now) {
            self.send_ack(node, &origin, number);
        }
    }
}

impl Scenario {
    fn breaks(&self, rule: Rule) -> bool {
        self.broken == Some(rule)
    }

    fn deliver(&self, state: &mut System, number: usize, message: Message) {
        let now = state.nodes[number].now(state.tick);
        let node = &mut state.nodes[number];
        match message {
            Message::Heartbeat { node: peer, lease } if peer != node.name => {
                node.acks.on_heartbeat(peer, lease, now);
            }
            Message::Ping { sent } => {
                node.acks.on_ping(if self.breaks(Rule::PingsCountFromSending) { now } else { sent }, now);
            }
            Message::Event { position, previous, ends_session, from } => {
                let previous = (!self.breaks(Rule::GapsKeepThePosition)).then_some(previous);
                if !self.breaks(Rule::EventsAreAppliedBeforeTheyAreAcknowledged) {
                    node.apply(position, previous, ends_session);
                }
                if let Some((origin, wanted)) = from.filter(|(origin, _)| *origin != node.name) {
                    state.send_ack(number, &origin, wanted);
                }
                state.give_confirmations(number);
            }
            Message::Confirm(wanted) if wanted.origin != node.name => {
                if self.breaks(Rule::ConfirmationsWaitForThePosition) {
                    state.send_ack(number, &wanted.origin, wanted.number);
                } else {
                    node.acks.on_confirm(wanted, now);
                    state.give_confirmations(number);
                }
            }
            Message::Ack { node: peer, number: wanted } => node.acks.on_ack(&peer, wanted),
            Message::Heartbeat { .. } | Message::Confirm(_) => {}
        }
    }

    fn synchronize(&self, state: &mut System, number: usize) {
        let (tick, there) = (state.tick, state.position());
        let stream = state.stream.clone();
        let node = &mut state.nodes[number];
        let now = node.now(tick);
        match node.sync {
            Sync::Idle => {
                node.synced_in = Some(tick);
                node.sync = Sync::PositionRead { began: now, before: node.cursor.position(), there };
            }
            Sync::PositionRead { began, before, there } => {
                node.cursor.reconcile(before, there);
                if node.cursor.is_behind(there) && !self.breaks(Rule::MissingEntriesAreApplied) {
                    for (index, ends_session) in stream.iter().enumerate() {
                        node.apply(Position { millis: index as u64 + 1, number: 0 }, None, *ends_session);
                    }
                }
                let healthy = node.acks.channel_is_healthy(now);
                let lease = if healthy { timing().announced_lease() } else { Duration::ZERO };
                if !healthy && !self.breaks(Rule::CacheIsInvalidBeforeTheNodeLeaves) {
                    node.valid_until = None;
                }
                node.sync = Sync::Applied { began, sent: now, lease };
                state.give_confirmations(number);
            }
            Sync::Applied { began, sent, lease } => {
                node.sync = Sync::Published { began, sent, lease, succeeded: true };
                let heartbeat = Message::Heartbeat { node: Arc::clone(&node.name), lease };
                state.publish(&heartbeat);
                state.send(number, Message::Ping { sent: now });
            }
            Sync::Published { began, sent, lease, succeeded } => {
                node.sync = Sync::Idle;
                let before = node.acks.cache_usable_from();
                if succeeded {
                    node.acks.on_heartbeat_published(lease, sent, now);
                }
                let mut from = node.acks.cache_usable_from();
                if self.breaks(Rule::PausesRestartTheProbation) && from.is_some() {
                    from = before.or(from);
                }
                if self.breaks(Rule::CacheWaitsForTheProbation) {
                    from = from.map(|_| now);
                }
                let succeeded = succeeded || self.breaks(Rule::OnlyPublishedHeartbeatsExtend);
                if succeeded && from.is_some_and(|from| from <= now) {
                    let began = if self.breaks(Rule::LeasesCountFromTheBeginning) { now } else { began };
                    let validity = timing().cache_validity();
                    let margin = timing().announced_lease() - validity;
                    let extra = if self.breaks(Rule::LeasesHaveAMargin) { margin } else { Duration::ZERO };
                    node.valid_until = Some(began + validity + extra);
                }
            }
        }
    }

    fn receive(&self, state: &mut System, index: usize) {
        let Progress::Done { mut number, ended, confirm } = state.progress[index] else { return };
        let node = &mut state.nodes[self.requests[index].node];
        let now = node.now(state.tick);
        node.cursor.invalidate();
        node.is_cached = false;
        if !ended && self.breaks(Rule::RepeatsAreConfirmed) {
            state.progress[index] = Progress::Answered;
            return;
        }
        if let Some(position) = confirm {
            // A script that doesn't ask for acknowledgements gets its number now.
            number = number.or_else(|| node.acks.open(now));
            if let Some(number) = number {
                let origin = Arc::clone(&node.name);
                state.publish(&Message::Confirm(Confirmation { origin, number, bucket: 0, position }));
            }
        }
        state.progress[index] = Progress::Waiting { number, since: now };
    }

    fn answer(&self, state: &mut System, index: usize) {
        let Progress::Waiting { number, .. } = state.progress[index] else { return };
        if let Some(number) = number {
            state.nodes[self.requests[index].node].acks.close(number);
        }
        state.progress[index] = Progress::Answered;
    }

    fn may_answer(&self, state: &System, index: usize) -> bool {
        let Progress::Waiting { number, since } = state.progress[index] else { return false };
        let node = &state.nodes[self.requests[index].node];
        let now = node.now(state.tick);
        self.breaks(Rule::PeersAreWaitedFor)
            || node.acks.wait_until(number, since, now).is_none()
            || (self.breaks(Rule::LeasesAreWaitedOut) && since + timing().announced_lease() / 2 <= now)
    }

    fn run(&self, state: &mut System, index: usize) {
        let Progress::Sent { number } = state.progress[index] else { return };
        let request = self.requests[index];
        let name = Arc::clone(&state.nodes[request.node].name);
        let ended = state.session_is_live;
        if ended {
            state.session_is_live = false;
            state.append(true, number.map(|number| (name, number)));
        }
        let confirm = (!ended || !request.asks_in_event).then(|| state.position());
        state.progress[index] = Progress::Done { number, ended, confirm };
    }
}

impl Model for Scenario {
    type State = System;
    type Action = Action;

    fn initial(&self) -> System {
        let names: Vec<NodeName> = (0..self.nodes.len()).map(|name| Arc::clone(&NAMES[name])).collect();
        let is_warm = |start: Start| !matches!(start, Start::Cold | Start::ColdOrigin);
        let (now, lease) = (*START, timing().announced_lease());
        let node = |(index, start): (usize, &Start)| {
            let mut node = Node::new(index, !matches!(start, Start::WarmOrigin | Start::ColdOrigin));
            if !is_warm(*start) {
                return node;
            }
            node.acks.on_ping(now - LONG_AGO, now - LONG_AGO);
            node.acks.on_ping(now, now);
            node.cursor.reconcile(None, Position::default());
            if node.uses_cache {
                // heartbeats for as long as the probation takes
                for ago in [TICK * 5, TICK * 3, TICK, Duration::ZERO] {
                    node.acks.on_heartbeat_published(lease, now - ago, now - ago);
                }
                node.valid_until = Some(now + timing().cache_validity());
                node.is_cached = *start == Start::Caching;
            }
            for (other, start) in self.nodes.iter().enumerate() {
                if other != index && matches!(start, Start::Warm | Start::Caching) {
                    node.acks.on_heartbeat(Arc::clone(&names[other]), lease, now);
                }
            }
            node
        };
        System {
            tick: 0,
            faults: self.faults,
            session_is_live: true,
            stream: Vec::new(),
            nodes: self.nodes.iter().enumerate().map(node).collect(),
            progress: vec![Progress::Ready; self.requests.len()],
            names: self.nodes.len(),
        }
    }

    fn actions(&self, state: &System, actions: &mut Vec<Action>) {
        if state.is_settled() {
            return;
        }
        if state.tick < self.ticks {
            actions.push(Action::Tick);
            if self.allow.skew && state.nodes.iter().all(|node| !node.is_slow) {
                actions.extend((0..state.nodes.len()).map(Action::SlowTick));
            }
        }
        let may_fail = state.faults > 0;
        for (index, node) in state.nodes.iter().enumerate() {
            if !node.is_up {
                actions.push(Action::Restart(index));
                continue;
            }
            match node.sync {
                Sync::Idle if node.synced_in == Some(state.tick) => {}
                Sync::Idle => actions.push(Action::SyncAsk(index)),
                Sync::PositionRead { .. } => actions.push(Action::SyncApply(index)),
                Sync::Applied { .. } => {
                    actions.push(Action::SyncPublish(index));
                    if may_fail && node.uses_cache {
                        actions.push(Action::SyncPublishFails(index));
                    }
                }
                Sync::Published { .. } => actions.push(Action::SyncExtend(index)),
            }
            match node.lookup {
                Lookup::Idle
                    if self.allow.lookups && node.uses_cache && !node.is_cached && node.cache_is_valid(state.tick) =>
                {
                    actions.push(Action::LookupAsk(index));
                }
                Lookup::Idle => {}
                Lookup::SessionRead { .. } => actions.push(Action::LookupAnswer(index)),
                Lookup::Answered { .. } => actions.push(Action::LookupInsert(index)),
            }
            match &node.connection {
                None => actions.push(Action::Reconnect(index)),
                Some(queue) => {
                    if let Some(first) = queue.front() {
                        actions.push(Action::Deliver(index));
                        let is_counted_on = matches!(first, Message::Heartbeat { .. } | Message::Ping { .. });
                        if may_fail && !is_counted_on {
                            actions.push(Action::Lose(index));
                        }
                    }
                    if self.allow.reordering && matches!(queue.get(1), Some(Message::Event { .. })) {
                        actions.push(Action::DeliverEarly(index));
                    }
                    if may_fail {
                        actions.push(Action::Cut(index));
                    }
                }
            }
            if may_fail {
                if matches!(node.sync, Sync::PositionRead { .. }) && node.uses_cache {
                    actions.push(Action::SyncFails(index));
                }
                actions.push(Action::Crash(index));
            }
        }
        for (index, progress) in state.progress.iter().enumerate() {
            match progress {
                Progress::Ready if state.nodes[self.requests[index].node].is_up => {
                    actions.push(Action::RequestSend(index))
                }
                Progress::Sent { .. } => actions.push(Action::RequestRun(index)),
                Progress::Done { .. } => actions.push(Action::RequestReceive(index)),
                Progress::Waiting { .. } if self.may_answer(state, index) => actions.push(Action::RequestAnswer(index)),
                _ => {}
            }
        }
        if self.allow.other_event && state.stream.iter().all(|ends_session| *ends_session) {
            actions.push(Action::OtherEvent);
        }
    }

    fn step(&self, state: &mut System, action: Action) {
        let tick = state.tick;
        match action {
            Action::Tick => state.tick += 1,
            Action::SlowTick(node) => {
                state.tick += 1;
                state.nodes[node].is_slow = true;
            }
            Action::SyncAsk(index) if !state.nodes[index].uses_cache => {
                // Of a node that only ends sessions, nothing but its ping matters.
                let sent = state.nodes[index].now(tick);
                state.nodes[index].synced_in = Some(tick);
                state.send(index, Message::Ping { sent });
            }
            Action::SyncAsk(index)
            | Action::SyncApply(index)
            | Action::SyncPublish(index)
            | Action::SyncExtend(index) => {
                self.synchronize(state, index);
                while !self.allow.interleaved_sync && !matches!(state.nodes[index].sync, Sync::Idle) {
                    self.synchronize(state, index);
                }
            }
            Action::SyncPublishFails(index) => {
                state.faults -= 1;
                if let Sync::Applied { began, sent, lease } = state.nodes[index].sync {
                    state.nodes[index].sync = Sync::Published { began, sent, lease, succeeded: false };
                }
            }
            Action::SyncFails(index) => {
                state.faults -= 1;
                state.nodes[index].sync = Sync::Idle;
                state.nodes[index].clear();
            }
            Action::LookupAsk(index) => {
                let node = &mut state.nodes[index];
                node.lookup = Lookup::SessionRead { version: node.cursor.version() };
            }
            Action::LookupAnswer(index) => {
                if let Lookup::SessionRead { version } = state.nodes[index].lookup {
                    state.nodes[index].lookup = Lookup::Answered { version, live: state.session_is_live };
                }
            }
            Action::LookupInsert(index) => {
                let node = &mut state.nodes[index];
                if let Lookup::Answered { version, live } = node.lookup {
                    node.lookup = Lookup::Idle;
                    node.is_cached |= live
                        && (node.cursor.may_insert(version) || self.breaks(Rule::LookupsOlderThanAnEndAreNotCached));
                }
            }
            Action::Deliver(index) => {
                let message = state.nodes[index].connection.as_mut().and_then(VecDeque::pop_front);
                if let Some(message) = message {
                    self.deliver(state, index, message);
                }
            }
            Action::DeliverEarly(index) => {
                let message = state.nodes[index].connection.as_mut().and_then(|queue| queue.remove(1));
                if let Some(message) = message {
                    self.deliver(state, index, message);
                }
            }
            Action::Lose(index) => {
                state.faults -= 1;
                state.nodes[index].connection.as_mut().and_then(VecDeque::pop_front);
            }
            Action::Cut(index) => {
                state.faults -= 1;
                state.nodes[index].connection = None;
            }
            Action::Reconnect(index) => {
                let node = &mut state.nodes[index];
                node.connection = Some(VecDeque::new());
                if !self.breaks(Rule::LostChannelsAreNoted) {
                    node.acks.on_channel_lost();
                }
            }
            Action::Crash(index) => {
                state.faults -= 1;
                state.nodes[index].is_up = false;
                state.nodes[index].valid_until = None;
                state.nodes[index].connection = None;
                for (request, progress) in self.requests.iter().zip(&mut state.progress) {
                    if request.node == index && *progress != Progress::Answered {
                        *progress = Progress::Failed;
                    }
                }
            }
            Action::Restart(index) => {
                let uses_cache = state.nodes[index].uses_cache;
                state.nodes[index] = Node::new(state.names, uses_cache);
                state.names += 1;
            }
            Action::RequestSend(index) => {
                let Request { node, asks_in_event } = self.requests[index];
                let node = &mut state.nodes[node];
                let number = if asks_in_event { node.acks.open(node.now(tick)) } else { None };
                state.progress[index] = Progress::Sent { number };
            }
            Action::RequestRun(index) => self.run(state, index),
            Action::RequestReceive(index) => self.receive(state, index),
            Action::RequestAnswer(index) => self.answer(state, index),
            Action::OtherEvent => state.append(false, None),
        }
    }

    /// I3: once a request that ends the session has been answered, no node calls the session active.
    fn holds(&self, state: &System) -> bool {
        let says_active = |node: &Node| node.is_up && node.is_cached && node.cache_is_valid(state.tick);
        !state.progress.contains(&Progress::Answered) || !state.nodes.iter().any(says_active)
    }
}
