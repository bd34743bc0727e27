//! A service follows the revocations: a snapshot of those that still matter, or what it has missed, then each as it happens.
//!
//! Nothing is kept for a subscriber but its place in what all of them are told. One that reads so slowly that it loses
//! this place is dropped, and resumes where it was when it comes back.

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
    state::AppState,
    store::redis::{RedisError, key::BUCKETS},
};

/// How much longer than its tokens can live a revocation counts: clocks differ.
const MARGIN: Duration = Duration::from_secs(5);
/// How far back what was told already is told again after an interruption: the clocks of a cluster's nodes differ, and
/// that of a replica which took over.
const SLACK: Duration = Duration::from_secs(5);
/// How long a new subscriber waits for this node to be in step with Redis.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long this node may be out of step before its subscribers are sent to look for another.
const OUT_OF_STEP: Duration = Duration::from_secs(5);
/// How often it is looked whether this node is in step, where that is waited for.
const LOOK: Duration = Duration::from_millis(20);
/// How long reading a snapshot may take; whoever takes longer is too slow.
const SNAPSHOT: Duration = Duration::from_mins(2);
/// Streams that are read at once for a subscriber.
const STREAMS: usize = 8;

/// What subscribers are told where it is so.
const LOST: &str = "Redis has lost revocations";

/// Up to where a subscriber was told everything, by Redis' clock. What it looks like is nobody else's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(Timestamp);

impl Place {
    /// The time it stands for.
    pub fn time(self) -> Timestamp {
        self.0
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("1-").filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
        digits.parse().ok().map(Timestamp::from_millis).map(Self)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1-{}", self.0.as_millis())
    }
}

/// What a subscriber is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// What follows is all that matters: what was missed is among it.
    Snapshot,
    /// What was missed follows.
    Resumed,
    /// Something ended. Told again now and then, which changes nothing.
    Revocation(Arc<Revocation>),
    /// The snapshot, or what was missed, is complete.
    Live(Place),
    /// Everything up to here was told.
    Heartbeat(Place),
    /// What was told isn't complete and can't be made so, for this reason: a snapshot follows.
    Gap(&'static str),
}

/// Why nobody can subscribe at the moment.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// There are as many as there may be.
    #[error("there are too many subscribers")]
    Full,
    /// This node is not in step with Redis.
    #[error("this node is not in step with Redis")]
    OutOfStep,
}

/// How long a revocation matters: no token that it could touch is accepted for longer.
pub fn retention(state: &AppState) -> Duration {
    state.config.token.access_ttl + state.config.token.leeway + MARGIN
}

/// Begins to tell a client what has ended: since `last`, which it was told before, or all that matters. The stream ends when
/// it can't be told everything any more, when it has read too slowly, and when it was disabled.
///
/// # Errors
/// [`SubscribeError`]
pub async fn subscribe(
    state: Arc<AppState>,
    client: &ClientId,
    last: Option<&str>,
) -> Result<impl Stream<Item = Event> + Send + 'static, SubscribeError> {
    let seat = state.feed_subscribers.admit().ok_or(SubscribeError::Full)?;
    let now = in_step_within(&state, PATIENCE).await.ok_or(SubscribeError::OutOfStep)?;
    let opening = last.map_or(Opening::Nothing, |last| Opening::of(last, now, state.config.redis.event_retention));
    // Told one at a time, and only as the stream is polled: what waits for a slow reader is one event.
    let (tell, mut told) = mpsc::channel(1);
    let subscriber = Subscriber { state, client: client.clone(), tell };
    let mut telling = Some(Box::pin(async move {
        let _seat = seat;
        if let Err(ended) = subscriber.follow(opening).await {
            tracing::info!(client = %subscriber.client, %ended, "a subscriber of the revocations was let go");
        }
    }));
    Ok(stream::poll_fn(move |cx| {
        if telling.as_mut().is_some_and(|telling| telling.as_mut().poll(cx).is_ready()) {
            telling = None;
        }
        told.poll_recv(cx)
    }))
}

