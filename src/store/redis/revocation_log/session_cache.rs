//! Cache of live sessions, and the lease during which its content is valid.
//!
//! A cached session is used only while the node is *synchronized*: it has compared, within its lease, the position of every bucket (a
//! group of accounts) with Redis, and has applied the missing entries (`synchronizer.rs`). The lease lapses by itself, for example when a
//! connection dies silently, when Redis hangs, or when the process is paused. While other nodes don't wait for this one
//! (`ack_state.rs`), the node is synchronized but looks up every session in Redis.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::broadcast;

use super::{
    cursor::{Applied, Cursor},
    event_entry::{Entry, Position},
};
use crate::{
    domain::{
        bounded_map::{BoundedMap, UniformHasher},
        clock::Timestamp,
        event::{FeedMessage, RevocationTarget},
        ids::{AccountId, SessionId},
        session::Liveness,
    },
    metrics::CacheMetrics,
    store::redis::key::{self, BUCKETS},
};

/// The number of messages that are buffered for the subscribers of the feed. A subscriber that is further behind gets the receiver's
/// error `Lagged`.
const FEED_BUFFER: usize = 4096;

/// The session cache of a node (see the module's documentation).
pub(in crate::store::redis) struct SessionCache {
    buckets: Vec<Mutex<Bucket>>,
    lease: Mutex<Lease>,
    /// The end of the period in which cached sessions may be used. Every request on every core reads it, so it has no lock.
    valid_until: AtomicInstant,
    feed: broadcast::Sender<FeedMessage>,
    metrics: CacheMetrics,
}

struct Bucket {
    /// Which entries have been applied, and whether a lookup may insert what it has read.
    cursor: Cursor,
    sessions: BoundedMap<SessionId, (AccountId, Liveness), UniformHasher>,
}

/// The lease of a node: until when it counts as synchronized.
#[derive(Clone, Copy, Default)]
struct Lease {
    synced: Option<Synced>,
    /// When the last successful synchronization began.
    last_sync: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Synced {
    /// The end of the period in which the node counts as synchronized.
    until: Instant,
    /// The time by Redis' clock up to which all entries have been applied.
    watermark: Timestamp,
}

/// A moment, or none, that is read without a lock.
struct AtomicInstant {
    /// The moment from which `nanos` counts.
    origin: Instant,
    /// Nanoseconds after `origin`; 0 for no moment.
    nanos: AtomicU64,
}

impl AtomicInstant {
    fn new() -> Self {
        Self { origin: Instant::now(), nanos: AtomicU64::new(0) }
    }

    fn set(&self, moment: Option<Instant>) {
        let nanos = moment.map_or(0, |moment| self.nanos_of(moment));
        self.nanos.store(nanos, Ordering::SeqCst);
    }

    /// Whether the moment lies in the future.
    fn is_ahead(&self) -> bool {
        self.nanos_of(Instant::now()) < self.nanos.load(Ordering::SeqCst)
    }

