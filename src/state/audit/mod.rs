//! The audit log of a node: security events on their way to the database.
//!
//! The event of a change in SQL is written by [`crate::store::sql`], in the transaction of the change: neither is stored without the other.
//! Other events are queued here in memory, within bounds and without waiting, so that recording an event never delays an
//! answer (I7: the timing of an answer reveals nothing). One task writes the queue in batches.

mod pending;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prometheus::IntCounterVec;
use tokio::sync::Notify;
use uuid::Uuid;

use self::pending::{Bounds, Pending};
use crate::{
    config::AuditSettings,
    domain::{
        audit::{AuditEntry, AuditEvent},
        clock::Clock,
        entropy::Entropy,
    },
    logging::FailureSeries,
    metrics,
    store::sql::{Sql, SqlError},
};

/// Interval at which queued events are written, so that events of one second share a transaction.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum number of rows in one transaction. It is large, because a page of an index is written once per transaction, however
/// many of its rows are new.
const MAX_BATCH: usize = 4096;

/// The maximum number of expired rows that one transaction deletes. It is small, so that no other writer waits long.
const PRUNE_BATCH: u32 = 500;

/// The pause between two such transactions, in which other writers get their turn.
const PRUNE_PAUSE: Duration = Duration::from_millis(100);

/// Interval at which expired rows are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_mins(10);

/// How long the last events may take to be written when the node stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Queues security events and writes them to the database.
#[derive(Debug)]
pub struct AuditLog {
    shared: Arc<Shared>,
}

/// The parts that the log shares with its writer task.
#[derive(Debug)]
struct Shared {
    pending: Mutex<Pending>,
    /// The batch being written. Locked by one writer at a time, so that rows keep their order.
    writing: tokio::sync::Mutex<Vec<(Uuid, AuditEntry)>>,
    /// Stops the writer task when the [`AuditLog`] is dropped.
    dropped: Notify,
    /// Whether [`AuditLog::close`] has run. Later failures of the writer are not logged, because the database closes too.
    is_closed: AtomicBool,
    settings: AuditSettings,
    clock: Clock,
    entropy: Entropy,
    sql: Sql,
    /// Events that were not recorded, by kind.
    lost: IntCounterVec,
}

impl AuditLog {
    /// Starts the task that writes recorded events. The task stops when the log is dropped.
    pub fn start(settings: &AuditSettings, clock: Clock, entropy: Entropy, sql: &Sql) -> Self {
        let bounds = Bounds {
            queue: settings.queue,
            refusals: settings.max_refusals,
            refusals_per_subject: settings.max_refusals_per_account,
        };
        let lost = metrics::counters(
            "latchkey_audit_lost_total",
            "Security events that were not written to the audit log, by kind: over a budget, or the queue was full.",
            &["event"],
        );
        // creates the counters, so that they are exported with the value 0
        for event in AuditEvent::ALL {
            lost.with_label_values(&[event.as_str()]);
        }
        let shared = Arc::new(Shared {
            pending: Mutex::new(Pending::new(bounds)),
            writing: tokio::sync::Mutex::default(),
            dropped: Notify::new(),
            is_closed: AtomicBool::new(false),
            settings: settings.clone(),
            clock,
            entropy,
            sql: sql.clone(),
            lost,
        });
        tokio::spawn(Arc::clone(&shared).run_writer());
        Self { shared }
    }

    /// Queues an event; never waits. If there is no room, counts the event as lost. The log gets an entry with the number of lost events
    /// later.
    pub fn record(&self, entry: AuditEntry) {
        let event = entry.facts.event;
        let lost = self.shared.pending().add(entry);
        if lost > 0 {
            self.shared.lost.with_label_values(&[event.as_str()]).inc_by(lost);
        }
    }

    /// Writes all queued events now.
    ///
    /// # Errors
    /// [`SqlError`]; the events stay queued.
    pub async fn flush(&self) -> Result<(), SqlError> {
        self.shared.write().await
    }

