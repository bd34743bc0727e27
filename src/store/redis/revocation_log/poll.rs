//! Compares, several times a second, what this node has applied with what there is in Redis, and reads what is missing
//! from the streams. This is what makes memory true; what is published on the channel (`listen.rs`) only makes it quick.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use fred::{
    clients::{Client, Pool},
    interfaces::{ClientLike, KeysInterface, StreamsInterface},
    types::{ClusterHash, CustomCommand},
};
use futures_util::future::try_join_all;
use tokio::sync::Notify;

use super::{
    acknowledge::{self, Acknowledgements},
    entry::{Entry, Position},
    session_cache::{SessionCache, lease_of},
};
use crate::{
    domain::clock::Timestamp,
    store::redis::{
        connection::RedisError,
        key::{BUCKETS, Keys},
    },
};

/// How many entries are read at a time.
const PAGE: u64 = 1000;
/// How long what is on its way on the channel gets to arrive before it is read from the streams.
const IN_FLIGHT: Duration = Duration::from_millis(10);
/// The least pause between two looks, whatever calls for them.
const PAUSE: Duration = Duration::from_millis(5);
/// How far Redis may be late in expiring a key.
const EXPIRY_SLACK: Duration = Duration::from_secs(1);

/// Looks for as long as it isn't aborted.
pub(super) struct Poller {
    pub(super) pool: Pool,
    pub(super) keys: Keys,
    /// The keys of all positions.
    pub(super) positions: Vec<String>,
    pub(super) session_cache: Arc<SessionCache>,
    pub(super) acknowledgements: Arc<Acknowledgements>,
    /// Where this node says that it is here.
    pub(super) channel: String,
    /// Whether sessions are remembered at all.
    pub(super) remembers: bool,
    /// Calls for a look at once.
    pub(super) wake: Arc<Notify>,
    pub(super) max_staleness: Duration,
    pub(super) event_retention: Duration,
}