/// Where a subscriber begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// It knows nothing.
    Nothing,
    /// It knows everything up to a place.
    Place(Place),
    /// What it knows is of no use, for this reason.
    Gap(&'static str),
}

impl Opening {
    fn of(last: &str, now: Timestamp, retention: Duration) -> Self {
        match Place::parse(last) {
            None => Self::Gap("the last event's id is none of this service's"),
            Some(Place(time)) if time > now + SLACK => Self::Gap("the last event's id is of the future"),
            Some(Place(time)) if time < now + SLACK - retention => {
                Self::Gap("the last event's id is older than the revocations that are kept")
            }
            Some(place) => Self::Place(place),
        }
    }
}

/// Why a subscriber is told nothing more.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("it reads too slowly")]
    TooSlow,
    #[error("it was disabled")]
    Disabled,
    #[error("this node is out of step with Redis")]
    OutOfStep,
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("the service ends")]
    Closed,
}

/// What came of telling what waited.
enum Waited {
    Told,
    Lost,
    Lagged,
}

struct Subscriber {
    state: Arc<AppState>,
    client: ClientId,
    tell: mpsc::Sender<Event>,
}

impl Subscriber {
    async fn follow(&self, opening: Opening) -> Result<(), Ended> {
        let mut since = match opening {
            Opening::Place(Place(time)) => {
                self.tell(Event::Resumed).await?;
                Some(time - SLACK)
            }
            Opening::Nothing => self.begin_anew(None).await?,
            Opening::Gap(why) => self.begin_anew(Some(why)).await?,
        };
        loop {
            let catching_up = timeout(SNAPSHOT, self.catch_up(since));
            let mut told = catching_up.await.unwrap_or(Err(Ended::TooSlow))?;
            self.live(&mut told).await?;
            since = self.begin_anew(Some(LOST)).await?;
        }
    }

    async fn begin_anew(&self, gap: Option<&'static str>) -> Result<Option<Timestamp>, Ended> {
        if let Some(why) = gap {
            self.tell(Event::Gap(why)).await?;
        }
        self.tell(Event::Snapshot).await?;
        Ok(None)
    }

