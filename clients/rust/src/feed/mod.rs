//! The feed of revocations: followed for as long as the verifier lives.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::{
    StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    clock::{Clock, millis},
    http::{Http, described, retry_after},
    key_store::KeyStore,
    revocations::{Ended as EndedSessions, Full, Revocations, Told},
};

mod backoff;
mod event;
mod sse;
mod step;

use backoff::Backoff;
use event::{Event, Revoked};
use sse::{Message, Parser};
use step::Step;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How often what is over is looked for, in milliseconds.
const TIDY: i64 = 5000;

/// The longest pause that the issuer may ask for, and the pause after there was too much to remember.
const LONG_PAUSE: Duration = Duration::from_secs(30);

/// The feed, and what it has told.
#[derive(Debug)]
pub(crate) struct Feed {
    url: Url,
    authorization: HeaderValue,
    max_staleness: Duration,
    /// How far clocks may differ: so much longer than the feed says a revocation is remembered. In milliseconds.
    leeway: i64,
    pub(crate) revocations: Revocations,
    step: Step,
    /// Told whenever the feed is complete.
    stepped: Notify,
    connections: AtomicU64,
    trouble: Mutex<Option<String>>,
}

/// Why a stream isn't read any further.
#[derive(Debug)]
enum Ended {
    /// It can be resumed.
    Lost(String),
    /// The issuer asks to be left alone for a while.
    Busy(String, Duration),
    /// What it says can't be understood or remembered: begin anew.
    Useless(String, Duration),
}

/// How far a stream has been read.
#[derive(Debug, Default)]
struct Reading {
    /// How long a revocation matters, in milliseconds, once that was said.
    retain: Option<i64>,
    /// Whether what is being told is the whole.
    snapshot: bool,
    /// Whether all was told.
    live: bool,
}

/// What outlives a stream.
#[derive(Debug, Default)]
struct Progress {
    last_id: Option<String>,
    /// Counts snapshots.
    telling: u32,
    tidied: i64,
    backoff: Backoff,
}

impl Feed {
    pub(crate) fn new(
        url: Url,
        authorization: HeaderValue,
        max_staleness: Duration,
        leeway: i64,
        max_revocations: usize,
    ) -> Self {
        Self {
            url,
            authorization,
            max_staleness,
            leeway,
            revocations: Revocations::new(max_revocations),
            step: Step::new(),
            stepped: Notify::new(),
            connections: AtomicU64::new(0),
            trouble: Mutex::default(),
        }
    }

    /// Whether all revocations are known, but perhaps those of the last moments.
    pub(crate) fn in_step(&self, elapsed: Duration, unix: i64) -> bool {
        self.silent_for(elapsed, unix).is_some_and(|silent| silent <= self.max_staleness)
    }

    /// How long the feed has been silent; `None` if it isn't complete.
    pub(crate) fn silent_for(&self, elapsed: Duration, unix: i64) -> Option<Duration> {
        self.step.silent_for(elapsed, unix)
    }

    /// How often the feed was answered.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Why the feed isn't there, if it isn't.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the feed is complete.
    pub(crate) async fn stepped(&self, clock: &dyn Clock) {
        loop {
            let stepped = self.stepped.notified();
            if self.in_step(clock.elapsed(), clock.unix_millis()) {
                return;
            }
            stepped.await;
        }
    }

