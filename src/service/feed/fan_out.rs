//! Fan-out: forwards the revocations and heartbeats of the node to the subscribers of one core.
//!
//! The node's broadcast has one receiver per core and not one per subscriber: waking a task of another core costs a system
//! call, and each event would wake every subscriber in this way. The subscribers of a core share one encoded text of each event.
//!
//! A subscriber that has read everything attaches to the fan-out, which then calls it for each event. A subscriber that
//! can't take an event at once is detached and continues with a receiver of the following messages.

use std::{
    mem,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval},
};

use super::MAX_BATCH;
use crate::{
    domain::{
        event::FeedMessage,
        feed::{FeedEvent, FeedPosition},
    },
    runtime::current_core,
    state::{
        AppState,
        feed::{
            AttachedSubscriber, AttachedSubscribers, DetachedReceiver, EventBatch, FanOutChannel, FanOutMessage,
            SharedEvent,
        },
    },
};

/// Number of deliveries after which the other tasks of the core get a turn: about a quarter of a millisecond for one event, and
/// one millisecond for a full batch.
const DELIVERIES_PER_TURN: usize = 32;

/// Subscribes to the fan-out of the current core. Starts it for the first subscriber.
pub(super) fn subscribe(state: &Arc<AppState>) -> Receiver<FanOutMessage> {
    let core = current_core();
    state.feed_subscribers.subscribe(core, |channel| {
        // Subscribes to the log before the subscriber reads the earlier events from Redis, so that no event in between is missed.
        let messages = state.redis.revocation_log.subscribe();
        let attached = Vec::new();
        let fan_out = FanOut {
            state: Arc::downgrade(state),
            core,
            messages,
            channel,
            attached,
            last_heartbeat_at: Instant::now(),
        };
        tokio::spawn(fan_out.run(state.config.feed.heartbeat));
    })
}

struct FanOut {
    state: Weak<AppState>,
    /// The core whose subscribers the fan-out serves; `None` outside of the service's cores.
    core: Option<usize>,
    messages: Receiver<FeedMessage>,
    /// The channel of the detached subscribers. When the fan-out ends, it drops the channel, which closes their receivers.
    channel: Arc<FanOutChannel>,
    attached: AttachedSubscribers,
    /// The time of the last heartbeat.
    last_heartbeat_at: Instant,
}

/// The fan-out has to end: the core has no subscribers or was too slow to receive all messages of the node's broadcast, or the node stops.
struct Ended;

impl FanOut {
    /// Runs until it has to end ([`Ended`]).
    async fn run(mut self, heartbeat: Duration) {
        let mut heartbeats = interval(heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let result = tokio::select! {
                message = self.messages.recv() => match message {
                    Ok(first) => self.forward(Some(first), MAX_BATCH).await,
                    Err(RecvError::Lagged(_) | RecvError::Closed) => Err(Ended),
                },
                _ = heartbeats.tick() => self.send_heartbeat().await,
            };
            if result.is_err() {
                break;
            }
        }
    }

    /// Forwards `first` and the messages that wait, at most `limit` messages in all.
    async fn forward(&mut self, first: Option<FeedMessage>, limit: usize) -> Result<(), Ended> {
        let mut messages = Vec::from_iter(first);
        let mut result = Ok(());
        while messages.len() < limit {
            match self.messages.try_recv() {
                Ok(message) => messages.push(message),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => {
                    result = Err(Ended);
                    break;
                }
            }
        }
        let mut events = Vec::new();
        for message in messages {
            match message {
                FeedMessage::Revoked(revocation) => {
                    events.push(Arc::new(SharedEvent::new(FeedEvent::Revocation(revocation))));
                }
                FeedMessage::Lost => {
                    self.send_revocations(mem::take(&mut events)).await;
                    self.broadcast([FanOutMessage::Lost], Self::detach_all);
                }
            }
        }
        self.send_revocations(events).await;
        // Detached subscribers must get a turn before the next batch, or they would miss messages of a burst.
        yield_now().await;
        result
    }

