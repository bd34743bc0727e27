//! Fan-out: forwards the revocations and heartbeats of the node to the subscribers of one core.
//!
//! The node's broadcast has one receiver per core and not one per subscriber: waking a task of another core costs a system
//! call, and each event would wake every subscriber so. The subscribers of a core share one encoded text of each event.
//!
//! A subscriber that has read everything attaches to the fan-out, which then calls it for each event. A subscriber that
//! can't take an event at once is detached and continues with a receiver of the following messages.

use std::{
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

use crate::{
    domain::{
        event::FeedMessage,
        feed::{FeedEvent, FeedPosition},
    },
    runtime::current_core,
    state::{
        AppState,
        feed::{AttachedSubscriber, AttachedSubscribers, DetachedReceiver, FanOutChannel, FanOutMessage, SharedEvent},
    },
};

/// Number of deliveries after which the other tasks of the core get a turn.
const DELIVERIES_PER_TURN: usize = 32;

/// Subscribes to the fan-out of the current core. Starts it for the first subscriber.
pub(super) fn subscribe(state: &Arc<AppState>) -> Receiver<FanOutMessage> {
    let core = current_core();
    state.feed_subscribers.subscribe(core, |channel| {
        // Subscribes before the subscriber reads from Redis, so that it misses nothing in between.
        let messages = state.redis.revocation_log.subscribe();
        let attached = Vec::new();
        let fan_out =
            FanOut { state: Arc::downgrade(state), core, messages, channel, attached, synced_at: Instant::now() };
        tokio::spawn(fan_out.run(state.config.feed.heartbeat));
    })
}

struct FanOut {
    state: Weak<AppState>,
    core: Option<usize>,
    messages: Receiver<FeedMessage>,
    /// Dropped when the fan-out ends; that closes the channels of its subscribers.
    channel: Arc<FanOutChannel>,
    attached: AttachedSubscribers,
    /// The time of the last heartbeat.
    synced_at: Instant,
}

/// The core is too slow to keep its place in the node's broadcast, or the node stops.
struct Ended;

impl FanOut {
    /// Runs until the core has no subscribers.
    async fn run(mut self, heartbeat: Duration) {
        let mut heartbeats = interval(heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let result = tokio::select! {
                message = self.messages.recv() => match message {
                    Ok(message) => {
                        self.forward(message).await;
                        Ok(())
                    }
                    Err(RecvError::Lagged(_) | RecvError::Closed) => Err(Ended),
                },
                _ = heartbeats.tick() => self.send_heartbeat().await,
            };
            if result.is_err() {
                break;
            }
        }
        // The receivers of the detached subscribers end when the channel is dropped.
        self.attached.append(&mut self.channel.attaching());
        self.detach_unless(|_| false);
    }

    async fn forward(&mut self, message: FeedMessage) {
        self.send(match message {
            FeedMessage::Revoked(revocation) => {
                FanOutMessage::Event(Arc::new(SharedEvent::new(FeedEvent::Revocation(revocation))))
            }
            FeedMessage::Lost => FanOutMessage::Lost,
        })
        .await;
    }

    /// Sends a heartbeat, after the messages that were queued before its position was read.
    async fn send_heartbeat(&mut self) -> Result<(), Ended> {
        let state = self.state.upgrade().ok_or(Ended)?;
        self.attached.retain(|subscriber| subscriber.strong_count() > 0);
        if self.attached.is_empty() && state.feed_subscribers.end_if_unused(self.core, &self.channel) {
            return Err(Ended);
        }
        let position = state.redis.revocation_log.synced_at();
        loop {
            match self.messages.try_recv() {
                Ok(message) => self.forward(message).await,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => return Err(Ended),
            }
        }
        self.send(match position {
            Some(time) => FanOutMessage::Event(Arc::new(SharedEvent::new(FeedEvent::Heartbeat(FeedPosition(time))))),
            None => FanOutMessage::NotSynced,
        })
        .await;
        Ok(())
    }

    /// Sends a message to every subscriber.
    async fn send(&mut self, message: FanOutMessage) {
        let event = match &message {
            FanOutMessage::Event(event) => Some(Arc::clone(event)),
            FanOutMessage::NotSynced | FanOutMessage::Lost => None,
        };
        let is_heartbeat = event.as_ref().is_some_and(|event| matches!(event.event(), FeedEvent::Heartbeat(_)));
        {
            // Subscribers attach before or after the message, which reaches them in one way and not in two.
            let channel = Arc::clone(&self.channel);
            let mut attaching = channel.attaching();
            self.attached.append(&mut attaching);
            if is_heartbeat {
                // A subscriber ends when it receives a heartbeat after its client was disabled.
                let state = self.state.upgrade();
                self.detach_unless(|subscriber| {
                    state.as_ref().is_some_and(|state| state.clients.is_enabled(subscriber.client().as_str()))
                });
            } else if event.is_none() {
                self.detach_unless(|_| false);
            }
            // Having no receivers at the moment is no error.
            let _ = channel.sender.send(message);
        }
        let Some(event) = event else { return };
        if is_heartbeat {
            self.synced_at = Instant::now();
        }
        self.deliver(&event).await;
    }

    /// Sends an event to the attached subscribers. Those that can't take it are detached.
    async fn deliver(&mut self, event: &SharedEvent) {
        let (mut index, mut deliveries) = (0, 0);
        while let Some(subscriber) = self.attached.get(index) {
            match subscriber.upgrade() {
                Some(subscriber) if subscriber.try_send(event) => index += 1,
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

    /// Detaches the subscribers that do not meet a condition. They receive the next message through a receiver.
    fn detach_unless(&mut self, stays: impl Fn(&dyn AttachedSubscriber) -> bool) {
        let attached = std::mem::take(&mut self.attached);
        self.attached = attached
            .into_iter()
            .filter(|subscriber| {
                let Some(subscriber) = subscriber.upgrade() else { return false };
                let stays = stays(&*subscriber);
                if !stays {
                    subscriber.detach(self.receiver());
                }
                stays
            })
            .collect();
    }

    /// A receiver of the next messages, for a subscriber that is detached.
    fn receiver(&self) -> DetachedReceiver {
        DetachedReceiver { messages: self.channel.sender.subscribe(), synced_at: self.synced_at }
    }
}