    /// Tells what there is since a time by Redis' clock, or what still matters. Returns where the rest is heard.
    async fn catch_up(&self, mut since: Option<Timestamp>) -> Result<Receiver<FeedMessage>, Ended> {
        'anew: loop {
            // First listen, then read: what happens in between is told twice rather than never.
            let mut told = self.state.redis.revocation_log.subscribe();
            let place = in_step_within(&self.state, OUT_OF_STEP).await.ok_or(Ended::OutOfStep)?;
            let from = since.unwrap_or(place - retention(&self.state));
            for first in (0..BUCKETS).step_by(STREAMS) {
                let (revocations, whole) = self.read(first, from).await?;
                if !whole && since.is_some() {
                    // a snapshot holds all that can be told
                    since = self.begin_anew(Some(LOST)).await?;
                    continue 'anew;
                }
                for revocation in revocations {
                    self.tell(Event::Revocation(Arc::new(revocation))).await?;
                }
            }
            match self.tell_waiting(&mut told).await? {
                Waited::Told => {
                    self.tell(Event::Live(Place(place))).await?;
                    return Ok(told);
                }
                // much has happened meanwhile: it is read too
                Waited::Lagged => since = Some(place - SLACK),
                Waited::Lost => since = self.begin_anew(Some(LOST)).await?,
            }
        }
    }

    /// Reads some streams. In a task of its own, so that no turn to read waits for a reader of ours.
    async fn read(&self, first: usize, since: Timestamp) -> Result<(Vec<Revocation>, bool), Ended> {
        let state = Arc::clone(&self.state);
        let reading = tokio::spawn(async move {
            let _turn = state.feed_subscribers.reader().await;
            let buckets = first..BUCKETS.min(first + STREAMS);
            try_join_all(buckets.map(|bucket| state.redis.revocation_log.revocations_since(bucket, since))).await
        });
        let read = reading.await.map_err(|_| Ended::Closed)??;
        let whole = read.iter().all(|(_, whole)| *whole);
        Ok((read.into_iter().flat_map(|(revocations, _)| revocations).collect(), whole))
    }

    /// Tells what happens, until some of that is lost.
    async fn live(&self, told: &mut Receiver<FeedMessage>) -> Result<(), Ended> {
        let mut heartbeats = interval(self.state.config.feed.heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut in_step_at = Instant::now();
        loop {
            tokio::select! {
                news = told.recv() => match news {
                    Ok(FeedMessage::Revoked(revocation)) => self.tell(Event::Revocation(revocation)).await?,
                    Ok(FeedMessage::Lost) => return Ok(()),
                    Err(RecvError::Lagged(_)) => return Err(Ended::TooSlow),
                    Err(RecvError::Closed) => return Err(Ended::Closed),
                },
                _ = heartbeats.tick() => {
                    if !self.state.clients.is_enabled(self.client.as_str()) {
                        return Err(Ended::Disabled);
                    }
                    // What was told to all before the place was known stands before it here too.
                    match self.state.redis.revocation_log.synced_at() {
                        Some(place) => match self.tell_waiting(told).await? {
                            Waited::Told => {
                                self.tell(Event::Heartbeat(Place(place))).await?;
                                in_step_at = Instant::now();
                            }
                            Waited::Lost => return Ok(()),
                            Waited::Lagged => return Err(Ended::TooSlow),
                        },
                        None if in_step_at.elapsed() > OUT_OF_STEP => return Err(Ended::OutOfStep),
                        None => {}
                    }
                }
            }
        }
    }

    /// Tells what waits to be told.
    async fn tell_waiting(&self, told: &mut Receiver<FeedMessage>) -> Result<Waited, Ended> {
        loop {
            match told.try_recv() {
                Ok(FeedMessage::Revoked(revocation)) => self.tell(Event::Revocation(revocation)).await?,
                Ok(FeedMessage::Lost) => return Ok(Waited::Lost),
                Err(TryRecvError::Empty) => return Ok(Waited::Told),
                Err(TryRecvError::Lagged(_)) => return Ok(Waited::Lagged),
                Err(TryRecvError::Closed) => return Err(Ended::Closed),
            }
        }
    }

    async fn tell(&self, event: Event) -> Result<(), Ended> {
        self.tell.send(event).await.map_err(|_| Ended::Closed)
    }
}

/// Up to where this node has told everything, once it is in step with Redis; none if that takes longer than `patience`.
async fn in_step_within(state: &AppState, patience: Duration) -> Option<Timestamp> {
    let looking = async {
        loop {
            if let Some(place) = state.redis.revocation_log.synced_at() {
                return place;
            }
            sleep(LOOK).await;
        }
    };
    timeout(patience, looking).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_written_and_nothing_else_is() {
        let place = Place(Timestamp::from_millis(1_790_000_000_000));
        assert_eq!(place.to_string(), "1-1790000000000");
        assert_eq!(Place::parse("1-1790000000000"), Some(place));
        for other in ["", "1-", "1--5", "1-+5", "2-5", "1-5 ", "1-0x5", "5", "1-99999999999999999999"] {
            assert_eq!(Place::parse(other), None, "{other}");
        }
    }

    #[test]
    fn only_what_can_be_resumed_is() {
        let now = Timestamp::from_millis(1_790_000_000_000);
        let hour = Duration::from_hours(1);
        let of = |time: Timestamp| Opening::of(&Place(time).to_string(), now, hour);
        for good in [now, now + SLACK, now - Duration::from_mins(1), now + SLACK - hour] {
            assert_eq!(of(good), Opening::Place(Place(good)));
        }
        let millisecond = Duration::from_millis(1);
        for useless in [now + SLACK + millisecond, now + SLACK - hour - millisecond] {
            assert!(matches!(of(useless), Opening::Gap(_)));
        }
        assert!(matches!(Opening::of("7", now, hour), Opening::Gap(_)));
    }
}
