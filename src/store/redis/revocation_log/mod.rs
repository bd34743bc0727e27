//! The revocation log: propagates the end of sessions to every node. The session cache and the feed of each node depend on it.
//!
//! Each revocation is appended to the stream of its bucket (a group of accounts) and published, in one script (`lua/lib.lua`). A node
//! receives it on the channel (`subscriber.rs`), and checks five times per `cache.max_staleness` that it has missed none
//! (`synchronizer.rs`). Either way, the node removes what ended from its session cache (`session_cache.rs`). The node that ended the
//! session answers its client when no other node can call the session active any more (`ack_tracker.rs`).
//!
//! `ack_state.rs` and `cursor.rs` hold the protocol's state machines, which the model in `model/` checks. docs/architecture.md has the
//! messages, states and timers in tables.

mod ack_state;
mod ack_tracker;
mod cursor;
mod event_entry;
mod message;
#[cfg(test)]
mod model;
mod session_cache;
mod subscriber;
mod synchronizer;
mod timing;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fred::interfaces::ClientLike;
use tokio::{
    sync::{Notify, broadcast},
    task::AbortHandle,
};

pub(super) use self::{
    ack_tracker::{AckTracker, PendingAck},
    event_entry::{Position, session_end_event},
    session_cache::SessionCache,
};
use self::{subscriber::Subscriber, synchronizer::Synchronizer, timing::Timing};
use super::{
    connection::{RedisConnection, RedisError},
    key::{self, BUCKETS},
    script, watchdog,
};
use crate::{
    config::CacheSettings,
    domain::{
        clock::Timestamp,
        event::{FeedMessage, Revocation},
        ids::AccountId,
    },
};

/// The staleness from which a node that caches no sessions (`cache.max_staleness = "0s"`) derives the durations of its feed.
const STALENESS_WITHOUT_CACHE: Duration = Duration::from_secs(1);

/// Replicates the revocations of all nodes, and owns the session cache that depends on them.
pub struct RevocationLog {
    connection: Arc<RedisConnection>,
    pub(super) session_cache: Arc<SessionCache>,
    pub(super) acks: Arc<AckTracker>,
    /// `cache.max_staleness`. Zero: the node caches no sessions.
    max_staleness: Duration,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl RevocationLog {
    pub(super) fn new(connection: Arc<RedisConnection>, cache: &CacheSettings) -> Self {
        let capacity = if cache.max_staleness.is_zero() { 0 } else { cache.max_sessions };
        Self {
            session_cache: Arc::new(SessionCache::new(capacity, connection.metrics.cache.clone())),
            acks: Arc::new(AckTracker::new(connection.subscriber.id())),
            max_staleness: cache.max_staleness,
            tasks: Mutex::default(),
            connection,
        }
    }

    /// Starts to replicate the revocation log in the background, until `RevocationLog::close`. From then on
    /// `SessionStore::liveness` caches sessions if `cache.max_staleness` is not zero. A second call does nothing.
    pub fn start_replication(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if !tasks.is_empty() {
            return;
        }
        let connection = &self.connection;
        let caches_sessions = !self.max_staleness.is_zero();
        let staleness = if caches_sessions { self.max_staleness } else { STALENESS_WITHOUT_CACHE };
        let timing = Timing::new(staleness);
        // If this node caches no sessions, no node does, and none waits for acknowledgements.
        if caches_sessions {
            self.acks.configure(timing);
        }
        let wake = Arc::new(Notify::new());
        let subscriber = Subscriber {
            connection: Arc::clone(connection),
            channel: connection.channel.clone(),
            cache: Arc::clone(&self.session_cache),
            acks: Arc::clone(&self.acks),
            wake: Arc::clone(&wake),
        };
        let synchronizer = Synchronizer {
            connection: Arc::clone(connection),
            pool: connection.pool.clone(),
            keys: connection.keys.clone(),
            position_keys: (0..BUCKETS).map(|bucket| connection.keys.position_of_bucket(bucket)).collect(),
            cache: Arc::clone(&self.session_cache),
            acks: Arc::clone(&self.acks),
            channel: connection.channel.clone(),
            caches_sessions,
            wake,
            timing,
            event_retention: connection.event_retention,
        };
        let send_acks =
            ack_tracker::send_acks(Arc::clone(&self.acks), connection.pool.clone(), connection.channel.clone());
        tasks.push(tokio::spawn(subscriber.run()).abort_handle());
        tasks.push(tokio::spawn(synchronizer.run()).abort_handle());
        tasks.push(tokio::spawn(send_acks).abort_handle());
        // A connection of the pool logs outages already.
        let outage_log = None;
        tasks.push(watchdog::watch(connection.subscriber.clone(), outage_log));
    }

    /// Subscribes to the revocations that this node applies from now on. A subscriber that reads too slowly gets
    /// [`broadcast::error::RecvError::Lagged`].
    pub fn subscribe(&self) -> broadcast::Receiver<FeedMessage> {
        self.session_cache.subscribe()
    }

    /// The time, by Redis' clock, up to which every revocation has been applied; none while this node isn't synchronized.
    pub fn synced_at(&self) -> Option<Timestamp> {
        self.session_cache.synced_at()
    }

    /// Whether `SessionStore::liveness` uses the session cache now: this node is synchronized, and peers wait for it.
    pub fn cache_is_valid(&self) -> bool {
        self.session_cache.is_valid()
    }

    /// The number of lookups of `SessionStore::liveness` that hit the session cache, and of those that missed it.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        self.session_cache.hits_and_misses()
    }

