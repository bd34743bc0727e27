//! Scenarios: the initial nodes, which events are possible in a state, and the property that must hold in every state.

use std::{sync::Arc, time::Duration};

use super::{
    super::{ack_state::NodeName, event_entry::Position},
    checker::Model,
    rules::Rule,
    system::{Action, LONG_AGO, Lookup, Message, NAMES, Node, Progress, START, Sync, System, TICK, timing},
};

/// A scenario: the initial nodes, the possible events, and the rule that is switched off, if any.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// The initial state of each node.
    pub(super) nodes: Vec<Start>,
    /// The requests that end the session.
    pub(super) requests: Vec<Request>,
    /// The maximum number of ticks that pass.
    pub(super) ticks: u8,
    /// The maximum number of faults: messages lost, connections cut, nodes crashed and commands failed.
    pub(super) faults: u8,
    /// Further possible events.
    pub(super) allow: Allow,
    /// The rule of the protocol that is switched off.
    pub(super) switched_off: Option<Rule>,
}

/// The events that a scenario allows besides ticks, requests and faults. With fewer, a search covers more of the states.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allow {
    /// Other events occur between the steps of a synchronization.
    pub(super) interleaved_sync: bool,
    /// Nodes look up the session again.
    pub(super) lookups: bool,
    /// The clock of one node falls behind, once.
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
    /// The node has run for a long time. Its peers are the other nodes that are `Warm` or `Caching`.
    Warm,
    /// As [`Start::Warm`], and the node has cached the session.
    Caching,
    /// As [`Start::Warm`], but the node never uses its cache: it is only the origin of requests that end sessions.
    WarmOrigin,
    /// As [`Start::Cold`], but the node never uses its cache.
    ColdOrigin,
}

/// A request that ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Request {
    /// The index of the node that handles the request.
    pub(super) node: usize,
    /// Whether the event itself requests acknowledgements (a sign-out). If not, the node requests them afterwards (reuse, the session
    /// limit).
    pub(super) asks_in_event: bool,
}

impl Model for Scenario {
    type State = System;
    type Action = Action;

    fn initial(&self) -> System {
        let names: Vec<NodeName> = (0..self.nodes.len()).map(|name| Arc::clone(&NAMES[name])).collect();
        let is_warm = |start: Start| !matches!(start, Start::Cold | Start::ColdOrigin);
        let now = *START;
        let lease = timing().announced_lease();
        let node = |(index, start): (usize, &Start)| {
            let uses_cache = !matches!(start, Start::WarmOrigin | Start::ColdOrigin);
            let mut node = Node::new(index, uses_cache);
            if !is_warm(*start) {
                return node;
            }
            // The channel was established long ago, and its last ping returns now.
            node.acks.on_ping(now - LONG_AGO, now - LONG_AGO);
            node.acks.on_ping(now, now);
            // The first synchronization with the bucket, which has no events yet.
            node.cursor.reconcile(None, Position::default());
            if node.uses_cache {
                // The heartbeats of the last 5 ticks: the probation of 2.5 ticks has ended. The heartbeats are at most 2 ticks apart, and only
                // a pause of more than 2.5 ticks begins a new probation.
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
            next_name: self.nodes.len(),
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
        // `state.faults` is the number of faults that may still occur.
        let may_fail = state.faults > 0;
        for (index, node) in state.nodes.iter().enumerate() {
            // nothing else can happen to a crashed node
            if !node.is_up {
                actions.push(Action::Restart(index));
                continue;
            }
            match node.sync {
                // a node synchronizes once per tick
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
                Lookup::Sent { .. } => actions.push(Action::LookupAnswer(index)),
                Lookup::Answered { .. } => actions.push(Action::LookupInsert(index)),
            }
            match &node.connection {
                None => actions.push(Action::Reconnect(index)),
                Some(queue) => {
                    if let Some(first) = queue.front() {
                        actions.push(Action::Deliver(index));
                        // The protocol relies on the order of the channel: what precedes a returned ping has arrived.
                        let must_arrive = matches!(first, Message::Heartbeat { .. } | Message::Ping { .. });
                        if may_fail && !must_arrive {
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
        let other_event_has_occurred = state.stream.iter().any(|ends_session| !ends_session);
        if self.allow.other_event && !other_event_has_occurred {
            actions.push(Action::OtherEvent);
        }
    }

    fn step(&self, state: &mut System, action: Action) {
        self.apply(state, action);
    }

    /// I3: once a request that ends the session has been answered, no node calls the session active.
    fn holds(&self, state: &System) -> bool {
        let says_active = |node: &Node| node.is_up && node.is_cached && node.cache_is_valid(state.tick);
        !state.progress.contains(&Progress::Answered) || !state.nodes.iter().any(says_active)
    }
}