    /// Sends a heartbeat, after the messages that were queued before its position was read.
    async fn send_heartbeat(&mut self) -> Result<(), Ended> {
        let state = self.state.upgrade().ok_or(Ended)?;
        self.attached.retain(|subscriber| subscriber.strong_count() > 0);
        if self.attached.is_empty() && state.feed_subscribers.end_if_unused(self.core, &self.channel) {
            return Err(Ended);
        }
        let position = state.redis.revocation_log.synced_at();
        // Messages that arrive from now on are sent after the heartbeat, however many there are.
        let mut waiting = self.messages.len();
        while waiting > 0 {
            let limit = waiting.min(MAX_BATCH);
            self.forward(None, limit).await?;
            waiting -= limit;
        }
        let Some(position) = position else {
            self.broadcast([FanOutMessage::NotSynced], Self::detach_all);
            return Ok(());
        };
        let heartbeat = Arc::new(SharedEvent::new(FeedEvent::Heartbeat(FeedPosition(position))));
        // Only a detached subscriber checks whether its client is enabled, when it receives a heartbeat. So the subscribers of disabled clients
        // are detached, and then end.
        self.broadcast([FanOutMessage::Event(Arc::clone(&heartbeat))], |fan_out| {
            fan_out.detach_unless(|subscriber| state.clients.is_enabled(subscriber.client().as_str()));
        });
        self.last_heartbeat_at = Instant::now();
        self.deliver(&EventBatch::new(vec![heartbeat])).await;
        Ok(())
    }

    async fn send_revocations(&mut self, events: Vec<Arc<SharedEvent>>) {
        if !events.is_empty() {
            let detach_none = |_: &mut Self| {};
            self.broadcast(events.iter().cloned().map(FanOutMessage::Event), detach_none);
            self.deliver(&EventBatch::new(events)).await;
        }
    }

    /// Sends messages to the detached subscribers. Before that, calls `detach` to detach the attached subscribers that must receive the
    /// messages in this way. The lock keeps others from
    /// attaching meanwhile. One that attaches later has already received these messages here, and receives the next ones by [`Self::deliver`].
    fn broadcast(&mut self, messages: impl IntoIterator<Item = FanOutMessage>, detach: impl FnOnce(&mut Self)) {
        let channel = Arc::clone(&self.channel);
        let mut attaching = channel.lock_attaching();
        if let Some(attaching) = attaching.as_mut() {
            self.attached.append(attaching);
        }
        detach(self);
        for message in messages {
            // Having no receivers at the moment is no error.
            let _ = channel.sender.send(message);
        }
    }

    /// Sends events to the attached subscribers. Those that can't take them at once are detached.
    async fn deliver(&mut self, events: &EventBatch) {
        let (mut index, mut deliveries) = (0, 0);
        while let Some(subscriber) = self.attached.get(index) {
            match subscriber.upgrade() {
                Some(subscriber) if subscriber.try_send(events) => index += 1,
                // `swap_remove` puts the last subscriber at `index`, so the index stays.
                Some(subscriber) => {
                    subscriber.detach(self.receiver());
                    self.attached.swap_remove(index);
                }
                None => drop(self.attached.swap_remove(index)),
            }
            deliveries += 1;
            if deliveries % DELIVERIES_PER_TURN == 0 {
                yield_now().await;
            }
        }
    }

    fn detach_all(&mut self) {
        self.detach_unless(|_| false);
    }

    /// Detaches the subscribers that do not meet a condition. They receive the next message through a receiver.
    fn detach_unless(&mut self, stays: impl Fn(&dyn AttachedSubscriber) -> bool) {
        // Moved out of `self`, which `receiver` borrows.
        let mut attached = mem::take(&mut self.attached);
        attached.retain(|subscriber| {
            let Some(subscriber) = subscriber.upgrade() else { return false };
            let stays = stays(&*subscriber);
            if !stays {
                subscriber.detach(self.receiver());
            }
            stays
        });
        self.attached = attached;
    }

    /// A receiver of the next messages, for a subscriber that is detached.
    fn receiver(&self) -> DetachedReceiver {
        DetachedReceiver { messages: self.channel.sender.subscribe(), last_heartbeat_at: self.last_heartbeat_at }
    }
}

impl Drop for FanOut {
    /// Detaches all subscribers. Their receivers end when the channel is dropped.
    fn drop(&mut self) {
        // `None` from now on: nothing attaches to an ended fan-out.
        let attaching = self.channel.lock_attaching().take();
        self.attached.extend(attaching.unwrap_or_default());
        self.detach_all();
    }
}
