//! Compares the applied positions with Redis several times per lease, and reads missing entries from the streams. Correctness
//! rests on the synchronizer; the channel (`subscriber.rs`) only reduces latency.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use fred::{
    clients::{Client, Pool},
    interfaces::{ClientLike, KeysInterface, StreamsInterface},
};
use futures_util::future::try_join_all;
use tokio::sync::Notify;

use super::{
    ack_tracker::{AckTracker, publish},
    event_entry::{Entry, Position},
    session_cache::SessionCache,
    timing::Timing,
};
use crate::{
    domain::clock::Timestamp,
    store::redis::{
        connection::{RedisConnection, RedisError},
        key::{BUCKETS, Keys},
    },
};

/// The number of entries that are read from a stream at a time.
const PAGE_SIZE: u64 = 1000;
/// The delay before entries are read from the streams, so that messages that are on their way on the channel can arrive.
const CHANNEL_DELAY: Duration = Duration::from_millis(10);
/// The minimum pause between two synchronizations.
const MIN_PAUSE: Duration = Duration::from_millis(5);
/// How much earlier than calculated a key may have expired, because clocks and TTLs are not exact.
const EXPIRY_SLACK: Duration = Duration::from_secs(1);

/// Synchronizes until it is aborted.
pub(super) struct Synchronizer {
    pub(super) connection: Arc<RedisConnection>,
    pub(super) pool: Pool,
    pub(super) keys: Keys,
    /// The keys of all buckets' positions.
    pub(super) position_keys: Vec<String>,
    pub(super) cache: Arc<SessionCache>,
    pub(super) acks: Arc<AckTracker>,
    pub(super) channel: String,
    /// Whether this node caches sessions.
    pub(super) caches_sessions: bool,
    /// Notified when the next synchronization must not wait for the interval.
    pub(super) wake: Arc<Notify>,
    pub(super) timing: Timing,
    pub(super) event_retention: Duration,
}

impl Synchronizer {
    /// Synchronizes in intervals, and at once when woken.
    pub(super) async fn run(self) {
        let mut synced = false;
        loop {
            let result = tokio::time::timeout(self.timing.cache_validity(), self.synchronize()).await;
            let error = match result {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("no answer from Redis in time".to_owned()),
            };
            if error.is_some() {
                self.cache.clear();
            }
            // Only changes are logged.
            let was_synced = std::mem::replace(&mut synced, error.is_none());
            match error {
                None if !was_synced => {
                    tracing::info!("revocation log synchronized with Redis: this node has received every revocation")
                }
                Some(error) if was_synced => tracing::warn!(
                    error,
                    "revocation log out of sync with Redis, retrying: this node caches no sessions, and disconnects its feed \
                     subscribers after 5 s. If this lasts, check the connection to Redis (`latchkey doctor`)"
                ),
                _ => {}
            }
            // not interrupted by `wake`, so that many wake-ups cause one synchronization
            tokio::time::sleep(MIN_PAUSE).await;
            let _ = tokio::time::timeout(self.pause().saturating_sub(MIN_PAUSE), self.wake.notified()).await;
        }
    }

    /// The pause before the next synchronization: the usual interval, or the rest of the probation if the rest is shorter.
    fn pause(&self) -> Duration {
        let interval = self.timing.sync_interval();
        let Some(probation_end) = self.acks.cache_usable_from() else { return interval };
        let rest = probation_end.saturating_duration_since(Instant::now());
        if rest.is_zero() { interval } else { rest.min(interval) }
    }

    /// Synchronizes once. On success, every entry that was in Redis at the start has been applied.
    async fn synchronize(&self) -> Result<(), RedisError> {
        let client = self.pool.next();
        let applied_positions: Vec<_> = (0..BUCKETS).map(|bucket| self.cache.position(bucket)).collect();
        let began = Instant::now();
        // the time by Redis' clock before the positions are read
        let watermark = self.connection.clock.measure(client).await?;
        let redis_positions = self.positions(client).await?;

        let mut lost = false;
        for (bucket, (applied, redis_position)) in applied_positions.iter().zip(&redis_positions).enumerate() {
            let entries_are_gone = self.cache.reconcile(bucket, *applied, *redis_position);
            // Redis no longer has entries that this node applied. It has lost them, unless they are old enough to have expired.
            if entries_are_gone {
                lost |= !applied.is_some_and(|applied| self.has_expired(applied, *redis_position, watermark));
            }
        }
        let mut behind = self.buckets_behind(&redis_positions);
        if !behind.is_empty() {
            tokio::time::sleep(CHANNEL_DELAY).await;
            behind = self.buckets_behind(&redis_positions);
        }
        for bucket in behind {
            lost |= !self.apply_missing(client, bucket).await?;
        }
        if lost {
            tracing::warn!(
                "Redis has lost revocations: sessions that had ended may be live again. The session cache is cleared, and feed \
                 subscribers get a new snapshot. Check whether Redis restarted, failed over or was restored, and its appendonly \
                 and appendfsync settings; `latchkey session revoke --everyone` ends all sessions"
            );
            self.cache.clear();
            self.cache.report_loss();
        }
        self.acks.send_confirmations(|bucket| self.cache.position(bucket));
        let use_cache = self.caches_sessions && self.announce(client).await;
        self.cache.extend_lease(began, began + self.timing.cache_validity(), watermark, use_cache);
        Ok(())
    }

