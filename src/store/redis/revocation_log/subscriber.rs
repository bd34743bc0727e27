//! Hears on the channel what is revoked, the moment it happens.

use std::{sync::Arc, time::Duration};

use fred::{
    clients::Client,
    interfaces::{EventInterface, PubsubInterface},
};
use tokio::sync::{Notify, broadcast::error::RecvError};
use tokio_util::task::AbortOnDropHandle;

use super::{
    super::connection::keep_connected,
    acknowledge::Acknowledgements,
    entry::Entry,
    session_cache::{Applied, SessionCache},
};

/// The most that another node is believed of how long it believes what it remembers.
const LONGEST_LEASE: Duration = Duration::from_mins(1);

/// Listens on a connection of its own for as long as it isn't aborted. Whatever it misses, `poll.rs` finds.
pub(super) struct Subscriber {
    pub(super) client: Client,
    pub(super) channel: String,
    pub(super) session_cache: Arc<SessionCache>,
    pub(super) acknowledgements: Arc<Acknowledgements>,
    /// Calls for a look at the streams.
    pub(super) wake: Arc<Notify>,
}

impl Subscriber {
    pub(super) async fn run(self) {
        let mut connected = self.client.reconnect_rx();
        let mut messages = self.client.message_rx();
        let _connection = AbortOnDropHandle::new(keep_connected(self.client.clone()));
        loop {
            tokio::select! {
                server = connected.recv() => match server {
                    Ok(_) | Err(RecvError::Lagged(_)) => {
                        self.acknowledgements.deaf();
                        let own = self.acknowledgements.own_channel(&self.channel);
                        if let Err(error) = self.client.subscribe(vec![self.channel.clone(), own]).await {
                            tracing::warn!(%error, "can't listen to the revocations; they are looked for instead");
                        }
                        self.wake.notify_one();
                    }
                    Err(RecvError::Closed) => return,
                },
                message = messages.recv() => match message {
                    Ok(message) => {
                        let text = message.value.as_str().unwrap_or_default();
                        if *message.channel == *self.channel { self.heard(&text) } else { self.acknowledgements.heard_by(&text) }
                    }
                    Err(RecvError::Lagged(_)) => self.wake.notify_one(),
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    fn heard(&self, message: &str) {
        if let Some((node, lease)) = message.strip_prefix("here ").and_then(|here| here.split_once(' ')) {
            let lease = Duration::from_millis(lease.parse().unwrap_or_default());
            if self.acknowledgements.hear_of(node, lease.min(LONGEST_LEASE)) {
                self.wake.notify_one();
            }
            return;
        }
        for heard in Entry::heard(message) {
            let Some((entry, before, from)) = heard else {
                // of a newer release, or somebody else's: the streams tell
                self.wake.notify_one();
                continue;
            };
            if self.session_cache.apply(entry, Some(before)) == Applied::Gap {
                self.wake.notify_one();
            }
            self.acknowledgements.heard(from);
        }
    }
}
