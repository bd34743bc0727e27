//! The revocation feed. It starts with a snapshot of the revocations that can still affect a valid token, or with the revocations
//! since a position (the time up to which the subscriber has received all events). Each further revocation follows as it happens.
//!
//! An attached subscriber is called by its core's fan-out (`fan_out.rs`) for each event. The other subscribers share the queue of the
//! fan-out's broadcast. A subscriber that reads too slowly for this queue is disconnected, and resumes from its last event when it
//! reconnects.

mod fan_out;

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_util::{Stream, future::try_join_all};
use tokio::{
    sync::{
        broadcast::{
            Receiver,
            error::{RecvError, TryRecvError},
        },
        mpsc,
    },
    task::coop::unconstrained,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::ReusableBoxFuture;

use crate::{
    domain::{
        client::ClientId,
        clock::Timestamp,
        event::Revocation,
        feed::{FeedEvent, FeedPosition},
    },
    runtime::current_core,
    state::{
        AppState,
        feed::{AttachedSubscriber, DetachedReceiver, FanOutMessage, NotAdmitted, SharedEvent, SubscriberPermit},
    },
    store::redis::{RedisError, key::BUCKETS},
};

/// A resumed subscriber gets the revocations of this period before its position again: the clocks of Redis nodes differ, and a replica
/// may have been promoted.
const RESUME_OVERLAP: Duration = Duration::from_secs(5);
/// How long a new subscriber waits for this node to synchronize with Redis.
const SYNC_TIMEOUT: Duration = Duration::from_secs(3);
/// How long this node may be out of sync before it disconnects its subscribers, who then try another node.
const DESYNC_LIMIT: Duration = Duration::from_secs(5);
/// Interval at which a waiting subscriber checks whether this node has synchronized.
const SYNC_POLL: Duration = Duration::from_millis(20);
/// How long a subscriber may take to read the backlog: the snapshot, or the revocations since its position.
const BACKLOG_TIMEOUT: Duration = Duration::from_mins(2);
/// Number of buckets (groups of accounts) whose event streams are read from Redis concurrently for one subscriber.
const CONCURRENT_STREAMS: usize = 8;

/// The largest number of events that are written to a subscriber at once: about 16 KiB, which a subscriber must read within
/// `http.write_timeout`.
pub const MAX_BATCH: usize = 64;

/// The detail of the event `gap` after Redis has lost revocations.
const LOST: &str = "Redis has lost revocations";

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
    state.config.token.revocation_retention()
}

/// Subscribes a client to the feed, which continues after the client's last event, or starts with a snapshot. The stream ends when the
/// node can no longer send every revocation, when the client reads too slowly, and when the client is disabled.
///
/// # Errors
/// [`SubscribeError`]
pub async fn subscribe(
    state: Arc<AppState>,
    client: &ClientId,
    last_event_id: Option<&str>,
) -> Result<Subscription, SubscribeError> {
    let permit = state.feed_subscribers.admit(client)?;
    let now = wait_for_sync(&state, SYNC_TIMEOUT).await.ok_or(SubscribeError::NotSynced)?;
    let start = match last_event_id {
        Some(id) => StreamStart::of(id, now, state.config.redis.event_retention),
        None => StreamStart::Snapshot,
    };
    // `catch_up` sets the phase
    let mut subscription = Subscription { phase: Phase::Ended, state, client: client.clone(), _permit: permit };
    subscription.catch_up(start);
    Ok(subscription)
}

/// One subscriber's stream. Events are produced only as the stream is polled, so that at most one event waits for a slow reader.
pub struct Subscription {
    phase: Phase,
    state: Arc<AppState>,
    client: ClientId,
    /// Counts the subscription against the limits until it is dropped.
    _permit: SubscriberPermit,
}

