//! The revocation feed: a snapshot of the revocations that still matter, or those missed since a position, then each
//! revocation as it happens.
//!
//! A subscriber costs no memory but its position in the node's broadcast. One that reads too slowly to keep that position is
//! disconnected, and resumes from its last event when it reconnects.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{Stream, future::try_join_all, stream};
use tokio::{
    sync::{
        broadcast::{
            Receiver,
            error::{RecvError, TryRecvError},
        },
        mpsc,
    },
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    domain::{
        client::ClientId,
        clock::Timestamp,
        event::{FeedMessage, Revocation},
    },
    state::{AppState, feed::NotAdmitted},
    store::redis::{RedisError, key::BUCKETS},
};

/// Difference of clocks by which a revocation outlives the tokens it affects.
const MARGIN: Duration = Duration::from_secs(5);
/// Period before a resumed subscriber's position whose revocations are sent again: the clocks of Redis nodes differ, and a
/// replica may have been promoted.
const RESUME_OVERLAP: Duration = Duration::from_secs(5);
/// How long a new subscriber waits for this node to synchronize with Redis.
const SYNC_TIMEOUT: Duration = Duration::from_secs(3);
/// How long this node may be out of sync before it disconnects its subscribers, who then try another node.
const DESYNC_LIMIT: Duration = Duration::from_secs(5);
/// Interval at which a waiting subscriber checks whether this node has synchronized.
const SYNC_POLL: Duration = Duration::from_millis(20);
/// How long a subscriber may take to read a snapshot.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_mins(2);
/// Streams that are read concurrently for one subscriber.
const CONCURRENT_STREAMS: usize = 8;

/// The detail of the event `gap` after Redis has lost revocations.
const LOST: &str = "Redis has lost revocations";

/// The point in time, by Redis' clock, up to which a subscriber has received every revocation. Its text is opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedPosition(Timestamp);

impl FeedPosition {
    /// The point in time.
    pub fn time(self) -> Timestamp {
        self.0
    }

    /// Parses the text that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("1-").filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
        digits.parse().ok().map(Timestamp::from_millis).map(Self)
    }
}

impl fmt::Display for FeedPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1-{}", self.0.as_millis())
    }
}

/// An event of the feed.
#[derive(Clone, Debug)]
pub enum Event {
    /// All revocations that still matter follow.
    Snapshot,
    /// The revocations since the subscriber's position follow.
    Resumed,
    /// Sessions ended. May be repeated; a repetition has no effect.
    Revocation(Arc<Revocation>),
    /// The snapshot, or the missed revocations, are complete.
    Live(FeedPosition),
    /// Every revocation up to this position was sent.
    Heartbeat(FeedPosition),
    /// Revocations are missing, for this reason; a snapshot follows.
    Gap(&'static str),
}

/// Why a subscription was refused.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The node has `feed.max_subscribers` subscribers.
    #[error("the node has as many subscribers as feed.max_subscribers allows")]
    NodeFull,
    /// The client has `feed.max_subscribers_per_client` subscribers on this node.
    #[error("the client has as many subscribers as feed.max_subscribers_per_client allows")]
    ClientFull,
    /// This node is not synchronized with Redis.
    #[error("the node is not synchronized with Redis")]
    NotSynced,
}

impl From<NotAdmitted> for SubscribeError {
    fn from(refusal: NotAdmitted) -> Self {
        match refusal {
            NotAdmitted::NodeFull => Self::NodeFull,
            NotAdmitted::ClientFull => Self::ClientFull,
        }
    }
}

/// The retention of revocations: afterwards every affected token has expired.
pub fn retention(state: &AppState) -> Duration {
    state.config.token.access_ttl + state.config.token.leeway + MARGIN
}

/// Subscribes a client to the feed: from the id of its last event on, or with a snapshot. The stream ends when the node can no
/// longer send every revocation, when the client reads too slowly, and when it is disabled.
///
/// # Errors
/// [`SubscribeError`]
pub async fn subscribe(
    state: Arc<AppState>,
    client: &ClientId,
    last: Option<&str>,
) -> Result<impl Stream<Item = Event> + Send + 'static, SubscribeError> {
    let seat = state.feed_subscribers.admit(client)?;
    let now = wait_for_sync(&state, SYNC_TIMEOUT).await.ok_or(SubscribeError::NotSynced)?;
    let start =
        last.map_or(StreamStart::Snapshot, |last| StreamStart::of(last, now, state.config.redis.event_retention));
    // Events are produced only as the stream is polled, so that at most one waits for a slow reader.
    let (events, mut receiver) = mpsc::channel(1);
    let subscriber = Subscriber { state, client: client.clone(), events };
    let mut producer = Some(Box::pin(async move {
        let _seat = seat;
        if let Err(ended) = subscriber.follow(start).await {
            tracing::info!(client = %subscriber.client, %ended, "revocation feed: subscriber disconnected");
        }
    }));
    Ok(stream::poll_fn(move |cx| {
        if producer.as_mut().is_some_and(|producer| producer.as_mut().poll(cx).is_ready()) {
            producer = None;
        }
        receiver.poll_recv(cx)
    }))
}

