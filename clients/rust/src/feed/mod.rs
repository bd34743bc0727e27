//! Follows the revocation feed for as long as the verifier exists.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::{
    StatusCode, Url,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    clock::{Clock, millis},
    http::{Http, describe, is_event_stream, retry_after},
    key_store::KeyStore,
    revocations::{ClaimsChange, Cutoff, Full, Receipt, Revocations},
    session_end::registry::Registry,
};

mod backoff;
mod event;
mod freshness;
mod sse;

use backoff::Backoff;
use event::Event;
pub(crate) use event::Target;
use freshness::Freshness;
use sse::{Message, Parser};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The minimum time between two evictions.
const EVICTION_INTERVAL_MILLIS: i64 = 5000;

/// The longest `Retry-After` that is honoured. Also the delay of a reconnect after the revocations exceeded their limit.
const LONG_DELAY: Duration = Duration::from_secs(30);

/// The settings of a feed.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) url: Url,
    pub(crate) client_id: String,
    pub(crate) authorization: HeaderValue,
    pub(crate) max_staleness: Duration,
    /// The tolerated clock skew, in milliseconds.
    pub(crate) leeway: i64,
    pub(crate) max_revocations: usize,
}

/// Receives the feed, and keeps its revocations in memory.
#[derive(Debug)]
pub(crate) struct Feed {
    url: Url,
    client_id: String,
    authorization: HeaderValue,
    max_staleness: Duration,
    /// The tolerated clock skew, in milliseconds. Revocations are kept that much longer than the feed says.
    leeway: i64,
    pub(crate) revocations: Revocations,
    /// Receives every revocation, to end the sessions that services have registered.
    registry: Arc<Registry>,
    freshness: Freshness,
    /// Notified whenever the revocations are complete.
    synced: Notify,
    /// The number of streams that the issuer has opened so far.
    connections: AtomicU64,
    /// Why the feed is interrupted, if it is.
    last_error: Mutex<Option<String>>,
}

/// Why a stream has ended: the reason for the log, and the minimum delay before the next connection.
#[derive(Debug)]
enum Disconnect {
    /// The stream can be resumed, without a minimum delay.
    Resumable(String),
    /// The issuer refused the request. The delay is that of `Retry-After`, or zero.
    Refused(String, Duration),
    /// The stream cannot be parsed or its revocations exceed the limit. The next connection starts with a snapshot.
    Invalid(String, Duration),
}

/// The state of one stream.
#[derive(Debug, Default)]
struct StreamState {
    /// How long a revocation stays relevant, in milliseconds. `None` until `snapshot` or `resumed` arrives.
    retain: Option<i64>,
    /// Whether a snapshot is being received.
    in_snapshot: bool,
    /// Whether the stream has caught up.
    live: bool,
}

/// The state that survives reconnects.
#[derive(Debug, Default)]
struct FeedState {
    last_event_id: Option<String>,
    /// The number of snapshots so far. It identifies the revocations that the current snapshot has repeated.
    snapshots: u32,
    /// When revocations were last evicted, in milliseconds of [`Clock::elapsed`].
    last_eviction: i64,
    backoff: Backoff,
}

impl Feed {
    pub(crate) fn new(settings: Settings, registry: Arc<Registry>, clock: &dyn Clock) -> Self {
        let Settings { url, client_id, authorization, max_staleness, leeway, max_revocations } = settings;
        Self {
            url,
            client_id,
            authorization,
            max_staleness,
            leeway,
            revocations: Revocations::new(max_revocations),
            registry,
            freshness: Freshness::new(clock),
            synced: Notify::new(),
            connections: AtomicU64::new(0),
            last_error: Mutex::default(),
        }
    }

    /// Whether every revocation older than `max_staleness` is in memory. `elapsed` and `unix` (milliseconds) are the current
    /// times of the clocks.
    pub(crate) fn is_current(&self, elapsed: Duration, unix: i64) -> bool {
        self.silent_for(elapsed, unix).is_some_and(|silent| silent <= self.max_staleness)
    }

    /// Like [`Self::since_synced`], but `None` while revocations are missing.
    pub(crate) fn silent_for(&self, elapsed: Duration, unix: i64) -> Option<Duration> {
        self.freshness.silent_for(elapsed, unix)
    }

    /// The time since the verifier last had every revocation that the feed had sent, or since the start.
    pub(crate) fn since_synced(&self, elapsed: Duration, unix: i64) -> Duration {
        self.freshness.since_synced(elapsed, unix)
    }

