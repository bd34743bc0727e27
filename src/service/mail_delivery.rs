//! Sends the mails of the outbox. Every node runs a dispatcher, which claims due mails for a limited time, the lease, and sends each
//! in a task.
//!
//! In normal operation, a mail is sent once. If a node dies between the mail server's acknowledgement and the commit of the result,
//! another node sends the mail again after the lease, with the same `Message-ID`.
//!
//! While the mail server is unreachable, a node probes it with one mail at a time, at growing intervals. It does not claim other mails.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    config::MailTransport,
    domain::{clock::Timestamp, mail::MailId},
    logging::{FailureSeries, LogLimit},
    mail::DeliveryError,
    state::{AppState, mailer::SendError},
    store::sql::{ClaimedMail, DeliveryResult, SqlError},
};

/// Interval at which a node looks for mails that other nodes enqueued and for due retries.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The time by which a lease exceeds the longest attempt. The result must be stored before the lease ends.
const LEASE_RESERVE: Duration = Duration::from_mins(5);

/// Interval at which the queue is counted and old rows are deleted.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(10);

/// Number of rows deleted in one transaction.
const PRUNE_BATCH: u32 = 500;

/// Pause between attempts to store a result.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// Limits the line about results that can't be stored: during an outage of the database, one mail of each worker waits.
static STORE_RETRY_LOG: LogLimit = LogLimit::new();

/// First pause between probes of an unreachable server. It doubles with each failed probe.
const FIRST_PROBE_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause between probes of an unreachable server.
const LONGEST_PROBE_PAUSE: Duration = Duration::from_mins(1);

/// Ids of mails that the server has accepted, but whose result is not stored yet. If their lease ends first, this node doesn't send them
/// again.
#[derive(Default)]
struct Acknowledged(Mutex<HashSet<MailId>>);

impl Acknowledged {
    fn ids(&self) -> std::sync::MutexGuard<'_, HashSet<MailId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of an outage of the mail server.
struct Outage {
    /// The number of consecutive failed probes; 0 while the server is reachable.
    failures: u32,
    /// No mail is claimed before this time, at which the next probe is due.
    until: Timestamp,
}

impl Outage {
    /// The server is reachable.
    const NONE: Self = Self { failures: 0, until: Timestamp::from_millis(0) };