/// The start of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamStart {
    /// With a snapshot: the subscriber is new.
    Snapshot,
    /// At a position.
    Position(FeedPosition),
    /// With a snapshot, because the position can't be resumed from, for this reason.
    Gap(&'static str),
}

impl StreamStart {
    fn of(last: &str, now: Timestamp, retention: Duration) -> Self {
        match FeedPosition::parse(last) {
            None => Self::Gap("the last event id was not issued by this service"),
            Some(FeedPosition(time)) if time > now + RESUME_OVERLAP => Self::Gap("the last event id is in the future"),
            Some(FeedPosition(time)) if time < now + RESUME_OVERLAP - retention => {
                Self::Gap("the last event id is older than the retained revocations")
            }
            Some(position) => Self::Position(position),
        }
    }
}

/// Why a subscription ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the client reads too slowly")]
    TooSlow,
    #[error("the client was disabled")]
    Disabled,
    #[error("the node is not synchronized with Redis")]
    NotSynced,
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("the connection was closed")]
    Closed,
}

/// The result of sending the queued messages.
enum Drained {
    Complete,
    Lost,
    Lagged,
}

struct Subscriber {
    state: Arc<AppState>,
    client: ClientId,
    events: mpsc::Sender<Event>,
}

impl Subscriber {
    async fn follow(&self, start: StreamStart) -> Result<(), Ended> {
        let mut since = match start {
            StreamStart::Position(FeedPosition(time)) => {
                self.send(Event::Resumed).await?;
                Some(time - RESUME_OVERLAP)
            }
            StreamStart::Snapshot => self.start_snapshot(None).await?,
            StreamStart::Gap(why) => self.start_snapshot(Some(why)).await?,
        };
        loop {
            let catching_up = timeout(SNAPSHOT_TIMEOUT, self.catch_up(since));
            let mut messages = catching_up.await.unwrap_or(Err(Ended::TooSlow))?;
            self.live(&mut messages).await?;
            since = self.start_snapshot(Some(LOST)).await?;
        }
    }

    async fn start_snapshot(&self, gap: Option<&'static str>) -> Result<Option<Timestamp>, Ended> {
        if let Some(why) = gap {
            self.send(Event::Gap(why)).await?;
        }
        self.send(Event::Snapshot).await?;
        Ok(None)
    }