    fn nanos_of(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl SessionCache {
    /// Caches up to `capacity` sessions.
    pub(in crate::store::redis) fn new(capacity: usize, metrics: CacheMetrics) -> Self {
        let empty_bucket = || Bucket { cursor: Cursor::default(), sessions: BoundedMap::new(capacity / BUCKETS) };
        let (feed, _) = broadcast::channel(FEED_BUFFER);
        Self {
            buckets: std::iter::repeat_with(|| Mutex::new(empty_bucket())).take(BUCKETS).collect(),
            lease: Mutex::default(),
            valid_until: AtomicInstant::new(),
            feed,
            metrics,
        }
    }

    /// Returns a live session, if it is cached and the cache is valid. Does not return a session that has expired according to the cache:
    /// another node may have extended it.
    pub(in crate::store::redis) fn get(
        &self,
        account: AccountId,
        session: SessionId,
        now: Timestamp,
    ) -> Option<Liveness> {
        let found = self.peek(account, session, now);
        let counter = if found.is_some() { &self.metrics.hits } else { &self.metrics.misses };
        counter.inc();
        found
    }

    /// Counts a hit, for a session found with [`SessionCache::peek`].
    pub(in crate::store::redis) fn count_hit(&self) {
        self.metrics.hits.inc();
    }

    /// As [`SessionCache::get`], without counting a hit or a miss.
    pub(in crate::store::redis) fn peek(
        &self,
        account: AccountId,
        session: SessionId,
        now: Timestamp,
    ) -> Option<Liveness> {
        if !self.is_valid() {
            return None;
        }
        let mut bucket = self.bucket(key::bucket(account));
        let (owner, liveness) = *bucket.sessions.get(&session)?;
        let is_live = now < liveness.idle_ends_at && now < liveness.ends_at;
        (owner == account && is_live).then_some(liveness)
    }

    /// The version to pass to [`SessionCache::insert`], taken before Redis is read. None while the cache is not valid.
    pub(in crate::store::redis) fn version(&self, account: AccountId) -> Option<u64> {
        self.is_valid().then(|| self.bucket(key::bucket(account)).cursor.version())
    }

    /// Caches a live session, unless a session of its bucket may have ended since `version` was taken.
    pub(in crate::store::redis) fn insert(
        &self,
        account: AccountId,
        session: SessionId,
        liveness: Liveness,
        version: u64,
    ) {
        let mut bucket = self.bucket(key::bucket(account));
        if bucket.cursor.may_insert(version) {
            bucket.sessions.insert(session, (account, liveness));
        }
    }

    /// Removes a session that has ended, or may have ended.
    pub(in crate::store::redis) fn remove_session(&self, account: AccountId, session: SessionId) {
        let mut bucket = self.bucket(key::bucket(account));
        // A lookup that has read the session from Redis before must not cache it.
        bucket.cursor.invalidate();
        bucket.sessions.remove(&session);
    }

    /// Removes the sessions of an account, except `except` if given: they have ended, or may have ended.
    pub(in crate::store::redis) fn remove_account(&self, account: AccountId, except: Option<SessionId>) {
        let mut bucket = self.bucket(key::bucket(account));
        bucket.cursor.invalidate();
        bucket.remove_account(account, except);
    }

    /// Subscribes to the revocations that are applied from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<FeedMessage> {
        self.feed.subscribe()
    }

    /// The time, by Redis' clock, up to which every revocation has been applied; none while the node isn't synchronized.
    pub(super) fn synced_at(&self) -> Option<Timestamp> {
        let synced = self.lease().synced?;
        (Instant::now() < synced.until).then_some(synced.watermark)
    }

    /// Whether cached sessions may be used now.
    pub(super) fn is_valid(&self) -> bool {
        self.valid_until.is_ahead()
    }

    /// The number of lookups that hit the cache, and of those that missed it.
    pub(super) fn hits_and_misses(&self) -> (u64, u64) {
        (self.metrics.hits.get(), self.metrics.misses.get())
    }

    /// The last entry of a bucket that has been applied with all before it; none until the first synchronization.
    pub(super) fn position(&self, bucket: usize) -> Option<Position> {
        self.bucket(bucket).cursor.position()
    }

    /// See [`Cursor::reconcile`].
    pub(super) fn reconcile(&self, bucket: usize, before: Option<Position>, redis_position: Position) -> bool {
        self.bucket(bucket).cursor.reconcile(before, redis_position)
    }

    /// See [`Cursor::is_behind`].
    pub(super) fn is_behind(&self, bucket: usize, redis_position: Position) -> bool {
        self.bucket(bucket).cursor.is_behind(redis_position)
    }

    /// Applies an entry whose predecessor is `previous`; `None` if the caller knows that nothing is missing before it. After a gap, the
    /// cached sessions that the entry ends are removed at once, so that the node refuses them. The feed gets the entry only when the
    /// synchronizer has applied the entries before it, since subscribers resume from the last event that they received.
    pub(super) fn apply(&self, entry: Entry, previous: Option<Position>) -> Applied {
        let mut bucket = self.bucket(entry.bucket());
        let applied = bucket.cursor.apply(entry.position, previous);
        if applied == Applied::Duplicate {
            return applied;
        }
        match entry.revocation.target {
            RevocationTarget::Session { session, .. } => bucket.sessions.remove(&session),
            RevocationTarget::Account { account, except, .. } => bucket.remove_account(account, except),
            // The next lookup of each session also reads the version of the claims.
            RevocationTarget::Claims { account, .. } => bucket.remove_account(account, None),
            RevocationTarget::Key { .. } => {}
        }
        if applied == Applied::New {
            // Sent while the bucket is locked, so that all subscribers receive the same order. Fails without subscribers, which is no error.
            let _ = self.feed.send(FeedMessage::Revoked(Arc::new(entry.revocation)));
        }
        applied
    }

    /// Skips an entry that this release can't read. The entry may have ended any session of its bucket, so all of them are removed from
    /// the cache, and the feed reports a loss.
    pub(super) fn skip_unreadable(&self, bucket: usize, position: Position) {
        let mut bucket = self.bucket(bucket);
        // the synchronizer reads the entries in order, so nothing is missing before this one
        if bucket.cursor.apply(position, None) != Applied::Duplicate {
            bucket.sessions.clear();
            let _ = self.feed.send(FeedMessage::Lost);
        }
    }

    /// How long ago the last successful synchronization began; none before the first.
    pub(super) fn lag(&self) -> Option<Duration> {
        self.lease().last_sync.map(|began| began.elapsed())
    }

    /// Extends the lease until `until`, after a synchronization that began at `began` and applied all entries up to `watermark` by Redis'
    /// clock. With `use_cache`, cached sessions may be used until `until`. Otherwise they may be used until the end that an earlier
    /// synchronization has set: peers still wait for the lease that was announced then.
    pub(super) fn extend_lease(&self, began: Instant, until: Instant, watermark: Timestamp, use_cache: bool) {
        let mut lease = self.lease();
        *lease = Lease { synced: Some(Synced { until, watermark }), last_sync: Some(began) };
        if use_cache {
            self.valid_until.set(Some(until));
        }
    }

    /// Stops using the cached sessions. The node stays synchronized.
    pub(super) fn invalidate(&self) {
        self.valid_until.set(None);
    }

    /// Ends the lease and removes all sessions: the node is no longer synchronized.
    pub(super) fn clear(&self) {
        {
            // `extend_lease` holds the same lock: it does not run between the two statements.
            let mut lease = self.lease();
            lease.synced = None;
            self.valid_until.set(None);
        }
        for bucket in 0..self.buckets.len() {
            let mut bucket = self.bucket(bucket);
            bucket.cursor.invalidate();
            bucket.sessions.clear();
        }
    }

    /// Reports to the feed that revocations were lost and can't be read any more.
    pub(super) fn report_loss(&self) {
        let _ = self.feed.send(FeedMessage::Lost);
    }

    fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bucket(&self, bucket: usize) -> MutexGuard<'_, Bucket> {
        self.buckets[bucket].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn remove_account(&mut self, account: AccountId, except: Option<SessionId>) {
        self.sessions.retain(|session, (owner, _)| *owner != account || Some(*session) == except);
    }
}
