//! Fan-out: forwards the revocations and heartbeats of the node to the subscribers of one core.
//!
//! The node's broadcast has one receiver per core and not one per subscriber: waking a task of another core costs a system
//! call, and each event would wake every subscriber so. The subscribers of a core share one encoded text of each event.

use std::sync::{Arc, Weak};

use tokio::{
    sync::broadcast::{
        Receiver, Sender,
        error::{RecvError, TryRecvError},
    },
    time::{MissedTickBehavior, interval},
};

use crate::{
    domain::{
        event::FeedMessage,
        feed::{FeedEvent, FeedPosition},
    },
    runtime::current_core,
    state::{
        AppState,
        feed::{FanOutMessage, SharedEvent},
    },
};

/// Subscribes to the fan-out of the current core. Starts it for the first subscriber.
pub(super) fn subscribe(state: &Arc<AppState>) -> Receiver<FanOutMessage> {
    let core = current_core();
    state.feed_subscribers.subscribe(core, |sender| {
        // Subscribes before the subscriber reads from Redis, so that it misses nothing in between.
        let messages = state.redis.revocation_log.subscribe();
        let fan_out = FanOut { state: Arc::downgrade(state), core, messages, sender };
        tokio::spawn(fan_out.run(state.config.feed.heartbeat));
    })
}

struct FanOut {
    state: Weak<AppState>,
    core: Option<usize>,
    messages: Receiver<FeedMessage>,
    /// Dropped when the fan-out ends; that closes the channels of its subscribers.
    sender: Sender<FanOutMessage>,
}

/// The core is too slow to keep its place in the node's broadcast, or the node stops.
struct Ended;

impl FanOut {
    /// Runs until the core has no subscribers.
    async fn run(mut self, heartbeat: std::time::Duration) {
        let mut heartbeats = interval(heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = self.messages.recv() => match message {
                    Ok(message) => self.forward(message),
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return,
                },
                _ = heartbeats.tick() => if self.send_heartbeat().is_err() {
                    return;
                },
            }
        }
    }

    fn forward(&self, message: FeedMessage) {
        self.send(match message {
            FeedMessage::Revoked(revocation) => {
                FanOutMessage::Event(Arc::new(SharedEvent::new(FeedEvent::Revocation(revocation))))
            }
            FeedMessage::Lost => FanOutMessage::Lost,
        });
    }

    /// Sends a heartbeat, after the messages that were queued before its position was read.
    fn send_heartbeat(&mut self) -> Result<(), Ended> {
        let state = self.state.upgrade().ok_or(Ended)?;
        if state.feed_subscribers.end_if_unused(self.core, &self.sender) {
            return Err(Ended);
        }
        let position = state.redis.revocation_log.synced_at();
        loop {
            match self.messages.try_recv() {
                Ok(message) => self.forward(message),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => return Err(Ended),
            }
        }
        self.send(match position {
            Some(time) => FanOutMessage::Event(Arc::new(SharedEvent::new(FeedEvent::Heartbeat(FeedPosition(time))))),
            None => FanOutMessage::NotSynced,
        });
        Ok(())
    }

    fn send(&self, message: FanOutMessage) {
        // Having no subscribers at the moment is no error.
        let _ = self.sender.send(message);
    }
}