    /// Sends the revocations since a time by Redis' clock, or all that still matter. Returns the receiver of the following ones.
    async fn catch_up(&self, mut since: Option<Timestamp>) -> Result<Receiver<FeedMessage>, Ended> {
        'restart: loop {
            // Subscribes before it reads, so that a revocation in between is sent twice rather than never.
            let mut messages = self.state.redis.revocation_log.subscribe();
            let position = wait_for_sync(&self.state, DESYNC_LIMIT).await.ok_or(Ended::NotSynced)?;
            let from = since.unwrap_or(position - retention(&self.state));
            for first in (0..BUCKETS).step_by(CONCURRENT_STREAMS) {
                let (revocations, whole) = self.read(first, from).await?;
                if !whole && since.is_some() {
                    // A snapshot has all that Redis still holds.
                    since = self.start_snapshot(Some(LOST)).await?;
                    continue 'restart;
                }
                for revocation in revocations {
                    self.send(Event::Revocation(Arc::new(revocation))).await?;
                }
            }
            match self.drain(&mut messages).await? {
                Drained::Complete => {
                    self.send(Event::Live(FeedPosition(position))).await?;
                    return Ok(messages);
                }
                // The receiver was full: the missed revocations are read from the streams.
                Drained::Lagged => since = Some(position - RESUME_OVERLAP),
                Drained::Lost => since = self.start_snapshot(Some(LOST)).await?,
            }
        }
    }

    /// Reads some streams, in a task of its own: a slow subscriber must not hold a reader's permit.
    async fn read(&self, first: usize, since: Timestamp) -> Result<(Vec<Revocation>, bool), Ended> {
        let state = Arc::clone(&self.state);
        let reading = tokio::spawn(async move {
            let _permit = state.feed_subscribers.reader().await;
            let buckets = first..BUCKETS.min(first + CONCURRENT_STREAMS);
            try_join_all(buckets.map(|bucket| state.redis.revocation_log.revocations_since(bucket, since))).await
        });
        let read = reading.await.map_err(|_| Ended::Closed)??;
        let whole = read.iter().all(|(_, whole)| *whole);
        Ok((read.into_iter().flat_map(|(revocations, _)| revocations).collect(), whole))
    }

    /// Sends revocations and heartbeats until revocations are lost.
    async fn live(&self, messages: &mut Receiver<FeedMessage>) -> Result<(), Ended> {
        let mut heartbeats = interval(self.state.config.feed.heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut synced_at = Instant::now();
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Ok(FeedMessage::Revoked(revocation)) => self.send(Event::Revocation(revocation)).await?,
                    Ok(FeedMessage::Lost) => return Ok(()),
                    Err(RecvError::Lagged(_)) => return Err(Ended::TooSlow),
                    Err(RecvError::Closed) => return Err(Ended::Closed),
                },
                _ = heartbeats.tick() => {
                    if !self.state.clients.is_enabled(self.client.as_str()) {
                        return Err(Ended::Disabled);
                    }
                    // The messages queued before the position was read belong before it.
                    match self.state.redis.revocation_log.synced_at() {
                        Some(position) => match self.drain(messages).await? {
                            Drained::Complete => {
                                self.send(Event::Heartbeat(FeedPosition(position))).await?;
                                synced_at = Instant::now();
                            }
                            Drained::Lost => return Ok(()),
                            Drained::Lagged => return Err(Ended::TooSlow),
                        },
                        None if synced_at.elapsed() > DESYNC_LIMIT => return Err(Ended::NotSynced),
                        None => {}
                    }
                }
            }
        }
    }

    /// Sends the queued messages.
    async fn drain(&self, messages: &mut Receiver<FeedMessage>) -> Result<Drained, Ended> {
        loop {
            match messages.try_recv() {
                Ok(FeedMessage::Revoked(revocation)) => self.send(Event::Revocation(revocation)).await?,
                Ok(FeedMessage::Lost) => return Ok(Drained::Lost),
                Err(TryRecvError::Empty) => return Ok(Drained::Complete),
                Err(TryRecvError::Lagged(_)) => return Ok(Drained::Lagged),
                Err(TryRecvError::Closed) => return Err(Ended::Closed),
            }
        }
    }

    async fn send(&self, event: Event) -> Result<(), Ended> {
        self.events.send(event).await.map_err(|_| Ended::Closed)
    }
}

/// Waits until this node is synchronized with Redis. Returns the time up to which it has received every revocation; none if
/// that takes longer than `limit`.
async fn wait_for_sync(state: &AppState, limit: Duration) -> Option<Timestamp> {
    let polling = async {
        loop {
            if let Some(position) = state.redis.revocation_log.synced_at() {
                return position;
            }
            sleep(SYNC_POLL).await;
        }
    };
    timeout(limit, polling).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_parses_its_own_format_only() {
        let position = FeedPosition(Timestamp::from_millis(1_790_000_000_000));
        assert_eq!(position.to_string(), "1-1790000000000");
        assert_eq!(FeedPosition::parse("1-1790000000000"), Some(position));
        for other in ["", "1-", "1--5", "1-+5", "2-5", "1-5 ", "1-0x5", "5", "1-99999999999999999999"] {
            assert_eq!(FeedPosition::parse(other), None, "{other}");
        }
    }

    #[test]
    fn stream_start_resumes_only_within_the_retention() {
        let now = Timestamp::from_millis(1_790_000_000_000);
        let hour = Duration::from_hours(1);
        let of = |time: Timestamp| StreamStart::of(&FeedPosition(time).to_string(), now, hour);
        for good in [now, now + RESUME_OVERLAP, now - Duration::from_mins(1), now + RESUME_OVERLAP - hour] {
            assert_eq!(of(good), StreamStart::Position(FeedPosition(good)));
        }
        let millisecond = Duration::from_millis(1);
        for useless in [now + RESUME_OVERLAP + millisecond, now + RESUME_OVERLAP - hour - millisecond] {
            assert!(matches!(of(useless), StreamStart::Gap(_)));
        }
        assert!(matches!(StreamStart::of("7", now, hour), StreamStart::Gap(_)));
    }
}
