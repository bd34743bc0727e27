//! The audit log of a node: security events on their way into SQL.
//!
//! What changes in SQL is written down in the transaction of the change, by [`crate::store::sql`]: neither happens without
//! the other. What happens in Redis, or nowhere, is noted here in memory, within bounds and without waiting, so that
//! nobody's answer takes longer for it (I7); one task writes it down, a batch at a time.

mod pending;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use uuid::Uuid;

use self::pending::Pending;
use crate::{
    config::AuditSettings,
    domain::{audit::Entry, clock::Clock, entropy::Entropy},
    store::sql::{Sql, SqlError},
};

/// How long what was noted waits to be written, so that what comes together is written together.
const GATHER: Duration = Duration::from_secs(1);

/// Rows written in one transaction: pages of an index are written once for all of their rows.
const BATCH: usize = 4096;

/// Rows whose retention is over that are deleted at once.
const PRUNE: u32 = 500;

/// How often rows whose retention is over are looked for.
const PRUNE_EVERY: Duration = Duration::from_mins(10);

/// How long the last events may take to be written when the service stops.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Notes events.
#[derive(Debug)]
pub struct AuditLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pending: Mutex<Pending>,
    /// Held by whoever writes: one at a time, so that rows stay in order.
    writing: tokio::sync::Mutex<Vec<(Uuid, Entry)>>,
    closed: Notify,
    settings: AuditSettings,
    clock: Clock,
    entropy: Entropy,
    sql: Sql,
}

impl AuditLog {
    /// Begins to write down what is noted, until this is dropped.
    pub fn start(settings: &AuditSettings, clock: Clock, entropy: Entropy, sql: &Sql) -> Self {
        let shared = Arc::new(Shared {
            pending: Mutex::new(Pending::new(settings.queue, settings.max_refusals)),
            writing: tokio::sync::Mutex::default(),
            closed: Notify::new(),
            settings: settings.clone(),
            clock,
            entropy,
            sql: sql.clone().keeping_addresses(settings.addresses),
        });
        tokio::spawn(Arc::clone(&shared).keep_writing());
        Self { shared }
    }

    /// Notes an event; never waits. What there is no room for is counted, and the count is written down.
    pub fn record(&self, entry: Entry) {
        self.shared.pending().add(entry);
    }

    /// Writes down now what was noted before.
    ///
    /// # Errors
    /// [`SqlError`]; it is kept then, and tried again.
    pub async fn flush(&self) -> Result<(), SqlError> {
        self.shared.write().await
    }

    /// Writes down what was noted, for the last time: says in the log how much could not be.
    pub async fn close(&self) {
        let written = tokio::time::timeout(LAST_WORDS, self.flush()).await;
        if !matches!(written, Ok(Ok(()))) {
            let count = self.shared.pending().events();
            tracing::error!(count, "the last events of the audit log could not be written down; they are lost");
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.shared.closed.notify_one();
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep_writing(self: Arc<Self>) {
        let mut gathered = tokio::time::interval(GATHER);
        gathered.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut prune = tokio::time::interval(PRUNE_EVERY);
        let mut failing = false;
        loop {
            let done = tokio::select! {
                () = self.closed.notified() => return,
                _ = gathered.tick() => self.write().await,
                _ = prune.tick() => self.prune().await,
            };
            match done {
                Ok(()) => failing = false,
                // once, not every second
                Err(_) if failing => {}
                Err(error) => {
                    failing = true;
                    let count = self.pending().events();
                    tracing::error!(%error, count, "the audit log can't be written; events are kept as far as audit.queue allows");
                }
            }
        }
    }

    async fn write(&self) -> Result<(), SqlError> {
        // What a failed attempt left is written first, under the ids it had: it may have been written after all.
        let mut batch = self.writing.lock().await;
        loop {
            if batch.is_empty() {
                let taken = self.pending().take(BATCH, self.clock.now());
                batch.extend(taken.into_iter().map(|entry| (self.entropy.ordered_uuid(entry.at), entry)));
            }
            if batch.is_empty() {
                return Ok(());
            }
            self.sql.append_audit(&batch).await?;
            batch.clear();
        }
    }

    async fn prune(&self) -> Result<(), SqlError> {
        let Some(retention) = self.settings.retention else { return Ok(()) };
        let before = self.clock.now() - retention;
        // a little at a time: nobody else should wait for it
        while self.sql.prune_audit(before, PRUNE).await? >= u64::from(PRUNE) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}