    /// The number of streams that the issuer has opened so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Why the feed is interrupted, if it is.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the revocations are up to date.
    pub(crate) async fn wait_current(&self, clock: &dyn Clock) {
        loop {
            // Created before the check, so that a notification in between is not lost.
            let synced = self.synced.notified();
            if self.is_current(clock.elapsed(), clock.unix_millis()) {
                return;
            }
            synced.await;
        }
    }

    /// Connects and reconnects, forever.
    pub(crate) async fn run(&self, http: &Http, keys: &KeyStore, clock: &dyn Clock) {
        let mut state = FeedState::default();
        loop {
            let disconnect = self.connect(http, keys, clock, &mut state).await;
            let (reason, min_delay) = match disconnect {
                Disconnect::Resumable(reason) => (reason, Duration::ZERO),
                Disconnect::Refused(reason, delay) => (reason, delay),
                Disconnect::Invalid(reason, delay) => {
                    self.freshness.invalidate();
                    state.last_event_id = None;
                    (reason, delay)
                }
            };
            let delay = state.backoff.next_delay(backoff::random()).max(min_delay.min(LONG_DELAY));
            tracing::warn!(%reason, ?delay, "the revocation feed is interrupted; reconnecting");
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
            tokio::time::sleep(delay).await;
        }
    }

    /// Opens one stream and processes its events until it ends.
    async fn connect(&self, http: &Http, keys: &KeyStore, clock: &dyn Clock, state: &mut FeedState) -> Disconnect {
        let mut request = http.get_stream(&self.url).header(AUTHORIZATION, self.authorization.clone());
        if let Some(id) = state.last_event_id.as_deref().and_then(|id| HeaderValue::from_str(id).ok()) {
            request = request.header(LAST_EVENT_ID, id);
        }
        let resuming = state.last_event_id.is_some();
        // At least 5 s: a node whose own feed is out of sync answers after a few seconds only.
        let max_silence = self.max_staleness.max(Duration::from_secs(5));
        let mut response = match tokio::time::timeout(max_silence, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Disconnect::Resumable(describe(&error)),
            Err(_) => return Disconnect::Resumable("no response in time".to_owned()),
        };
        let status = response.status();
        if status != StatusCode::OK {
            return Disconnect::Refused(self.describe_refusal(status), retry_after(&response).unwrap_or_default());
        }
        if !is_event_stream(response.headers()) {
            return Disconnect::Resumable("the response is not an event stream".to_owned());
        }
        self.connections.fetch_add(1, Ordering::Relaxed);

        let mut parser = Parser::default();
        let mut stream = StreamState::default();
        let mut deadline = Instant::now() + max_silence;
        let mut messages = Vec::new();
        loop {
            let bytes = match tokio::time::timeout_at(deadline, response.chunk()).await {
                Ok(Ok(Some(bytes))) => bytes,
                Ok(Ok(None)) => return Disconnect::Resumable("the stream has ended".to_owned()),
                Ok(Err(error)) => return Disconnect::Resumable(describe(&error)),
                Err(_) => return Disconnect::Resumable("the stream is silent".to_owned()),
            };
            if parser.push(&bytes, |message| messages.push(message)).is_err() {
                return Disconnect::Invalid("the event stream is invalid".to_owned(), Duration::ZERO);
            }
            for message in messages.drain(..) {
                // Only events reset the deadline. Comments do not show that the node is in sync.
                deadline = Instant::now() + max_silence;
                if let Err(disconnect) = self.process(&message, resuming, &mut stream, state, keys, clock) {
                    return disconnect;
                }
            }
        }
    }

    /// Describes a status other than 200; for 401, with the likely reasons.
    fn describe_refusal(&self, status: StatusCode) -> String {
        if status == StatusCode::UNAUTHORIZED {
            let client = &self.client_id;
            return format!(
                "the response is 401: the service client {client:?} is unknown or disabled, or its secret is wrong"
            );
        }
        format!("the response is {status}")
    }