    /// Follows it, for ever.
    pub(crate) async fn follow(&self, http: &Http, keys: &KeyStore, clock: &dyn Clock) {
        let mut progress = Progress::default();
        loop {
            let ended = self.read(http, keys, clock, &mut progress).await;
            let (reason, at_least) = match ended {
                Ended::Lost(reason) => (reason, Duration::ZERO),
                Ended::Busy(reason, pause) => (reason, pause),
                Ended::Useless(reason, pause) => {
                    self.step.lost();
                    progress.last_id = None;
                    (reason, pause)
                }
            };
            let pause = progress.backoff.pause(backoff::random()).max(at_least.min(LONG_PAUSE));
            tracing::warn!(%reason, ?pause, "the feed of revocations is away");
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads one stream to its end.
    async fn read(&self, http: &Http, keys: &KeyStore, clock: &dyn Clock, progress: &mut Progress) -> Ended {
        let mut request = http.open(&self.url).header(AUTHORIZATION, self.authorization.clone());
        if let Some(id) = progress.last_id.as_deref().and_then(|id| HeaderValue::from_str(id).ok()) {
            request = request.header(LAST_EVENT_ID, id);
        }
        let resuming = progress.last_id.is_some();
        // An issuer that isn't in step itself may take some seconds to say so.
        let patience = self.max_staleness.max(Duration::from_secs(5));
        let mut response = match tokio::time::timeout(patience, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Ended::Lost(described(&error)),
            Err(_) => return Ended::Lost("it didn't answer in time".to_owned()),
        };
        let status = response.status();
        if status != StatusCode::OK {
            return Ended::Busy(format!("it answered {status}"), retry_after(&response).unwrap_or_default());
        }
        let is_feed = response.headers().get(CONTENT_TYPE).is_some_and(|kind| {
            kind.as_bytes().get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
        });
        if !is_feed {
            return Ended::Lost("it answered something else".to_owned());
        }
        self.connections.fetch_add(1, Ordering::Relaxed);

        let (mut parser, mut reading) = (Parser::default(), Reading::default());
        let mut deadline = Instant::now() + patience;
        let mut messages = Vec::new();
        loop {
            let bytes = match tokio::time::timeout_at(deadline, response.chunk()).await {
                Ok(Ok(Some(bytes))) => bytes,
                Ok(Ok(None)) => return Ended::Lost("it ended".to_owned()),
                Ok(Err(error)) => return Ended::Lost(described(&error)),
                Err(_) => return Ended::Lost("it fell silent".to_owned()),
            };
            if parser.push(&bytes, |message| messages.push(message)).is_err() {
                return Ended::Useless("it is no stream of events".to_owned(), Duration::ZERO);
            }
            for message in messages.drain(..) {
                // comments don't count
                deadline = Instant::now() + patience;
                if let Err(ended) = self.take(&message, resuming, &mut reading, progress, keys, clock) {
                    return ended;
                }
            }
        }
    }

    /// Takes one event in.
    fn take(
        &self,
        message: &Message,
        resuming: bool,
        reading: &mut Reading,
        progress: &mut Progress,
        keys: &KeyStore,
        clock: &dyn Clock,
    ) -> Result<(), Ended> {
        let useless = |reason: &str| Ended::Useless(reason.to_owned(), Duration::ZERO);
        let event = event::read(message).map_err(|_| useless("it tells what isn't understood"))?;
        match event {
            Event::Snapshot { retain } => {
                progress.telling = progress.telling.wrapping_add(1);
                *reading = Reading { retain: Some(millis(retain)), snapshot: true, live: false };
            }
            Event::Resumed { .. } if !resuming => return Err(useless("it resumes what never began")),
            Event::Resumed { retain } => {
                *reading = Reading { retain: Some(millis(retain)), snapshot: false, live: false };
            }
            Event::Gap(detail) => {
                tracing::warn!(%detail, "the feed of revocations has a gap; a snapshot follows");
                self.step.lost();
                progress.last_id = None;
                *reading = Reading::default();
            }
            Event::Other => {}
            Event::Revoked { what, at } => {
                if !self.remember(what, at, progress.telling, keys, clock) {
                    return Err(Ended::Useless("there are too many revocations".to_owned(), LONG_PAUSE));
                }
                if reading.live {
                    self.step.heard(clock);
                }
            }
            Event::Live | Event::Heartbeat => {
                let retain = reading.retain.ok_or_else(|| useless("it goes on with what never began"))?;
                if event == Event::Live {
                    if std::mem::take(&mut reading.snapshot) {
                        self.revocations.forget_untold(progress.telling);
                    }
                    reading.live = true;
                    progress.backoff.reset();
                }
                if reading.live {
                    progress.last_id = message.id.clone().filter(|id| !id.is_empty());
                    self.complete(retain, progress, clock);
                }
            }
        }
        Ok(())
    }

    /// Keeps in mind what was revoked. False if there is too much of it.
    fn remember(&self, what: Revoked, at: i64, telling: u32, keys: &KeyStore, clock: &dyn Clock) -> bool {
        let told = Told { heard: millis(clock.elapsed()), telling };
        let kept = match what {
            Revoked::Session(id) => self.revocations.add_session(id, told),
            Revoked::Account { account, before, except } => {
                self.revocations.add_account(account, EndedSessions { before, except, told })
            }
            Revoked::Key(kid) if keys.retire(&kid, at) => Ok(()),
            Revoked::Key(_) => Err(Full),
        };
        kept.is_ok()
    }

    /// All that was revoked up to now is known.
    fn complete(&self, retain: i64, progress: &mut Progress, clock: &dyn Clock) {
        self.step.heard(clock);
        let now = millis(clock.elapsed());
        if now.saturating_sub(progress.tidied) >= TIDY {
            progress.tidied = now;
            self.revocations.forget_heard_before(now.saturating_sub(retain).saturating_sub(self.leeway));
        }
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.take().is_some() {
            tracing::info!("the feed of revocations is back");
        }
        drop(trouble);
        self.stepped.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
