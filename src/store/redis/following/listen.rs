//! Hears on the channel what is revoked, the moment it happens.

use std::sync::Arc;

use fred::{
    clients::Client,
    interfaces::{EventInterface, PubsubInterface},
};
use tokio::sync::{Notify, broadcast::error::RecvError};
use tokio_util::task::AbortOnDropHandle;

use super::{
    super::connection::keep_connected,
    entry::Entry,
    memory::{Applied, Memory},
};

/// Listens on a connection of its own for as long as it isn't aborted. Whatever it misses, `poll.rs` finds.
pub(super) struct Listener {
    pub(super) client: Client,
    pub(super) channel: String,
    pub(super) memory: Arc<Memory>,
    /// Calls for a look at the streams.
    pub(super) wake: Arc<Notify>,
}

impl Listener {
    pub(super) async fn run(self) {
        let mut connected = self.client.reconnect_rx();
        let mut messages = self.client.message_rx();
        let _connection = AbortOnDropHandle::new(keep_connected(self.client.clone()));
        loop {
            tokio::select! {
                server = connected.recv() => match server {
                    Ok(_) | Err(RecvError::Lagged(_)) => {
                        if let Err(error) = self.client.subscribe(self.channel.as_str()).await {
                            tracing::warn!(%error, "can't listen to the revocations; they are looked for instead");
                        }
                        self.wake.notify_one();
                    }
                    Err(RecvError::Closed) => return,
                },
                message = messages.recv() => match message {
                    Ok(message) => self.heard(message.value.as_str().as_deref().unwrap_or_default()),
                    Err(RecvError::Lagged(_)) => self.wake.notify_one(),
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    fn heard(&self, message: &str) {
        let applied = Entry::heard(message).map(|(entry, before)| self.memory.apply(entry, Some(before)));
        // what can't be read is of a newer release, or somebody else's: the streams tell
        if matches!(applied, None | Some(Applied::Gap)) {
            self.wake.notify_one();
        }
    }
}
