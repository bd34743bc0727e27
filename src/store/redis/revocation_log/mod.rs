//! Follows the revocations that all nodes append: what a node remembers stays true because of it, and those who follow the
//! feed are told.
//!
//! Each revocation is appended to its bucket's stream and published, in one script (`lua/lib.lua`). A node hears of it on
//! the channel (`subscriber.rs`), and several times a second looks whether it has missed any (`poll.rs`). Both apply it to
//! what the node remembers (`session_cache.rs`), once and in order.

mod acknowledge;
mod entry;
mod poll;
mod session_cache;
mod subscriber;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fred::{clients::Client, interfaces::ClientLike};
use tokio::{
    sync::{Notify, broadcast},
    task::AbortHandle,
};

pub(super) use self::{
    acknowledge::{Acknowledgements, PendingAck},
    entry::session_ended,
    session_cache::SessionCache,
};
use self::{poll::Poller, subscriber::Subscriber};
use super::{
    connection::{RedisConnection, RedisError},
    key::BUCKETS,
    script, watchdog,
};
use crate::{
    config::CacheSettings,
    domain::{
        clock::Timestamp,
        event::{FeedMessage, Revocation},
    },
};

/// How often a node that remembers nothing looks for revocations: as if for this bound.
const WITHOUT_MEMORY: Duration = Duration::from_secs(1);

/// Follows the revocations of all nodes, and owns the session cache that they keep true.
pub struct RevocationLog {
    connection: Arc<RedisConnection>,
    /// Subscribes to revocations, once [`RevocationLog::start_replication`] is called.
    subscriber: Client,
    pub(super) session_cache: Arc<SessionCache>,
    pub(super) acknowledgements: Arc<Acknowledgements>,
    max_staleness: Duration,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl RevocationLog {
    pub(super) fn new(connection: Arc<RedisConnection>, subscriber: Client, cache: &CacheSettings) -> Self {
        let most = if cache.max_staleness.is_zero() { 0 } else { cache.max_sessions };
        Self {
            session_cache: Arc::new(SessionCache::new(most, connection.metrics.cache.clone())),
            acknowledgements: Arc::new(Acknowledgements::new(subscriber.id().to_string())),
            max_staleness: cache.max_staleness,
            tasks: Mutex::default(),
            connection,
            subscriber,
        }
    }

    /// Starts to follow the revocations, in the background and until [`RevocationLog::close`]. From then on sessions that
    /// live are remembered, for `SessionStore::liveness`, if `cache.max_staleness` allows it. Does nothing the second time.
    pub fn start_replication(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if !tasks.is_empty() {
            return;
        }
        let connection = &self.connection;
        let wake = Arc::new(Notify::new());
        let listener = Subscriber {
            client: self.subscriber.clone(),
            channel: connection.channel.clone(),
            session_cache: Arc::clone(&self.session_cache),
            acknowledgements: Arc::clone(&self.acknowledgements),
            wake: Arc::clone(&wake),
        };
        let poller = Poller {
            pool: connection.pool.clone(),
            keys: connection.keys.clone(),
            positions: (0..BUCKETS).map(|bucket| connection.keys.position_of_bucket(bucket)).collect(),
            session_cache: Arc::clone(&self.session_cache),
            acknowledgements: Arc::clone(&self.acknowledgements),
            channel: connection.channel.clone(),
            remembers: !self.max_staleness.is_zero(),
            wake,
            max_staleness: if self.max_staleness.is_zero() { WITHOUT_MEMORY } else { self.max_staleness },
            event_retention: connection.event_retention,
        };
        if !self.max_staleness.is_zero() {
            self.acknowledgements.listen(self.max_staleness);
        }
        tasks.push(tokio::spawn(listener.run()).abort_handle());
        tasks.push(tokio::spawn(poller.run()).abort_handle());
        let acknowledgements = Arc::clone(&self.acknowledgements);
        let sender = acknowledge::send(acknowledgements, connection.pool.clone(), connection.channel.clone());
        tasks.push(tokio::spawn(sender).abort_handle());
        tasks.push(watchdog::watch(self.subscriber.clone(), false, watchdog::LastFailure::default()));
    }

    /// What is told from now on. Whoever reads too slowly is told so ([`broadcast::error::RecvError::Lagged`]).
    pub fn subscribe(&self) -> broadcast::Receiver<FeedMessage> {
        self.session_cache.subscribe()
    }

    /// Up to when, by Redis' clock, every revocation has been told; none while this node isn't in step with Redis.
    pub fn synced_at(&self) -> Option<Timestamp> {
        self.session_cache.synced_at()
    }

    /// Whether `SessionStore::liveness` answers from memory now: this node is in step with Redis, and hears the others.
    pub fn cache_is_valid(&self) -> bool {
        self.session_cache.is_valid()
    }

    /// How often `SessionStore::liveness` was answered from memory, and how often Redis had to be asked.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        self.session_cache.hits_and_misses()
    }

    /// How many other nodes are here that would be waited for before the end of a session is confirmed.
    pub fn peers(&self) -> usize {
        self.acknowledgements.peers()
    }

    /// Stops following, and says to the other nodes that this one remembers nothing any more.
    pub(super) async fn close(&self) {
        if !self.abort_tasks() {
            return;
        }
        self.session_cache.clear();
        let gone = self.acknowledgements.here(Duration::ZERO);
        acknowledge::publish(self.connection.client(), &self.connection.channel, gone).await;
        if let Err(error) = self.subscriber.quit().await {
            tracing::debug!(%error, "closing the subscription to revocations failed");
        }
    }

    /// Ends the background tasks; returns whether there were any.
    fn abort_tasks(&self) -> bool {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().for_each(AbortHandle::abort);
        !tasks.is_empty()
    }

    /// How long ago every revocation there was is sure to have been told; none before the first time.
    pub fn lag(&self) -> Option<std::time::Duration> {
        self.session_cache.lag()
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
        let stream = self.connection.keys.events_of_bucket(bucket);
        let entries = poll::read_since(self.connection.client(), stream, since).await?;
        let whole = entries.iter().all(Result::is_ok);
        Ok((entries.into_iter().flatten().map(|entry| entry.revocation).collect(), whole))
    }

    /// Tells everybody that a signing key was taken out of use before its time, and so what it signed.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn append_key_retired(&self, kid: &str, now: Timestamp) -> Result<(), RedisError> {
        let keys = &self.connection.keys;
        let keys = [keys.events_of_bucket(entry::KEYS_BUCKET), keys.position_of_bucket(entry::KEYS_BUCKET)];
        let arguments = vec![self.connection.event_trim_args(), "".into(), kid.into(), script::millis(now)];
        script::run(&self.connection.scripts.key_retired, self.connection.client(), keys.to_vec(), arguments).await?;
        Ok(())
    }
}

impl Drop for RevocationLog {
    fn drop(&mut self) {
        self.abort_tasks();
    }
}