    /// Processes one event. `resuming` says whether the request named the last event that was received.
    fn process(
        &self,
        message: &Message,
        resuming: bool,
        stream: &mut StreamState,
        state: &mut FeedState,
        keys: &KeyStore,
        clock: &dyn Clock,
    ) -> Result<(), Disconnect> {
        let invalid = |reason: &str| Disconnect::Invalid(reason.to_owned(), Duration::ZERO);
        let event = event::parse(message).map_err(|_| invalid("the stream has a malformed event"))?;
        match event {
            Event::Snapshot { retain } => {
                state.snapshots = state.snapshots.wrapping_add(1);
                *stream = StreamState { retain: Some(millis(retain)), in_snapshot: true, live: false };
            }
            Event::Resumed { .. } if !resuming => {
                return Err(invalid("the stream resumes although no position was requested"));
            }
            Event::Resumed { retain } => {
                *stream = StreamState { retain: Some(millis(retain)), in_snapshot: false, live: false };
            }
            Event::Gap(detail) => {
                tracing::warn!(%detail, "the revocation feed has a gap; a snapshot follows");
                self.freshness.invalidate();
                state.last_event_id = None;
                *stream = StreamState::default();
            }
            Event::Other => {}
            Event::Revocation { target, at } => {
                let stored = self.store(&target, at, state.snapshots, keys, clock);
                // Stored first: if a session is registered before the registry gets the event, the registration finds the
                // stored revocation.
                self.registry.on_event(&target, at);
                if !stored {
                    return Err(Disconnect::Invalid("more revocations than max_revocations".to_owned(), LONG_DELAY));
                }
                if stream.live {
                    self.freshness.mark_synced(clock);
                }
            }
            Event::Live | Event::Heartbeat => {
                let retain = stream.retain.ok_or_else(|| invalid("the stream does not start with a snapshot"))?;
                if event == Event::Live {
                    if stream.in_snapshot {
                        stream.in_snapshot = false;
                        self.revocations.retain_snapshot(state.snapshots);
                    }
                    stream.live = true;
                    state.backoff.reset();
                }
                if stream.live {
                    // before `live`, the revocations up to this id may still be incomplete
                    state.last_event_id = message.id.clone().filter(|id| !id.is_empty());
                    self.on_synced(retain, state, clock);
                }
            }
        }
        Ok(())
    }

    /// Stores what an event at `at` (milliseconds) ends. Returns false if the limit of revocations or keys is exceeded.
    fn store(&self, target: &Target, at: i64, snapshot: u32, keys: &KeyStore, clock: &dyn Clock) -> bool {
        let receipt = Receipt { received: millis(clock.elapsed()), snapshot };
        let stored = match *target {
            Target::Session(id) => self.revocations.add_session(id, receipt),
            Target::Account { account, before, except } => {
                self.revocations.add_account(account, Cutoff { before, except, receipt })
            }
            Target::Key(ref kid) => {
                let is_retired = keys.retire(kid, at);
                if is_retired { Ok(()) } else { Err(Full) }
            }
            Target::Claims { account, version } => {
                let at_seconds = at.div_euclid(1000);
                self.revocations.add_claims(account, ClaimsChange { version, at: at_seconds, receipt })
            }
        };
        stored.is_ok()
    }

    /// Records that the revocations are complete, wakes the tasks that wait for this, and evicts expired revocations every
    /// [`EVICTION_INTERVAL_MILLIS`].
    fn on_synced(&self, retain: i64, state: &mut FeedState, clock: &dyn Clock) {
        self.freshness.mark_synced(clock);
        let now = millis(clock.elapsed());
        if now.saturating_sub(state.last_eviction) >= EVICTION_INTERVAL_MILLIS {
            state.last_eviction = now;
            self.revocations.evict_received_before(now.saturating_sub(retain).saturating_sub(self.leeway));
        }
        let mut last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if last_error.take().is_some() {
            tracing::info!("the revocation feed is live");
        }
        drop(last_error);
        self.synced.notify_waiters();
    }
}

#[cfg(test)]
impl Feed {
    /// Processes the bytes of a stream, as if a new connection had received them. Returns whether the stream is still valid.
    pub(crate) fn receive(&self, bytes: &[u8], keys: &KeyStore, clock: &dyn Clock) -> bool {
        let (mut parser, mut stream, mut state) = (Parser::default(), StreamState::default(), FeedState::default());
        let mut messages = Vec::new();
        let is_stream = parser.push(bytes, |message| messages.push(message)).is_ok();
        let resuming = false;
        let process = |message: &Message| self.process(message, resuming, &mut stream, &mut state, keys, clock).is_ok();
        is_stream && messages.iter().all(process)
    }
}

#[cfg(test)]
pub(crate) mod tests;
