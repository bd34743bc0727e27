//! What a node remembers of sessions that live, and up to when that is known to be true.
//!
//! A remembered session is believed only while the node is *in step*: within the last moments it has compared, for every
//! bucket, the last revocation it knows with the last there is (`poll.rs`), and has applied all of them. That is a lease
//! that ends by itself: a connection that dies in silence, a Redis that hangs, a process that was stopped all end it.
//! A node that is in step but can't hear the others asks Redis each time, since nobody waits for it (`acknowledge.rs`).

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::broadcast;

use super::entry::{Entry, Position};
use crate::{
    domain::{
        bounded_map::{AsRandom, BoundedMap},
        clock::Timestamp,
        event::{FeedMessage, RevocationTarget},
        ids::{AccountId, SessionId},
        session::Liveness,
    },
    metrics::CacheMetrics,
    store::redis::key::{self, BUCKETS},
};

/// How many tellings wait for the slowest listener before it is told that it is too slow.
const TELLINGS: usize = 4096;

/// See the module.
pub(in crate::store::redis) struct SessionCache {
    buckets: Vec<Mutex<Bucket>>,
    lease: Mutex<Option<Lease>>,
    /// Until when what is remembered is believed, as the lease says: looked at with every request, on every core, and so
    /// without a lock.
    believed: Until,
    told: broadcast::Sender<FeedMessage>,
    cache: CacheMetrics,
    /// When the last look began that found everything applied in the end.
    looked: Mutex<Option<Instant>>,
}

struct Bucket {
    /// The last revocation that was applied; none until the first look at what there is.
    position: Option<Position>,
    /// Grows with everything that may have ended a session: what was read before isn't remembered after.
    version: u64,
    sessions: BoundedMap<SessionId, (AccountId, Liveness), AsRandom>,
}

#[derive(Clone, Copy)]
struct Lease {
    until: Instant,
    watermark: Timestamp,
}

/// A moment, or none, that is read without a lock.
struct Until {
    /// What it is counted from.
    origin: Instant,
    /// Nanoseconds after that; 0 for none.
    nanos: AtomicU64,
}

impl Default for Until {
    fn default() -> Self {
        Self { origin: Instant::now(), nanos: AtomicU64::new(0) }
    }
}

impl Until {
    fn set(&self, until: Option<Instant>) {
        let nanos = until.map_or(0, |until| self.nanos_of(until));
        self.nanos.store(nanos, Ordering::SeqCst);
    }

    fn lies_ahead(&self) -> bool {
        self.nanos_of(Instant::now()) < self.nanos.load(Ordering::SeqCst)
    }

    fn nanos_of(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What came of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// It is known now.
    New,
    /// It was known.
    Known,
    /// There are others before it that aren't known.
    Gap,
}

impl SessionCache {
    /// Remembers up to `most` sessions.
    pub(in crate::store::redis) fn new(most: usize, cache: CacheMetrics) -> Self {
        let bucket = || Bucket { position: None, version: 0, sessions: BoundedMap::new(most / BUCKETS) };
        Self {
            buckets: std::iter::repeat_with(|| Mutex::new(bucket())).take(BUCKETS).collect(),
            lease: Mutex::new(None),
            believed: Until::default(),
            told: broadcast::channel(TELLINGS).0,
            cache,
            looked: Mutex::new(None),
        }
    }

    /// A session that lives, if this is known for sure. One that looks as if it were over isn't: another node may have
    /// prolonged it.
    pub(in crate::store::redis) fn get(
        &self,
        account: AccountId,
        session: SessionId,
        now: Timestamp,
    ) -> Option<Liveness> {
        let recalled = self.peek(account, session, now);
        let counter = if recalled.is_some() { &self.cache.hits } else { &self.cache.misses };
        counter.inc();
        recalled
    }

    /// That a session was remembered, for those who looked with [`SessionCache::known`].
    pub(in crate::store::redis) fn count_hit(&self) {
        self.cache.hits.inc();
    }

    /// As [`SessionCache::recall`], and nothing is counted.
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
        (owner == account && now < liveness.idle_ends_at.min(liveness.ends_at)).then_some(liveness)
    }

    /// To be taken before Redis is asked, for [`SessionCache::remember`]; none while nothing can be remembered.
    pub(in crate::store::redis) fn version(&self, account: AccountId) -> Option<u64> {
        self.is_valid().then(|| self.bucket(key::bucket(account)).version)
    }

    /// Remembers that a session lives, unless anything in its bucket may have ended since `as_of`.
    pub(in crate::store::redis) fn insert(
        &self,
        account: AccountId,
        session: SessionId,
        liveness: Liveness,
        as_of: u64,
    ) {
        let mut bucket = self.bucket(key::bucket(account));
        if bucket.version == as_of {
            bucket.sessions.insert(session, (account, liveness));
        }
    }

