//! Detects a Redis that accepts connections but does not answer, reconnects, and logs outages.
//!
//! fred, the Redis client library, has such a detection too, but its timer never expires under traffic: every write resets it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fred::{
    clients::Client,
    error::Error,
    interfaces::{ClientLike, EventInterface},
    types::{
        ClientState,
        config::{Options, Server},
    },
};
use tokio::{
    sync::broadcast::{Receiver, error::TryRecvError},
    task::AbortHandle,
    time::MissedTickBehavior,
};

use super::{address::Label, failure};

/// The interval between pings.
const PING_INTERVAL: Duration = Duration::from_millis(250);
/// How long a ping may remain unanswered.
const PING_TIMEOUT: Duration = Duration::from_millis(500);
/// The number of unanswered pings in a row after which the connection is replaced and the outage is logged.
const MAX_MISSES: u32 = 2;
/// The number of unanswered pings in a row (within about two seconds) after which commands fail at once if the server refuses connections.
const REFUSED_MISSES: u32 = 3;
/// How often a lasting outage is logged.
const LOG_INTERVAL: Duration = Duration::from_mins(1);
/// How often an outage is logged while its reason changes.
const CHANGED_REASON_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The state of an outage of the connections.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Why the connections are down; none while they work.
    reason: Mutex<Option<String>>,
    /// Whether the server has refused connections for [`REFUSED_MISSES`] pings.
    is_refused: AtomicBool,
}

impl Outage {
    /// Why the connections are down; none while they work.
    pub(super) fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the server has refused connections for a while. Stays true until the first answered ping after the server is back.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    fn set_reason(&self, reason: Option<String>) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

/// Logs outages of a pool and records their state.
pub(super) struct OutageLog {
    label: Label,
    outage: Arc<Outage>,
    /// Whether the last error of the connection says that the server refuses connections.
    is_refusal: bool,
    /// When the current outage was last logged, and with which reason; none without an outage.
    logged: Option<(Instant, String)>,
}

impl OutageLog {
    pub(super) fn new(label: Label, outage: Arc<Outage>) -> Self {
        Self { label, outage, is_refusal: false, logged: None }
    }

    /// Records why the connection is down.
    fn on_error(&mut self, error: &Error) {
        self.outage.set_reason(Some(failure::reason(error)));
        self.is_refusal = failure::is_refusal(error);
    }

    /// Records that this many pings in a row are unanswered, and logs the outage if that is due. `fallback` is the error of the last
    /// ping, for when no better reason is known.
    fn on_miss(&mut self, misses: u32, fallback: &Error) {
        self.outage.is_refused.store(self.is_refusal && misses >= REFUSED_MISSES, Ordering::Relaxed);
        if misses >= MAX_MISSES {
            self.log_if_due(fallback);
        }
    }

    /// Logs the outage if that is due. `fallback` is the error of the last ping, for when no better reason is known.
    fn log_if_due(&mut self, fallback: &Error) {
        let known_reason = self.outage.reason();
        let is_known = known_reason.is_some();
        let reason = known_reason.unwrap_or_else(|| failure::reason(fallback));
        let is_due = self.logged.as_ref().is_none_or(|(logged_at, logged_reason)| {
            // The reason for a failed connection may become known after the first unanswered ping.
            let has_news = is_known && *logged_reason != reason;
            let interval = if has_news { CHANGED_REASON_LOG_INTERVAL } else { LOG_INTERVAL };
            logged_at.elapsed() >= interval
        });
        if is_due {
            tracing::error!(
                reason,
                "Redis is unavailable, retrying ({}): requests that need it, such as sign-ins and refreshes, get \
                 503",
                self.label
            );
            self.logged = Some((Instant::now(), reason));
        }
    }

    /// Records that the connection works, and logs the end of an outage that was logged.
    fn on_answer(&mut self) {
        self.outage.set_reason(None);
        self.outage.is_refused.store(false, Ordering::Relaxed);
        self.is_refusal = false;
        if self.logged.take().is_some() {
            tracing::info!("Redis is available again ({}): requests are served", self.label);
        }
    }
}

/// Pings one connection until the task is aborted, and replaces the connection when two pings in a row are unanswered. Only one
/// connection of a pool gets an outage log.
pub(super) fn watch(client: Client, mut log: Option<OutageLog>) -> AbortHandle {
    let ping_repeatedly = async move {
        // Without retries: an unanswered ping counts as a miss at once.
        let options = Options { timeout: Some(PING_TIMEOUT), max_attempts: Some(1), ..Options::default() };
        let mut errors = client.error_rx();
        let mut ticks = tokio::time::interval(PING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut misses = 0;
        loop {
            ticks.tick().await;
            match client.with_options(&options).ping::<()>(None).await {
                Ok(()) => {
                    misses = 0;
                    // Discards the errors from before the answer.
                    take_last_error(&mut errors);
                    if let Some(log) = &mut log {
                        log.on_answer();
                    }
                }
                Err(error) => {
                    misses += 1;
                    if let Some(log) = &mut log {
                        // The error that broke the connection says more than an unanswered ping.
                        if let Some(connection_error) = take_last_error(&mut errors) {
                            log.on_error(&connection_error);
                        }
                        log.on_miss(misses, &error);
                    }
                    // In any other state, fred is reconnecting already. If the reconnection fails, the next pings are unanswered.
                    if misses >= MAX_MISSES && client.state() == ClientState::Connected {
                        let _ = tokio::time::timeout(PING_TIMEOUT, client.force_reconnection()).await;
                        // The new connection is replaced after as many misses of its own.
                        misses = 0;
                    }
                }
            }
        }
    };
    tokio::spawn(ping_repeatedly).abort_handle()
}

/// Takes the connection errors that have arrived since the previous call, and returns the newest.
fn take_last_error(errors: &mut Receiver<(Error, Option<Server>)>) -> Option<Error> {
    let mut last = None;
    loop {
        match errors.try_recv() {
            Ok((error, _server)) => last = Some(error),
            // Older errors were dropped; newer ones follow.
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return last,
        }
    }
}