    /// The number of other nodes that must acknowledge the end of a session.
    pub fn peers(&self) -> usize {
        self.acks.peers()
    }

    /// The time since the last successful synchronization began; none before the first.
    pub fn lag(&self) -> Option<Duration> {
        self.session_cache.lag()
    }

    /// Stops replicating, and announces to peers that this node doesn't use its cache any more.
    pub(super) async fn close(&self) {
        if !self.abort_tasks() {
            return;
        }
        self.announce_shutdown().await;
        if let Err(error) = self.connection.subscriber.quit().await {
            tracing::debug!(
                %error,
                "closing the subscription to the revocation channel at shutdown failed; nothing is lost"
            );
        }
    }

    async fn announce_shutdown(&self) {
        // First: after the heartbeat, peers no longer wait for this node, so it must not use its cache.
        self.session_cache.clear();
        let no_lease = Duration::ZERO;
        let heartbeat = self.acks.heartbeat_message(no_lease);
        ack_tracker::publish(self.connection.client(), &self.connection.channel, heartbeat).await;
    }

    /// Ends the background tasks. Returns whether any had been started.
    fn abort_tasks(&self) -> bool {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().for_each(AbortHandle::abort);
        !tasks.is_empty()
    }

    /// Waits until no other node can call a session active whose end is in the account's bucket, up to `position`. For events
    /// that don't name the waiting node, so that it must request the acknowledgements itself.
    pub(super) async fn confirm_position(&self, pending: PendingAck<'_>, account: AccountId, position: Position) {
        if let Some(request) = pending.request(key::bucket(account), position) {
            ack_tracker::publish(self.connection.client(), &self.connection.channel, request).await;
        }
        pending.confirmed().await;
    }

    /// The revocations of a bucket, a number below [`BUCKETS`], since a time by Redis' clock, oldest first. The boolean says whether
    /// they are complete: entries that this release can't read are omitted.
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
        let entries = synchronizer::read_since(self.connection.client(), stream, since).await?;
        let are_complete = entries.iter().all(Result::is_ok);
        let revocations = entries.into_iter().flatten().map(|entry| entry.revocation).collect();
        Ok((revocations, are_complete))
    }

    /// Appends to the log the retirement of the signing key `kid`, which revokes every token that the key has signed.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn append_key_retired(&self, kid: &str, now: Timestamp) -> Result<(), RedisError> {
        let redis_keys = &self.connection.keys;
        // the bucket whose stream has the events of signing keys
        let bucket = event_entry::KEYS_BUCKET;
        let script_keys = vec![redis_keys.events_of_bucket(bucket), redis_keys.position_of_bucket(bucket)];
        let no_account = "";
        let arguments = vec![self.connection.event_trim_args(), no_account.into(), kid.into(), script::millis(now)];
        script::run(&self.connection.scripts.key_retired, &self.connection, script_keys, arguments).await?;
        Ok(())
    }
}

impl Drop for RevocationLog {
    fn drop(&mut self) {
        self.abort_tasks();
    }
}