    /// One session is over, or may be.
    pub(in crate::store::redis) fn remove_session(&self, account: AccountId, session: SessionId) {
        let mut bucket = self.bucket(key::bucket(account));
        bucket.version += 1;
        bucket.sessions.remove(&session);
    }

    /// Every session of an account is over, or may be, but perhaps one.
    pub(in crate::store::redis) fn remove_account(&self, account: AccountId, except: Option<SessionId>) {
        self.bucket(key::bucket(account)).remove_account(account, except);
    }

    /// What is told from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<FeedMessage> {
        self.told.subscribe()
    }

    /// Up to when, by Redis' clock, everything has been applied; none while this isn't known.
    pub(super) fn synced_at(&self) -> Option<Timestamp> {
        self.lease().map(|lease| lease.watermark)
    }

    /// Whether what is remembered is believed now.
    pub(super) fn is_valid(&self) -> bool {
        self.believed.lies_ahead()
    }

    /// How often sessions were remembered, and how often not.
    pub(super) fn hits_and_misses(&self) -> (u64, u64) {
        (self.cache.hits.get(), self.cache.misses.get())
    }

    /// The last revocation applied in a bucket.
    pub(super) fn position(&self, bucket: usize) -> Option<Position> {
        self.bucket(bucket).position
    }

    /// From here on entries are applied.
    pub(super) fn set_position(&self, bucket: usize, position: Position) {
        self.bucket(bucket).position = Some(position);
    }

    /// Applies an entry whose predecessor is `before`; none if it is sure that there is nothing missing before it.
    pub(super) fn apply(&self, entry: Entry, before: Option<Position>) -> Applied {
        let mut bucket = self.bucket(entry.bucket());
        if bucket.position.is_some_and(|position| entry.position <= position) {
            return Applied::Known;
        }
        // even if others before it aren't known: it is told after them, but true at once
        match entry.revocation.target {
            RevocationTarget::Session { session, .. } => {
                bucket.version += 1;
                bucket.sessions.remove(&session);
            }
            RevocationTarget::Account { account, except, .. } => bucket.remove_account(account, except),
            RevocationTarget::Key { .. } => {}
        }
        if bucket.position.is_none() || before.is_some_and(|before| Some(before) != bucket.position) {
            return Applied::Gap;
        }
        bucket.position = Some(entry.position);
        // while the bucket is locked, so that all hear the same order; nobody listening is no error
        let _ = self.told.send(FeedMessage::Revoked(Arc::new(entry.revocation)));
        Applied::New
    }

    /// Passes over an entry that can't be read. It may have ended anything in its bucket: what was remembered there is
    /// forgotten, and it is told that something can't be told.
    pub(super) fn skip_unreadable(&self, number: usize, position: Position) {
        let mut bucket = self.bucket(number);
        if bucket.position.is_some_and(|known| position <= known) {
            return;
        }
        bucket.version += 1;
        bucket.sessions.clear();
        bucket.position = Some(position);
        let _ = self.told.send(FeedMessage::Lost);
    }

    /// How long ago everything there was is sure to have been applied; none until the first look.
    pub(super) fn lag(&self) -> Option<Duration> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).map(|looked| looked.elapsed())
    }

    /// In step with Redis for as long as a look that began when it was `asked` allows: everything up to `watermark` by Redis' clock has been applied. What is remembered
    /// is believed only if this node `remembers`.
    pub(super) fn extclear(&self, asked: Instant, max_staleness: Duration, watermark: Timestamp, remembers: bool) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        let until = asked + lease_of(max_staleness);
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        *lease = Some(Lease { until, watermark });
        self.believed.set(remembers.then_some(until));
    }

    /// In step as long as before, but what is remembered isn't believed any more.
    pub(super) fn invalidate(&self) {
        self.believed.set(None);
    }

    /// Out of step: whether sessions live isn't known any more.
    pub(super) fn clear(&self) {
        {
            let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
            *lease = None;
            self.believed.set(None);
        }
        for bucket in &self.buckets {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.version += 1;
            bucket.sessions.clear();
        }
    }

    /// Revocations were lost and can't be had any more.
    pub(super) fn send_lost(&self) {
        let _ = self.told.send(FeedMessage::Lost);
    }

    fn lease(&self) -> Option<Lease> {
        let lease = *self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        lease.filter(|lease| Instant::now() < lease.until)
    }

    fn bucket(&self, bucket: usize) -> MutexGuard<'_, Bucket> {
        self.buckets[bucket].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn remove_account(&mut self, account: AccountId, except: Option<SessionId>) {
        self.version += 1;
        self.sessions.retain(|session, (owner, _)| *owner != account || Some(*session) == except);
    }
}

/// For how long after Redis was asked its answer holds, of the most that an answer may be out of date.
pub(super) fn lease_of(max_staleness: Duration) -> Duration {
    max_staleness / 10 * 9
}
