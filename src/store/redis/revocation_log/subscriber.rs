//! Receives revocations and the messages of other nodes on the channel, as they are published.

use std::{
    slice,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use fred::interfaces::EventInterface;
use tokio::sync::{Notify, broadcast::error::RecvError};
use tokio_util::task::AbortOnDropHandle;

use super::{
    super::{connection::RedisConnection, failure},
    ack_tracker::AckTracker,
    cursor::Applied,
    event_entry::Entry,
    message::Broadcast,
    session_cache::SessionCache,
};

/// The pause after an attempt to subscribe that failed, or that Redis has denied.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Receives messages on its own connection until it is aborted. The synchronizer finds the events of missed messages.
pub(super) struct Subscriber {
    pub(super) connection: Arc<RedisConnection>,
    /// The channel that all nodes share.
    pub(super) channel: String,
    pub(super) cache: Arc<SessionCache>,
    pub(super) acks: Arc<AckTracker>,
    /// Asks the synchronizer to run at once.
    pub(super) wake: Arc<Notify>,
}

impl Subscriber {
    pub(super) async fn run(self) {
        let client = &self.connection.subscriber;
        // Both exist before the client connects, so that they miss nothing.
        let mut reconnections = client.reconnect_rx();
        let mut messages = client.message_rx();
        let _connection = AbortOnDropHandle::new(self.connection.keep_subscriber_connected());
        // Whether the last attempt to subscribe failed.
        let mut has_failed = false;
        // Not a new pause in each turn: messages that arrive more often than that would postpone the retry forever.
        let mut retries = tokio::time::interval(RETRY_PAUSE);
        loop {
            tokio::select! {
                reconnected = reconnections.recv() => match reconnected {
                    // A lag means several reconnections: one subscription, on the current connection, is enough.
                    Ok(_) | Err(RecvError::Lagged(_)) => {
                        has_failed = !self.subscribe(has_failed).await;
                        retries.reset();
                    }
                    Err(RecvError::Closed) => return,
                },
                message = messages.recv() => match message {
                    Ok(message) => {
                        let text = message.value.as_str().unwrap_or_default();
                        let is_shared = *message.channel == *self.channel;
                        let must_synchronize = if is_shared { self.on_message(&text) } else { self.acks.on_direct(&text) };
                        if must_synchronize {
                            self.wake.notify_one();
                        }
                    }
                    Err(RecvError::Lagged(_)) => {
                        // Heartbeats may be among the messages that were dropped.
                        self.acks.on_channel_lost();
                        self.wake.notify_one();
                    }
                    Err(RecvError::Closed) => return,
                },
                _ = retries.tick(), if has_failed || self.is_denied() => {
                    has_failed = !self.subscribe(has_failed).await;
                    retries.reset();
                }
            }
        }
    }

    /// Subscribes to the shared channel and to the channel of this node. Returns false if it is unknown whether that
    /// worked. Redis may also have denied the subscription: see [`Self::is_denied`].
    async fn subscribe(&self, has_failed_before: bool) -> bool {
        self.acks.on_channel_lost();
        let own_channel = self.acks.own_channel(&self.channel);
        let subscribed = self.connection.subscribe(own_channel, slice::from_ref(&self.channel)).await;
        // Only the first failure is logged, not each attempt of an outage.
        if let Err(error) = &subscribed
            && !has_failed_before
        {
            tracing::warn!(
                error = failure::reason(error),
                "subscribing to the revocation channel failed, retrying: until it works, this node caches no sessions, and sign-outs take up \
                 to cache.max_staleness. If this lasts, check the connection to Redis and the rights of its user (docs/redis.md)"
            );
        }
        self.wake.notify_one();
        subscribed.is_ok()
    }

    /// Whether the rights of the Redis user do not permit the subscription.
    fn is_denied(&self) -> bool {
        self.connection.subscribe_denied.load(Ordering::Relaxed)
    }

    /// Handles a message on the shared channel. Returns whether this node has to synchronize.
    fn on_message(&self, message: &str) -> bool {
        match Broadcast::parse(message) {
            Some(Broadcast::Heartbeat { node, lease }) => return self.acks.on_heartbeat(node, lease),
            Some(Broadcast::Confirm(request)) => {
                return self.acks.on_confirm(request, |bucket| self.cache.position(bucket));
            }
            None => {}
        }
        let mut must_synchronize = false;
        for received in Entry::parse_message(message) {
            match received {
                Some((entry, previous, sender)) => {
                    must_synchronize |= self.cache.apply(entry, Some(previous)) == Applied::Gap;
                    self.acks.queue_ack(sender);
                }
                // A newer release or another program sent the message: the synchronizer reads the streams.
                None => must_synchronize = true,
            }
        }
        must_synchronize
    }
}
