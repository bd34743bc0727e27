//! The transitions of the modelled system: messages, synchronizations, lookups and requests of a node. `breaks` marks where the
//! model departs from a rule of the protocol that the scenario switches off.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    super::{ack_state::ConfirmRequest, event_entry::Position},
    rules::Rule,
    scenario::{Request, Scenario},
    system::{Action, Lookup, Message, Node, Progress, Sync, System, timing},
};

impl Scenario {
    /// Whether the scenario switches off a rule.
    fn breaks(&self, rule: Rule) -> bool {
        self.switched_off == Some(rule)
    }

    /// The node with this index receives a message.
    fn deliver(&self, state: &mut System, index: usize, message: Message) {
        let now = state.nodes[index].now(state.tick);
        let node = &mut state.nodes[index];
        match message {
            Message::Heartbeat { node: peer, lease } if peer != node.name => {
                node.acks.on_heartbeat(peer, lease, now);
            }
            Message::Ping { sent } => {
                let counts_from = if self.breaks(Rule::PingsCountFromSending) { now } else { sent };
                node.acks.on_ping(counts_from, now);
            }
            Message::Event { position, previous, ends_session, from } => {
                // With `None`, the cursor does not look for a gap before the event.
                let previous = if self.breaks(Rule::GapsKeepThePosition) { None } else { Some(previous) };
                if !self.breaks(Rule::EventsAreAppliedBeforeTheyAreAcknowledged) {
                    node.apply(position, previous, ends_session);
                }
                if let Some((origin, number)) = from
                    && origin != node.name
                {
                    state.send_ack(index, &origin, number);
                }
                state.send_confirmations(index);
            }
            Message::Confirm(request) if request.origin != node.name => {
                if self.breaks(Rule::ConfirmationsWaitForThePosition) {
                    state.send_ack(index, &request.origin, request.number);
                } else {
                    node.acks.on_confirm(request, now);
                    state.send_confirmations(index);
                }
            }
            Message::Ack { node: peer, number } => node.acks.on_ack(&peer, number),
            // A node ignores its own heartbeats and requests.
            Message::Heartbeat { .. } | Message::Confirm(_) => {}
        }
    }

    /// The node with this index receives the message at this place of its queue, if there is one.
    fn deliver_from_queue(&self, state: &mut System, index: usize, place: usize) {
        let message = state.nodes[index].connection.as_mut().and_then(|queue| queue.remove(place));
        if let Some(message) = message {
            self.deliver(state, index, message);
        }
    }

    /// Runs the next step of a synchronization of the node with this index.
    fn synchronize(&self, state: &mut System, index: usize) {
        let tick = state.tick;
        let redis_position = state.position();
        let stream = state.stream.clone();
        let node = &mut state.nodes[index];
        let now = node.now(tick);
        match node.sync {
            Sync::Idle => {
                node.synced_in = Some(tick);
                node.sync = Sync::PositionRead { began: now, before: node.cursor.position(), redis_position };
            }
            Sync::PositionRead { began, before, redis_position } => {
                node.cursor.reconcile(before, redis_position);
                if node.cursor.is_behind(redis_position) && !self.breaks(Rule::MissingEntriesAreApplied) {
                    // The entries of the model's stream have the positions 1, 2, 3, …
                    // The stream has no gaps, so the cursor need not look for one.
                    let previous = None;
                    for (entry, ends_session) in stream.iter().enumerate() {
                        let position = Position { millis: entry as u64 + 1, number: 0 };
                        node.apply(position, previous, *ends_session);
                    }
                }
                let is_healthy = node.acks.channel_is_healthy(now);
                let lease = if is_healthy { timing().announced_lease() } else { Duration::ZERO };
                if !is_healthy && !self.breaks(Rule::CacheIsInvalidBeforeTheNodeLeaves) {
                    node.valid_until = None;
                }
                node.sync = Sync::Applied { began, sent: now, lease };
                state.send_confirmations(index);
            }
            Sync::Applied { began, sent, lease } => {
                node.sync = Sync::Published { began, sent, lease, succeeded: true };
                let heartbeat = Message::Heartbeat { node: Arc::clone(&node.name), lease };
                state.publish(&heartbeat);
                state.send(index, Message::Ping { sent: now });
            }
            Sync::Published { began, sent, lease, succeeded } => {
                node.sync = Sync::Idle;
                let former_usable_from = node.acks.cache_usable_from();
                if succeeded {
                    node.acks.on_heartbeat_published(lease, sent, now);
                }
                let mut usable_from = node.acks.cache_usable_from();
                // without the rule, a pause does not move the time from which the cache is usable
                if self.breaks(Rule::PausesRestartTheProbation) && usable_from.is_some() {
                    usable_from = former_usable_from.or(usable_from);
                }
                if self.breaks(Rule::CacheWaitsForTheProbation) {
                    usable_from = usable_from.map(|_| now);
                }
                let extends = succeeded || self.breaks(Rule::OnlyPublishedHeartbeatsExtend);
                if extends && usable_from.is_some_and(|from| from <= now) {
                    let counts_from = if self.breaks(Rule::LeasesCountFromTheBeginning) { now } else { began };
                    let validity = if self.breaks(Rule::LeasesHaveAMargin) {
                        timing().announced_lease()
                    } else {
                        timing().cache_validity()
                    };
                    node.valid_until = Some(counts_from + validity);
                }
            }
        }
    }