    /// Writes the last events when the node stops. Logs how many could not be written.
    pub async fn close(&self) {
        let written = tokio::time::timeout(CLOSE_TIMEOUT, self.flush()).await;
        self.shared.is_closed.store(true, Ordering::Relaxed);
        let error = match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("the database did not answer within {} s", CLOSE_TIMEOUT.as_secs()),
        };
        let count = self.shared.pending().events();
        tracing::error!(count, error, "audit log: the last events could not be written and are lost");
    }

    /// The counter of lost events.
    pub(super) fn lost(&self) -> &IntCounterVec {
        &self.shared.lost
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.shared.dropped.notify_one();
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run_writer(self: Arc<Self>) {
        let mut writes = tokio::time::interval(WRITE_INTERVAL);
        writes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut prunes = tokio::time::interval(PRUNE_INTERVAL);
        let mut write_failures = FailureSeries::default();
        let mut prune_failures = FailureSeries::default();
        loop {
            tokio::select! {
                () = self.dropped.notified() => return,
                _ = writes.tick() => self.log_write(self.write().await, &mut write_failures),
                _ = prunes.tick() => self.log_prune(self.prune().await, &mut prune_failures),
            }
        }
    }

    /// Logs the first of several failures to write events, and the first success after them. Logs no failure after [`AuditLog::close`].
    fn log_write(&self, outcome: Result<(), SqlError>, failures: &mut FailureSeries) {
        match outcome {
            Ok(()) => {
                if failures.record_success() {
                    tracing::info!(
                        "audit log: writing works again; `latchkey_audit_lost_total` counts the events that found no room meanwhile"
                    );
                }
            }
            Err(error) => {
                if !self.is_closed.load(Ordering::Relaxed) && failures.record_failure() {
                    let count = self.pending().events();
                    tracing::error!(
                        %error,
                        count,
                        "audit log: writing to the database failed, retrying every second: events wait in memory, and \
                         those above audit.queue are lost"
                    );
                }
            }
        }
    }

    /// Logs the first of several failures to delete expired events, and the first success after them. Logs no failure after
    /// [`AuditLog::close`].
    fn log_prune(&self, outcome: Result<(), SqlError>, failures: &mut FailureSeries) {
        match outcome {
            Ok(()) => {
                if failures.record_success() {
                    tracing::info!("audit log: deleting expired events works again");
                }
            }
            Err(error) => {
                if !self.is_closed.load(Ordering::Relaxed) && failures.record_failure() {
                    tracing::error!(
                        %error,
                        "audit log: deleting expired events failed, retrying every 10 minutes: until it works, events \
                         older than audit.retention stay in the database"
                    );
                }
            }
        }
    }

    async fn write(&self) -> Result<(), SqlError> {
        // A batch whose write failed is retried first, under the same ids: the database may have stored it nevertheless.
        let mut batch = self.writing.lock().await;
        loop {
            if batch.is_empty() {
                let taken = self.pending().take(MAX_BATCH, self.clock.now());
                batch.extend(taken.into_iter().map(|entry| (self.entropy.ordered_uuid(entry.at), entry)));
            }
            if batch.is_empty() {
                return Ok(());
            }
            self.sql.append_audit(&batch).await?;
            batch.clear();
            self.pending().mark_written();
        }
    }

    async fn prune(&self) -> Result<(), SqlError> {
        let Some(retention) = self.settings.retention else { return Ok(()) };
        let before = self.clock.now() - retention;
        // A full batch: there may be more expired rows.
        while self.sql.prune_audit(before, PRUNE_BATCH).await? >= u64::from(PRUNE_BATCH) {
            tokio::time::sleep(PRUNE_PAUSE).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{config::DatabaseSettings, domain::audit::AddressPrecision, logging::tests::capture_until_drop};

    /// An audit log and its database, which is in `folder`.
    async fn start_log(folder: &Path) -> (AuditLog, Sql) {
        let database = DatabaseSettings {
            url: format!("sqlite://{}/a.db", folder.display()).as_str().into(),
            migrate_url: None,
            max_connections: 1,
            acquire_timeout: Duration::from_secs(60),
        };
        let settings = AuditSettings {
            retention: Some(Duration::from_hours(1)),
            addresses: AddressPrecision::Full,
            queue: 100,
            max_refusals: 100,
            max_refusals_per_account: 100,
        };
        let sql = Sql::connect(&database).await.unwrap();
        sql.migrate().await.unwrap();
        (AuditLog::start(&settings, Clock::System, Entropy::system(), &sql), sql)
    }

    /// Simulates a command that closes the database while the writer starts to delete expired rows.
    #[tokio::test]
    async fn writer_reports_no_error_after_close_when_the_database_is_closed() {
        let (logged, _guard) = capture_until_drop();
        let folder = tempfile::tempdir().unwrap();
        let (log, sql) = start_log(folder.path()).await;
        log.close().await;
        sql.close().await;
        let outcome = log.shared.prune().await;
        assert!(outcome.is_err(), "the database is closed");
        log.shared.log_prune(outcome, &mut FailureSeries::default());
        let text = logged.text();
        assert!(!text.contains("ERROR"), "{text}");
    }

    #[tokio::test]
    async fn failed_deletion_of_expired_events_is_not_logged_as_a_failed_write() {
        let (logged, _guard) = capture_until_drop();
        let folder = tempfile::tempdir().unwrap();
        let (log, sql) = start_log(folder.path()).await;
        sql.close().await;
        let (mut write_failures, mut prune_failures) = (FailureSeries::default(), FailureSeries::default());
        log.shared.log_prune(log.shared.prune().await, &mut prune_failures);
        // A write of no events does not use the database, and succeeds.
        log.shared.log_write(log.flush().await, &mut write_failures);
        let text = logged.text();
        assert!(text.contains("audit log: deleting expired events failed"), "{text}");
        assert!(!text.contains("audit log: writing"), "{text}");
    }

    #[tokio::test]
    async fn close_when_the_batch_cannot_be_written_logs_the_number_of_its_events() {
        let (logged, _guard) = capture_until_drop();
        let folder = tempfile::tempdir().unwrap();
        let (log, sql) = start_log(folder.path()).await;
        sql.close().await;
        for _ in 0..3 {
            log.record(AuditEntry::new(Clock::System.now(), AuditEvent::SignIn));
        }
        // Moves the events from the queue to the batch, as the writer does.
        assert!(log.flush().await.is_err(), "the database is closed");
        log.close().await;
        let text = logged.text();
        let lost = text.lines().find(|line| line.contains("could not be written and are lost"));
        assert!(lost.is_some_and(|line| line.contains("count=3")), "{text}");
    }
}