impl Poller {
    pub(super) async fn run(self) {
        let every = self.max_staleness / 5;
        let mut in_step = false;
        loop {
            let looked = tokio::time::timeout(lease_of(self.max_staleness), self.look()).await;
            let error = match looked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("it took too long".to_owned()),
            };
            match error {
                None if !in_step => {
                    in_step = true;
                    tracing::info!("in step with the revocations");
                }
                None => {}
                Some(error) => {
                    self.session_cache.clear();
                    if in_step {
                        in_step = false;
                        tracing::warn!(error, "out of step with the revocations; Redis is asked about every session");
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
            let _ = tokio::time::timeout(every.saturating_sub(PAUSE), self.wake.notified()).await;
        }
    }

    /// Gets in step once: when this has succeeded, everything that was in Redis when it began has been applied.
    async fn look(&self) -> Result<(), RedisError> {
        let client = self.pool.next();
        let known: Vec<_> = (0..BUCKETS).map(|bucket| self.session_cache.position(bucket)).collect();
        let asked = Instant::now();
        let time = self.time(client).await?;
        let there = self.positions(client).await?;

        let mut lost = false;
        for (bucket, (known, there)) in known.iter().zip(&there).enumerate() {
            match known {
                None => self.session_cache.set_position(bucket, *there),
                // What was applied before Redis was asked must be there still, unless it has expired.
                Some(known) if there < known => {
                    let expires = Timestamp::from_millis(i64::try_from(known.millis).unwrap_or(i64::MAX));
                    lost |= !(there.is_none() && time + EXPIRY_SLACK >= expires + self.event_retention);
                    if self.session_cache.position(bucket) == Some(*known) {
                        self.session_cache.set_position(bucket, *there);
                    }
                }
                Some(_) => {}
            }
        }
        let mut behind = self.behind(&there);
        if !behind.is_empty() {
            tokio::time::sleep(IN_FLIGHT).await;
            behind = self.behind(&there);
        }
        for bucket in behind {
            lost |= !self.fill(client, bucket).await?;
        }
        if lost {
            tracing::warn!("Redis has lost revocations: what was remembered is forgotten");
            self.session_cache.clear();
            self.session_cache.send_lost();
        }
        let remembers = self.remembers && self.acknowledgements.hears(self.max_staleness / 2);
        if !remembers {
            // before the others are told that nobody needs to wait for this node
            self.session_cache.invalidate();
        }
        if self.remembers {
            let lease = if remembers { self.max_staleness } else { Duration::ZERO };
            acknowledge::publish(client, &self.channel, self.acknowledgements.here(lease)).await;
        }
        self.session_cache.extclear(asked, self.max_staleness, time, remembers);
        Ok(())
    }

    fn behind(&self, there: &[Position]) -> Vec<usize> {
        let is_behind =
            |bucket: &usize| self.session_cache.position(*bucket).is_none_or(|known| known < there[*bucket]);
        (0..BUCKETS).filter(is_behind).collect()
    }

    /// Redis' clock.
    async fn time(&self, client: &Client) -> Result<Timestamp, RedisError> {
        let command = CustomCommand::new_static("TIME", ClusterHash::Random, false);
        let (seconds, micros): (i64, i64) = client.custom(command, Vec::<String>::new()).await?;
        Ok(Timestamp::from_millis(seconds * 1000 + micros / 1000))
    }

    /// The last entries of all streams.
    async fn positions(&self, client: &Client) -> Result<Vec<Position>, RedisError> {
        let keys = self.positions.clone();
        let texts: Vec<Option<String>> = if client.is_clustered() {
            // each in a slot of its own
            try_join_all(keys.into_iter().map(|key| client.get(key))).await?
        } else {
            client.mget(keys).await?
        };
        let parse = |text: Option<String>| {
            let text = text.unwrap_or_default();
            Position::parse(&text)
                .ok_or_else(|| RedisError::Unexpected(format!("a position that can't be read, {text}")))
        };
        texts.into_iter().map(parse).collect()
    }

    /// Applies what is missing of a bucket; says whether that was all there ever was.
    async fn fill(&self, client: &Client, bucket: usize) -> Result<bool, RedisError> {
        let Some(known) = self.session_cache.position(bucket) else { return Ok(false) };
        let mut whole = known.is_none();
        let mut from = known.to_string();
        loop {
            let entries = read(client, self.keys.events_of_bucket(bucket), &from).await?;
            let full = entries.len() as u64 >= PAGE;
            for entry in entries {
                let position = entry.as_ref().map_or_else(|position| *position, |entry| entry.position);
                whole |= position == known;
                from = format!("({position}");
                match entry {
                    Ok(entry) => {
                        self.session_cache.apply(entry, None);
                    }
                    Err(_) if position <= known => {}
                    Err(_) => {
                        tracing::warn!(%position, bucket, "a revocation can't be read: is it a newer release's? What it may be about is forgotten");
                        self.session_cache.skip_unreadable(bucket, position);
                    }
                }
            }
            if !full {
                return Ok(whole);
            }
        }
    }
}

/// Entries from a position on, at most [`PAGE`] of them; of those that can't be read, where they stand.
async fn read(client: &Client, stream: String, from: &str) -> Result<Vec<Result<Entry, Position>>, RedisError> {
    let entries: Vec<(String, HashMap<String, String>)> =
        client.xrange_values(stream, from.to_owned(), "+", Some(PAGE)).await?;
    entries.iter().map(|(id, fields)| Entry::read(id, fields)).collect()
}

/// All entries of a stream since a time by Redis' clock; of those that can't be read, where they stand.
pub(super) async fn read_since(
    client: &Client,
    stream: String,
    since: Timestamp,
) -> Result<Vec<Result<Entry, Position>>, RedisError> {
    let mut from = since.as_millis().max(0).to_string();
    let mut all = Vec::new();
    loop {
        let entries = read(client, stream.clone(), &from).await?;
        let full = entries.len() as u64 >= PAGE;
        if let Some(last) = entries.last() {
            from = format!("({}", last.as_ref().map_or_else(|position| *position, |entry| entry.position));
        }
        all.extend(entries);
        if !full {
            return Ok(all);
        }
    }
}