/// The phase of a subscription.
enum Phase {
    /// Reads the backlog from Redis. The events arrive on a channel; the result comes after the last of them.
    CatchingUp {
        producer: Option<Producer>,
        result: Option<CaughtUp>,
        events: mpsc::Receiver<Arc<SharedEvent>>,
    },
    /// Waits for the next message of the fan-out. `last_heartbeat_at` is the time of the last heartbeat.
    Live {
        next: ReusableBoxFuture<'static, Received>,
        /// A message that [`Subscription::attach`] found waiting. It is polled next.
        received: Option<Received>,
        last_heartbeat_at: Instant,
    },
    /// The subscriber is attached to the fan-out.
    Attached,
    Ended,
}

/// The receiver of the messages that follow the backlog.
type CaughtUp = Result<Receiver<FanOutMessage>, EndCause>;
type Producer = Pin<Box<dyn Future<Output = CaughtUp> + Send>>;
/// A message, and the receiver of the next ones.
type Received = (Result<FanOutMessage, RecvError>, Receiver<FanOutMessage>);

async fn receive(mut messages: Receiver<FanOutMessage>) -> Received {
    let message = messages.recv().await;
    (message, messages)
}

impl Subscription {
    /// Starts to send the backlog.
    fn catch_up(&mut self, start: StreamStart) {
        let (sender, events) = mpsc::channel(1);
        let backlog = Backlog { state: Arc::clone(&self.state), events: sender };
        let producer: Producer = Box::pin(async move { backlog.send_all(start).await });
        self.phase = Phase::CatchingUp { producer: Some(producer), result: None, events };
    }

    /// Whether the backlog is sent and every message has been polled.
    pub(crate) fn can_attach(&self) -> bool {
        matches!(self.phase, Phase::Live { received: None, .. })
    }

    /// Attaches a subscriber to the fan-out, which then calls the subscriber for each event, in place of this stream. Returns false if
    /// there are more messages to poll. Must be called in the task that polls the stream.
    pub(crate) fn attach(&mut self, subscriber: Weak<dyn AttachedSubscriber>) -> bool {
        let Phase::Live { next, received, .. } = &mut self.phase else { return false };
        let is_receiver_empty = || {
            if received.is_none() {
                // Without tokio's cooperative budget, `recv` returns `Pending` only if no message waits.
                let mut polling = pin!(unconstrained(poll_fn(|cx| next.poll(cx))));
                if let Poll::Ready(message) = polling.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    *received = Some(message);
                }
            }
            received.is_none()
        };
        let is_attached = self.state.feed_subscribers.attach(current_core(), subscriber, is_receiver_empty);
        if is_attached {
            self.phase = Phase::Attached;
        }
        is_attached
    }

    /// Continues the stream of a subscriber that was detached from the fan-out.
    pub(crate) fn resume(&mut self, DetachedReceiver { messages, last_heartbeat_at }: DetachedReceiver) {
        self.phase = Phase::Live { next: ReusableBoxFuture::new(receive(messages)), received: None, last_heartbeat_at };
    }
}