    /// Records that an attempt that ended at `at` did not reach the server. Logs the start of an outage.
    fn record_failure(&mut self, error: &str, at: Timestamp) {
        if self.failures == 0 {
            tracing::error!(
                error,
                "mail: the mail server is unreachable, probing it with one mail at a time, at growing intervals of up to 1 minute: the \
                 other mails wait in the outbox. Mails whose link or code expires meanwhile are not sent. Check the server and mail.url"
            );
        }
        // 2^6 s is more than the longest pause; the bound keeps the shift from overflowing.
        let pause = FIRST_PROBE_PAUSE.saturating_mul(1 << self.failures.min(6)).min(LONGEST_PROBE_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.until = at + pause;
    }

    /// Records that an attempt reached the server. Logs the end of an outage.
    fn record_success(&mut self) {
        if self.failures > 0 {
            tracing::info!("mail: the mail server is reachable again, and waiting mails are sent");
        }
        *self = Self::NONE;
    }
}

/// The reachability of the mail server, as an attempt has shown it.
enum Reachability {
    Reached,
    /// The attempt did not reach the server, for this reason.
    Unreachable(String),
    /// The attempt did not try to connect.
    Unknown,
}

/// The result of a task that handled one mail.
struct Finished {
    reachability: Reachability,
    /// The time at which the attempt ended.
    at: Timestamp,
}

/// Sends due mails until `stop` completes, then waits for the attempts in progress. The caller limits this wait.
pub async fn run(state: &Arc<AppState>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let workers = state.mailer.settings().workers;
    let acknowledged = Arc::new(Acknowledged::default());
    let mut outage = Outage::NONE;
    let mut tasks = JoinSet::new();
    let mut polls = tokio::time::interval(POLL_INTERVAL);
    polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut claim_failures = FailureLog::of_claims();
    let mut housekeeping_failures = FailureLog::of_housekeeping();
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = polls.tick() => {}
            () = state.sql.wait_for_enqueued_mail() => {}
            _ = housekeeping.tick() => housekeeping_failures.observe(run_housekeeping(state).await.err()),
            Some(finished) = tasks.join_next() => update_outage(state, &mut outage, finished.ok()),
        }
        // More tasks may have finished meanwhile.
        while let Some(finished) = tasks.try_join_next() {
            update_outage(state, &mut outage, finished.ok());
        }
        // During an outage, one mail at a time is the probe.
        let allowed_workers = if outage.failures == 0 { workers } else { 1 };
        // Saturates, because several attempts may have begun before the outage.
        let free_workers = allowed_workers.saturating_sub(tasks.len());
        if free_workers == 0 || state.clock.now() < outage.until {
            continue;
        }
        match claim(state, free_workers).await {
            Ok(mails) => {
                claim_failures.observe(None);
                for mail in mails {
                    let (state, acknowledged) = (Arc::clone(state), Arc::clone(&acknowledged));
                    tasks.spawn(async move { attempt(&state, &acknowledged, mail).await });
                }
            }
            Err(error) => claim_failures.observe(Some(error)),
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Claims due mails for free workers.
async fn claim(state: &AppState, free_workers: usize) -> Result<Vec<ClaimedMail>, SqlError> {
    let limit = u32::try_from(free_workers).unwrap_or(u32::MAX);
    state.sql.claim_mails(limit, state.clock.now(), lease(state)).await
}

/// The lease of a claimed mail.
fn lease(state: &AppState) -> Duration {
    match &state.mailer.settings().transport {
        MailTransport::Smtp(smtp) => smtp.timeout + LEASE_RESERVE,
        MailTransport::Files(_) => LEASE_RESERVE,
    }
}

/// Updates the state of the outage after a task. `finished` is `None` if the task panicked: that says nothing about the server.
fn update_outage(state: &AppState, outage: &mut Outage, finished: Option<Finished>) {
    let Some(Finished { reachability, at }) = finished else { return };
    match reachability {
        Reachability::Reached => {
            outage.record_success();
            state.mailer.metrics.reachable.set(1);
        }
        Reachability::Unreachable(error) => {
            outage.record_failure(&error, at);
            state.mailer.metrics.reachable.set(0);
        }
        Reachability::Unknown => {}
    }
}

/// Sends one mail and stores the result.
async fn attempt(state: &AppState, acknowledged: &Acknowledged, mail: ClaimedMail) -> Finished {
    let now = state.clock.now();
    let (result, reachability) = if acknowledged.ids().contains(&mail.row.id) {
        (DeliveryResult::Sent, Reachability::Unknown)
    } else if mail.row.expires_at <= now {
        let error = mail.row.error.clone().unwrap_or_else(|| "no attempt succeeded in time".to_owned());
        (DeliveryResult::Expired(error), Reachability::Unknown)
    } else {
        let started = Instant::now();
        let sent = state.mailer.send(&mail).await;
        state.mailer.metrics.duration.observe(started.elapsed().as_secs_f64());
        classify(state, &mail, sent)
    };
    // The time before the result is stored, which may take long while the database is unavailable.
    let at = state.clock.now();
    log_result(&mail, &result);
    let outcome = match &result {
        DeliveryResult::Sent => "sent",
        DeliveryResult::GivenUp(_) => "rejected",
        DeliveryResult::Expired(_) => "expired",
        DeliveryResult::Retry(..) => "retried",
    };
    state.mailer.metrics.attempts.with_label_values(&[outcome]).inc();
    if result == DeliveryResult::Sent {
        acknowledged.ids().insert(mail.row.id);
    }
    store_result(state, &mail, &result).await;
    acknowledged.ids().remove(&mail.row.id);
    Finished { reachability, at }
}

/// Derives the result to store, and the reachability of the server, from the outcome of an attempt.
fn classify(state: &AppState, mail: &ClaimedMail, sent: Result<(), SendError>) -> (DeliveryResult, Reachability) {
    let now = state.clock.now();
    let next_attempt = || now + retry_delay(state, mail.row.attempts);
    match sent {
        Ok(()) => (DeliveryResult::Sent, Reachability::Reached),
        Err(error @ SendError::Delivery(DeliveryError::Unreachable(_))) => {
            (DeliveryResult::Retry(error.to_string(), next_attempt()), Reachability::Unreachable(error.to_string()))
        }
        Err(error @ SendError::Delivery(DeliveryError::Refused(_))) => {
            (DeliveryResult::Retry(error.to_string(), next_attempt()), Reachability::Reached)
        }
        Err(error @ SendError::Delivery(DeliveryError::Rejected(_))) => {
            (DeliveryResult::GivenUp(error.to_string()), Reachability::Reached)
        }
        // Another node may have the secret that opens the mail's data.
        Err(error @ SendError::Sealed(_)) => {
            (DeliveryResult::Retry(error.to_string(), next_attempt()), Reachability::Unknown)
        }
        Err(error @ SendError::Unusable(_)) => (DeliveryResult::GivenUp(error.to_string()), Reachability::Unknown),
    }
}

/// The delay after a failed attempt. It doubles with each attempt, up to `mail.retry_max`. A random factor of 0.5 to 1 spreads the
/// retries of mails that failed together.
fn retry_delay(state: &AppState, attempts: u32) -> Duration {
    let settings = state.mailer.settings();
    // the bound of 20 keeps the shift from overflowing
    let doublings = attempts.saturating_sub(1).min(20);
    let longest = settings.retry_first.saturating_mul(1 << doublings).min(settings.retry_max);
    let random = f64::from(u16::from_be_bytes(state.entropy.bytes())) / f64::from(u16::MAX);
    longest.mul_f64(0.5 + random / 2.0)
}

/// Logs the result of an attempt to send a mail.
fn log_result(mail: &ClaimedMail, result: &DeliveryResult) {
    let (id, template, attempts) = (mail.row.id, mail.row.template, mail.row.attempts);
    match result {
        DeliveryResult::Sent => tracing::debug!(%id, %template, attempts, "mail sent"),
        DeliveryResult::Retry(error, due) => {
            tracing::warn!(
                %id,
                %template,
                attempts,
                next_attempt = %due,
                "mail not sent yet, retrying at next_attempt: {error}"
            );
        }
        DeliveryResult::GivenUp(error) => {
            tracing::error!(
                %id,
                %template,
                attempts,
                "mail not sent, not retried. After a correction, `latchkey mail retry ID` sends it, unless its link \
                 has expired: {error}"
            );
        }
        DeliveryResult::Expired(error) => {
            tracing::error!(
                %id,
                %template,
                attempts,
                "mail expired before it was delivered, not retried. If it has a link or a code, the recipient must request a new one. Check the \
                 SMTP server (`latchkey doctor`): {error}"
            );
        }
    }
}

/// Stores a result. Retries until the database accepts it, because the server's acknowledgement must not be lost.
async fn store_result(state: &AppState, mail: &ClaimedMail, result: &DeliveryResult) {
    loop {
        match state.sql.finish_mail(mail, result, state.clock.now()).await {
            // If the claim is not valid any more, another worker has claimed the mail, and stores its own result.
            Ok(_claim_was_valid) => return,
            Err(error) if error.is_unavailable() => {
                if STORE_RETRY_LOG.record_if_due(Instant::now()) {
                    tracing::warn!(
                        id = %mail.row.id,
                        %error,
                        "mail: storing the result of a delivery attempt failed, retrying every 0.5 s: if this node \
                         stops before, the mail may be sent again. At most one such line a minute is logged"
                    );
                }
                tokio::time::sleep(STORE_RETRY).await;
            }
            Err(error) => {
                tracing::error!(
                    id = %mail.row.id,
                    delivered = *result == DeliveryResult::Sent,
                    %error,
                    "mail: storing the result of a delivery attempt failed. A node tries the mail again within minutes: \
                     with delivered=true, it arrives twice. Check the database: `latchkey doctor`"
                );
                return;
            }
        }
    }
}

/// Updates the queue's metrics, and deletes old rows with their files.
async fn run_housekeeping(state: &AppState) -> Result<(), SqlError> {
    let queue = state.sql.mail_queue().await?;
    state.mailer.set_queue(queue.waiting, queue.oldest);
    let now = state.clock.now();
    let delete_before = now - state.mailer.settings().retention;
    if !state.sql.has_obsolete_mails(delete_before, now).await? {
        return Ok(());
    }
    state.sql.wipe_expired_mails(now).await?;
    loop {
        let pruned = state.sql.prune_mails(delete_before, PRUNE_BATCH).await?;
        for id in &pruned {
            state.mailer.delete_file(*id).await;
        }
        if pruned.len() < PRUNE_BATCH as usize {
            return Ok(());
        }
    }
}

/// Logs the first of consecutive failures of a repeated task, and its first success afterwards.
struct FailureLog {
    failure_text: &'static str,
    recovery_text: &'static str,
    failures: FailureSeries,
}

impl FailureLog {
    fn of_claims() -> Self {
        Self {
            failure_text: "mail: the outbox can't be read, retrying every second: no mail is sent until it can, and none is lost",
            recovery_text: "mail: the outbox can be read again, and waiting mails are sent",
            failures: FailureSeries::default(),
        }
    }

    fn of_housekeeping() -> Self {
        Self {
            failure_text: "mail: housekeeping of the outbox failed, retrying every 10 s: until it works, the metrics of the queue are stale and \
                     old mails are not deleted",
            recovery_text: "mail: housekeeping of the outbox works again",
            failures: FailureSeries::default(),
        }
    }

    /// Logs a change between success and failure. `error` is that of the last run, if it failed.
    fn observe(&mut self, error: Option<SqlError>) {
        match error {
            Some(error) => {
                if self.failures.record_failure() {
                    tracing::error!(%error, "{}", self.failure_text);
                }
            }
            None => {
                if self.failures.record_success() {
                    tracing::info!("{}", self.recovery_text);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging;

    /// Runs `events`, and checks that they log these lines and no others: the level, and the start of the message.
    fn assert_logged(events: impl FnOnce(), expected: &[(&str, &str)]) {
        let text = logging::capture(events);
        let logged: Vec<_> = text.lines().filter_map(|line| line.split_once(" mail: ")).collect();
        assert_eq!(logged.len(), expected.len(), "{text}");
        for ((before, message), (level, start)) in logged.iter().zip(expected) {
            assert!(before.contains(level) && message.starts_with(start), "{text}");
        }
    }

    #[test]
    fn first_failure_of_each_task_and_its_recovery_are_logged_once() {
        let error = || Some(SqlError::Corrupt("a row".to_owned()));
        let events = || {
            let mut claim_failures = FailureLog::of_claims();
            let mut housekeeping_failures = FailureLog::of_housekeeping();
            for (claim_error, housekeeping_error) in
                [(None, None), (None, error()), (error(), error()), (error(), error()), (None, None), (None, None)]
            {
                claim_failures.observe(claim_error);
                housekeeping_failures.observe(housekeeping_error);
            }
        };
        assert_logged(
            events,
            &[
                ("ERROR", "housekeeping of the outbox failed"),
                ("ERROR", "the outbox can't be read"),
                ("INFO", "the outbox can be read again"),
                ("INFO", "housekeeping of the outbox works again"),
            ],
        );
    }

    #[test]
    fn start_and_end_of_an_outage_of_the_mail_server_are_logged_once() {
        let mut outage = Outage::NONE;
        let at = Timestamp::from_millis(1_800_000_000_000);
        let events = || {
            outage.record_success();
            outage.record_failure("connection refused", at);
            outage.record_failure("connection refused", at);
            outage.record_success();
            outage.record_success();
        };
        let expected = [("ERROR", "the mail server is unreachable"), ("INFO", "the mail server is reachable again")];
        assert_logged(events, &expected);
    }
}
