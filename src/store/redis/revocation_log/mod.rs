//! Follows the revocations that all nodes append: what a node remembers stays true because of it, and those who follow the
//! feed are told.
//!
//! Each revocation is appended to its bucket's stream and published, in one script (`lua/lib.lua`). A node hears of it on
//! the channel (`listen.rs`), and several times a second looks whether it has missed any (`poll.rs`). Both apply it to
//! what the node remembers (`session_cache.rs`), once and in order.

mod acknowledge;
mod entry;
mod poll;
mod session_cache;
mod subscriber;

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, broadcast};

pub(super) use self::{
    acknowledge::{Acknowledgements, PendingAck},
    entry::session_ended,
    session_cache::SessionCache,
};
use self::{poll::Poller, subscriber::Subscriber};
use super::{
    connection::{Redis, RedisError},
    key::BUCKETS,
    script, sessions, watchdog,
};
use crate::domain::{
    clock::Timestamp,
    event::{FeedMessage, Revocation},
};

/// How often a node that remembers nothing looks for revocations: as if for this bound.
const WITHOUT_MEMORY: Duration = Duration::from_secs(1);

impl Redis {
    /// Starts to follow the revocations, in the background and until [`Redis::close`]. From then on sessions that live
    /// are remembered, for [`Redis::liveness`], if `cache.max_staleness` allows it. Does nothing the second time.
    pub fn start_replication(&self) {
        let mut replication = self.inner.replication.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !replication.is_empty() {
            return;
        }
        let inner = &self.inner;
        let wake = Arc::new(Notify::new());
        let listener = Subscriber {
            client: inner.listener.clone(),
            channel: inner.channel.clone(),
            session_cache: Arc::clone(&inner.session_cache),
            acknowledgements: Arc::clone(&inner.acknowledgements),
            wake: Arc::clone(&wake),
        };
        let poller = Poller {
            pool: inner.pool.clone(),
            keys: inner.keys.clone(),
            positions: (0..BUCKETS).map(|bucket| inner.keys.position_of_bucket(bucket)).collect(),
            session_cache: Arc::clone(&inner.session_cache),
            acknowledgements: Arc::clone(&inner.acknowledgements),
            channel: inner.channel.clone(),
            remembers: !inner.max_staleness.is_zero(),
            wake,
            max_staleness: if inner.max_staleness.is_zero() { WITHOUT_MEMORY } else { inner.max_staleness },
            event_retention: inner.event_retention,
        };
        if !inner.max_staleness.is_zero() {
            inner.acknowledgements.listen(inner.max_staleness);
        }
        replication.push(tokio::spawn(listener.run()).abort_handle());
        replication.push(tokio::spawn(poller.run()).abort_handle());
        let acknowledgements = Arc::clone(&inner.acknowledgements);
        let sender = acknowledge::send(acknowledgements, inner.pool.clone(), inner.channel.clone());
        replication.push(tokio::spawn(sender).abort_handle());
        replication.push(watchdog::watch(inner.listener.clone(), false, watchdog::Cause::default()));
    }

    /// What is told from now on. Whoever reads too slowly is told so ([`broadcast::error::RecvError::Lagged`]).
    pub fn subscribe(&self) -> broadcast::Receiver<FeedMessage> {
        self.inner.session_cache.subscribe()
    }

    /// Up to when, by Redis' clock, every revocation has been told; none while this node isn't in step with Redis.
    pub fn synced_at(&self) -> Option<Timestamp> {
        self.inner.session_cache.synced_at()
    }

    /// Whether [`Redis::liveness`] answers from memory now: this node is in step with Redis, and hears the others.
    pub fn cache_is_valid(&self) -> bool {
        self.inner.session_cache.is_valid()
    }

    /// How often [`Redis::liveness`] was answered from memory, and how often Redis had to be asked.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        self.inner.session_cache.hits_and_misses()
    }

    /// How many other nodes are here that would be waited for before the end of a session is confirmed.
    pub fn peers(&self) -> usize {
        self.inner.acknowledgements.peers()
    }

    /// Says to the others that this node remembers nothing any more.
    pub(super) async fn announce_shutdown(&self) {
        if self.inner.replication.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty() {
            return;
        }
        self.inner.session_cache.clear();
        let gone = self.inner.acknowledgements.here(Duration::ZERO);
        acknowledge::publish(self.client(), &self.inner.channel, gone).await;
    }

    /// How long ago every revocation there was is sure to have been told; none before the first time.
    pub fn lag(&self) -> Option<std::time::Duration> {
        self.inner.session_cache.lag()
    }

    /// The revocations of bucket `0..`[`BUCKETS`] since a time by Redis' clock, oldest first, and whether these are all:
    /// those that can't be read, such as a newer release's, are left out.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn revocations_since(
        &self,
        bucket: usize,
        since: Timestamp,
    ) -> Result<(Vec<Revocation>, bool), RedisError> {
        debug_assert!(bucket < BUCKETS);
        let stream = self.inner.keys.events_of_bucket(bucket);
        let entries = poll::read_since(self.client(), stream, since).await?;
        let whole = entries.iter().all(Result::is_ok);
        Ok((entries.into_iter().flatten().map(|entry| entry.revocation).collect(), whole))
    }

    /// Tells everybody that a signing key was taken out of use before its time, and so what it signed.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn append_key_retired(&self, kid: &str, now: Timestamp) -> Result<(), RedisError> {
        let keys = &self.inner.keys;
        let keys = [keys.events_of_bucket(entry::KEYS_BUCKET), keys.position_of_bucket(entry::KEYS_BUCKET)];
        let arguments = vec![self.event_trim_args(), "".into(), kid.into(), sessions::millis(now)];
        script::run(&self.inner.scripts.key_retired, self.client(), keys.to_vec(), arguments).await?;
        Ok(())
    }
}