    /// Sends a heartbeat with this node's lease, and a ping. Returns whether the node may use its cache, because all peers wait for it.
    async fn announce(&self, client: &Client) -> bool {
        let lease = if self.acks.channel_is_healthy() { self.timing.announced_lease() } else { Duration::ZERO };
        if lease.is_zero() {
            // Must precede the heartbeat, after which peers no longer wait for this node.
            self.cache.invalidate();
        }
        let sent = Instant::now();
        let published = publish(client, &self.channel, self.acks.heartbeat_message(lease)).await;
        if published {
            self.acks.on_heartbeat_published(lease, sent);
        }
        publish(client, &self.acks.own_channel(&self.channel), self.acks.ping_message()).await;
        published && self.acks.cache_usable_from().is_some_and(|from| from <= Instant::now())
    }

    /// Whether Redis has no position of a bucket because the bucket's last entry, `applied`, has expired.
    fn has_expired(&self, applied: Position, redis_position: Position, now: Timestamp) -> bool {
        let appended = Timestamp::from_millis(i64::try_from(applied.millis).unwrap_or(i64::MAX));
        redis_position.is_zero() && now + EXPIRY_SLACK >= appended + self.event_retention
    }

    /// The buckets whose cursor is behind Redis.
    fn buckets_behind(&self, redis_positions: &[Position]) -> Vec<usize> {
        (0..BUCKETS).filter(|bucket| self.cache.is_behind(*bucket, redis_positions[*bucket])).collect()
    }

    /// The positions of all buckets in Redis.
    async fn positions(&self, client: &Client) -> Result<Vec<Position>, RedisError> {
        let keys = self.position_keys.clone();
        let texts: Vec<Option<String>> = if client.is_clustered() {
            // Each key is in a slot of its own.
            try_join_all(keys.into_iter().map(|key| client.get(key))).await?
        } else {
            client.mget(keys).await?
        };
        let parse = |text: Option<String>| {
            let text = text.unwrap_or_default();
            Position::parse(&text).ok_or_else(|| RedisError::Unexpected(format!("malformed bucket position {text}")))
        };
        texts.into_iter().map(parse).collect()
    }

    /// Applies the missing entries of a bucket. Returns false if the stream lacks some of them.
    async fn apply_missing(&self, client: &Client, bucket: usize) -> Result<bool, RedisError> {
        let Some(applied) = self.cache.position(bucket) else { return Ok(false) }; // `reconcile` has set it
        // The read begins with the entry that was applied last: nothing is missing if the stream still has it, or if no entry was
        // applied yet.
        let mut complete = applied.is_zero();
        let mut from = applied.to_string();
        loop {
            let entries = read(client, self.keys.events_of_bucket(bucket), &from).await?;
            let is_full_page = entries.len() as u64 >= PAGE_SIZE;
            for entry in entries {
                let position = entry.as_ref().map_or_else(|position| *position, |entry| entry.position);
                complete |= position == applied;
                // The next page begins after this position: in Redis, `(` excludes the position itself.
                from = format!("({position}");
                match entry {
                    Ok(entry) => {
                        let nothing_is_missing_before = None;
                        self.cache.apply(entry, nothing_is_missing_before);
                    }
                    // the entry where the read began, which was skipped before
                    Err(_) if position <= applied => {}
                    Err(_) => {
                        tracing::warn!(
                            %position,
                            bucket,
                            "a revocation can't be read, perhaps because a newer release has written it. It is in force: cached sessions that \
                             it may concern are looked up again, and feed subscribers get a new snapshot. Upgrade all nodes to one release; report \
                             it if they run one"
                        );
                        self.cache.skip_unreadable(bucket, position);
                    }
                }
            }
            if !is_full_page {
                return Ok(complete);
            }
        }
    }
}

/// Reads at most [`PAGE_SIZE`] entries of a stream, beginning at `from`. The inner error is the position of an unreadable entry.
async fn read(client: &Client, stream: String, from: &str) -> Result<Vec<Result<Entry, Position>>, RedisError> {
    let entries: Vec<(String, HashMap<String, String>)> =
        client.xrange_values(stream, from.to_owned(), "+", Some(PAGE_SIZE)).await?;
    entries.iter().map(|(id, fields)| Entry::parse_stream(id, fields)).collect()
}

/// Reads all entries of a stream since a time by Redis' clock. The inner error is the position of an unreadable entry.
pub(super) async fn read_since(
    client: &Client,
    stream: String,
    since: Timestamp,
) -> Result<Vec<Result<Entry, Position>>, RedisError> {
    let mut from = since.as_millis().max(0).to_string();
    let mut all = Vec::new();
    loop {
        let entries = read(client, stream.clone(), &from).await?;
        let is_full_page = entries.len() as u64 >= PAGE_SIZE;
        if let Some(last) = entries.last() {
            // The next page begins after the last entry of this page.
            from = format!("({}", last.as_ref().map_or_else(|position| *position, |entry| entry.position));
        }
        all.extend(entries);
        if !is_full_page {
            return Ok(all);
        }
    }
}