    /// The node receives the answer of Redis to the request with this index.
    fn receive(&self, state: &mut System, index: usize) {
        // `confirm` is the position that the peers must confirm, if any.
        let Progress::Done { mut number, ended, confirm } = state.progress[index] else { return };
        let node = &mut state.nodes[self.requests[index].node];
        let now = node.now(state.tick);
        // The node removes its own copy of the session, and refuses lookups that were sent before.
        node.cursor.invalidate();
        node.is_cached = false;
        if !ended && self.breaks(Rule::RepeatsAreConfirmed) {
            state.progress[index] = Progress::Answered;
            return;
        }
        if let Some(position) = confirm {
            // If the event asked for no acknowledgements, the number is allocated only now.
            number = number.or_else(|| node.acks.open(now));
            if let Some(number) = number {
                let origin = Arc::clone(&node.name);
                state.publish(&Message::Confirm(ConfirmRequest { origin, number, bucket: 0, position }));
            }
        }
        state.progress[index] = Progress::Waiting { number, since: now };
    }

    /// The node answers the request with this index.
    fn answer(&self, state: &mut System, index: usize) {
        let Progress::Waiting { number, .. } = state.progress[index] else { return };
        if let Some(number) = number {
            state.nodes[self.requests[index].node].acks.close(number);
        }
        state.progress[index] = Progress::Answered;
    }

    /// Whether the node may answer the request with this index.
    pub(super) fn may_answer(&self, state: &System, index: usize) -> bool {
        let Progress::Waiting { number, since } = state.progress[index] else { return false };
        let node = &state.nodes[self.requests[index].node];
        let now = node.now(state.tick);
        // `None` means that no peer is left to wait for.
        let peers_are_done = node.acks.wait_until(number, since, now).is_none();
        let has_waited_half_a_lease = since + timing().announced_lease() / 2 <= now;
        self.breaks(Rule::NodesWaitForPeers)
            || peers_are_done
            || (self.breaks(Rule::NodesWaitOutLeases) && has_waited_half_a_lease)
    }

    /// Redis runs the script of the request with this index.
    fn run_script(&self, state: &mut System, index: usize) {
        let Progress::Sent { number } = state.progress[index] else { return };
        let request = self.requests[index];
        let name = Arc::clone(&state.nodes[request.node].name);
        let ended = state.session_is_live;
        if ended {
            state.session_is_live = false;
            let ends_session = true;
            let waiting_node = number.map(|number| (name, number));
            state.append(ends_session, waiting_node);
        }
        // Without an event that asks the peers for acknowledgements, they must confirm the position.
        let confirm = (!ended || !request.asks_in_event).then(|| state.position());
        state.progress[index] = Progress::Done { number, ended, confirm };
    }

    /// Applies an action that is possible in this state.
    pub(super) fn apply(&self, state: &mut System, action: Action) {
        let tick = state.tick;
        match action {
            Action::Tick => state.tick += 1,
            Action::SlowTick(node) => {
                state.tick += 1;
                state.nodes[node].is_slow = true;
            }
            Action::SyncAsk(index) if !state.nodes[index].uses_cache => {
                // The synchronization of a node that only ends sessions is modelled by its ping alone.
                let sent = state.nodes[index].now(tick);
                state.nodes[index].synced_in = Some(tick);
                state.send(index, Message::Ping { sent });
            }
            Action::SyncAsk(index)
            | Action::SyncApply(index)
            | Action::SyncPublish(index)
            | Action::SyncExtend(index) => {
                self.synchronize(state, index);
                // Unless other actions may come between the steps, one action runs all steps of the synchronization.
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
                node.lookup = Lookup::Sent { version: node.cursor.version() };
            }
            Action::LookupAnswer(index) => {
                if let Lookup::Sent { version } = state.nodes[index].lookup {
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
            Action::Deliver(index) => self.deliver_from_queue(state, index, 0),
            // The second message in the queue overtakes the first.
            Action::DeliverEarly(index) => self.deliver_from_queue(state, index, 1),
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
                if !self.breaks(Rule::NodesNoticeLostChannels) {
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
            // Other nodes see a restarted node under a new name.
            Action::Restart(index) => {
                let uses_cache = state.nodes[index].uses_cache;
                state.nodes[index] = Node::new(state.next_name, uses_cache);
                state.next_name += 1;
            }
            Action::RequestSend(index) => {
                let Request { node, asks_in_event } = self.requests[index];
                let node = &mut state.nodes[node];
                let number = if asks_in_event { node.acks.open(node.now(tick)) } else { None };
                state.progress[index] = Progress::Sent { number };
            }
            Action::RequestRun(index) => self.run_script(state, index),
            Action::RequestReceive(index) => self.receive(state, index),
            Action::RequestAnswer(index) => self.answer(state, index),
            Action::OtherEvent => {
                let ends_session = false;
                let waiting_node = None;
                state.append(ends_session, waiting_node);
            }
        }
    }
}