impl Stream for Subscription {
    type Item = Arc<SharedEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Arc<SharedEvent>>> {
        let this = &mut *self;
        loop {
            let ended = match &mut this.phase {
                Phase::Ended => return Poll::Ready(None),
                Phase::Attached => return Poll::Pending,
                Phase::CatchingUp { producer, result, events } => {
                    if let Some(running) = producer
                        && let Poll::Ready(caught_up) = running.as_mut().poll(cx)
                    {
                        *result = Some(caught_up);
                        *producer = None;
                    }
                    // the channel closes when the producer, which owns the sender, has returned
                    if let Some(event) = ready!(events.poll_recv(cx)) {
                        return Poll::Ready(Some(event));
                    }
                    match result.take().unwrap_or(Err(EndCause::Closed)) {
                        Ok(messages) => {
                            let next = ReusableBoxFuture::new(receive(messages));
                            this.phase = Phase::Live { next, received: None, last_heartbeat_at: Instant::now() };
                            continue;
                        }
                        Err(ended) => ended,
                    }
                }
                Phase::Live { next, received, last_heartbeat_at } => {
                    let (message, messages) = match received.take() {
                        Some(received) => received,
                        None => ready!(next.poll(cx)),
                    };
                    match message {
                        Ok(FanOutMessage::Event(event)) => {
                            let is_heartbeat = matches!(event.event(), FeedEvent::Heartbeat(_));
                            // Each heartbeat is an occasion to check that the client is still enabled.
                            if is_heartbeat && !this.state.clients.is_enabled(this.client.as_str()) {
                                EndCause::Disabled
                            } else {
                                if is_heartbeat {
                                    *last_heartbeat_at = Instant::now();
                                }
                                next.set(receive(messages));
                                return Poll::Ready(Some(event));
                            }
                        }
                        Ok(FanOutMessage::NotSynced) if last_heartbeat_at.elapsed() <= DESYNC_LIMIT => {
                            next.set(receive(messages));
                            continue;
                        }
                        Ok(FanOutMessage::NotSynced) => EndCause::NotSynced,
                        Ok(FanOutMessage::Lost) => {
                            this.catch_up(StreamStart::Gap(LOST));
                            continue;
                        }
                        Err(RecvError::Lagged(_)) => EndCause::TooSlow,
                        // The core's fan-out has ended: it was too slow, or the node stops.
                        Err(RecvError::Closed) => EndCause::Overloaded,
                    }
                }
            };
            tracing::info!(
                client = %this.client,
                reason = %ended,
                "revocation feed: subscriber disconnected by this node; it can reconnect, unless its client is \
                 disabled"
            );
            this.phase = Phase::Ended;
        }
    }
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
    /// Where a subscriber with this last event id starts. A position must be so recent that Redis still holds the revocations of the
    /// [`RESUME_OVERLAP`] before it.
    fn of(last_event_id: &str, now: Timestamp, retention: Duration) -> Self {
        match FeedPosition::parse(last_event_id) {
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
enum EndCause {
    #[error("the client reads too slowly")]
    TooSlow,
    #[error("the client was disabled")]
    Disabled,
    #[error("the node is not synchronized with Redis")]
    NotSynced,
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("this node could not keep up with the revocations")]
    Overloaded,
    #[error("the connection was closed")]
    Closed,
}

/// The result of sending the queued messages.
enum Drained {
    /// Every message was sent.
    Complete,
    /// Redis has lost revocations.
    Lost,
    /// The queue was full, and has dropped messages.
    Lagged,
}

/// Reads the backlog of one subscriber.
struct Backlog {
    state: Arc<AppState>,
    events: mpsc::Sender<Arc<SharedEvent>>,
}

impl Backlog {
    /// Sends the backlog. Returns the receiver of the messages that follow.
    async fn send_all(&self, start: StreamStart) -> CaughtUp {
        let since = match start {
            StreamStart::Position(FeedPosition(time)) => {
                self.send(FeedEvent::Resumed).await?;
                Some(time - RESUME_OVERLAP)
            }
            StreamStart::Snapshot => {
                self.start_snapshot(None).await?;
                None
            }
            StreamStart::Gap(why) => {
                self.start_snapshot(Some(why)).await?;
                None
            }
        };
        timeout(BACKLOG_TIMEOUT, self.catch_up(since)).await.unwrap_or(Err(EndCause::TooSlow))
    }

    /// Announces a snapshot, after the event `gap` if there is a reason for one.
    async fn start_snapshot(&self, gap: Option<&'static str>) -> Result<(), EndCause> {
        if let Some(why) = gap {
            self.send(FeedEvent::Gap(why)).await?;
        }
        self.send(FeedEvent::Snapshot).await
    }

    /// Sends the revocations since a time by Redis' clock; without a time, all that can still affect a valid token. Returns the receiver
    /// of the messages that follow.
    async fn catch_up(&self, mut since: Option<Timestamp>) -> CaughtUp {
        'restart: loop {
            // Subscribes before it reads, so that a revocation in between is sent twice rather than never.
            let mut messages = fan_out::subscribe(&self.state);
            let position = wait_for_sync(&self.state, DESYNC_LIMIT).await.ok_or(EndCause::NotSynced)?;
            let from = since.unwrap_or(position - retention(&self.state));
            for first_bucket in (0..BUCKETS).step_by(CONCURRENT_STREAMS) {
                let (revocations, is_complete) = self.read(first_bucket, from).await?;
                if !is_complete && since.is_some() {
                    // Starts again with a snapshot, which is never incomplete: it has every revocation that Redis still holds.
                    self.start_snapshot(Some(LOST)).await?;
                    since = None;
                    continue 'restart;
                }
                for revocation in revocations {
                    self.send(FeedEvent::Revocation(Arc::new(revocation))).await?;
                }
            }
            match self.drain(&mut messages).await? {
                Drained::Complete => {
                    self.send(FeedEvent::Live(FeedPosition(position))).await?;
                    return Ok(messages);
                }
                // The receiver was full: the missed revocations are read from the streams.
                Drained::Lagged => since = Some(position - RESUME_OVERLAP),
                Drained::Lost => {
                    self.start_snapshot(Some(LOST)).await?;
                    since = None;
                }
            }
        }
    }

    /// Reads the streams of [`CONCURRENT_STREAMS`] buckets. Returns their revocations, and false if Redis has lost some. Runs in a task of
    /// its own, which continues while the subscriber is not polled: a slow subscriber must not hold a reader's permit.
    async fn read(&self, first_bucket: usize, since: Timestamp) -> Result<(Vec<Revocation>, bool), EndCause> {
        let state = Arc::clone(&self.state);
        let reading = tokio::spawn(async move {
            let _permit = state.feed_subscribers.acquire_reader().await;
            let buckets = first_bucket..BUCKETS.min(first_bucket + CONCURRENT_STREAMS);
            try_join_all(buckets.map(|bucket| state.redis.revocation_log.revocations_since(bucket, since))).await
        });
        let result = reading.await.map_err(|_| EndCause::Closed)?;
        let read = result?;
        let is_complete = read.iter().all(|(_, is_complete)| *is_complete);
        Ok((read.into_iter().flat_map(|(revocations, _)| revocations).collect(), is_complete))
    }

    /// Sends the queued messages.
    async fn drain(&self, messages: &mut Receiver<FanOutMessage>) -> Result<Drained, EndCause> {
        loop {
            match messages.try_recv() {
                // The event `live`, which follows, has a position as a heartbeat has.
                Ok(FanOutMessage::Event(event)) if matches!(event.event(), FeedEvent::Heartbeat(_)) => {}
                Ok(FanOutMessage::Event(event)) => self.send_shared(event).await?,
                Ok(FanOutMessage::NotSynced) => {} // is repeated until the node is synchronized
                Ok(FanOutMessage::Lost) => return Ok(Drained::Lost),
                Err(TryRecvError::Empty) => return Ok(Drained::Complete),
                Err(TryRecvError::Lagged(_)) => return Ok(Drained::Lagged),
                Err(TryRecvError::Closed) => return Err(EndCause::Overloaded),
            }
        }
    }

    async fn send(&self, event: FeedEvent) -> Result<(), EndCause> {
        self.send_shared(Arc::new(SharedEvent::new(event))).await
    }

    async fn send_shared(&self, event: Arc<SharedEvent>) -> Result<(), EndCause> {
        self.events.send(event).await.map_err(|_| EndCause::Closed)
    }
}

/// Waits until this node is synchronized with Redis. Returns the time up to which the node has received every revocation; none if
/// the wait takes longer than `limit`.
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
    fn stream_start_resumes_only_within_the_retention() {
        let now = Timestamp::from_millis(1_790_000_000_000);
        let hour = Duration::from_hours(1);
        let start_at = |time: Timestamp| StreamStart::of(&FeedPosition(time).to_string(), now, hour);
        for good in [now, now + RESUME_OVERLAP, now - Duration::from_mins(1), now + RESUME_OVERLAP - hour] {
            assert_eq!(start_at(good), StreamStart::Position(FeedPosition(good)));
        }
        let millisecond = Duration::from_millis(1);
        for bad in [now + RESUME_OVERLAP + millisecond, now + RESUME_OVERLAP - hour - millisecond] {
            assert!(matches!(start_at(bad), StreamStart::Gap(_)));
        }
        let not_a_position = "7";
        assert!(matches!(StreamStart::of(not_a_position, now, hour), StreamStart::Gap(_)));
    }
}
