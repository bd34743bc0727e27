//! The mail outbox: a mail is inserted in the transaction of the change that it reports. Workers claim due mails under a lease, and send
//! them.
//!
//! A claim sets `due_at` to the end of the lease, and `lease` to the id of the claim. A worker can store a result only while the row has
//! the lease of its claim. If a worker dies, other workers claim its mails when the lease ends.

use std::time::Duration;

use sqlx::{Any, Row, Transaction, any::AnyRow};
use uuid::Uuid;

use super::{AccountChange, Dialect, Sql, SqlError, query};
use crate::domain::{
    clock::Timestamp,
    ids::AccountId,
    locale::Locale,
    mail::{MailId, OutboxMail, Template},
};

/// Every column that [`read`] reads.
macro_rules! columns {
    () => {
        "id, template, account_id, recipient, locale, state, attempts, due_at, lease, error, created_at, expires_at, done_at"
    };
}

/// The state of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxState {
    /// The mail waits for its next attempt, or a worker has claimed it.
    Waiting,
    /// The mail server has accepted the mail.
    Sent,
    /// The mail server has rejected the mail for good, or the mail has expired.
    Failed,
}

impl OutboxState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Sent, Self::Failed];

    /// The stable text: the value of the column `state`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Failed => "failed",
        }
    }

    /// Parses the text of [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A row of the outbox, without the mail's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The id.
    pub id: MailId,
    /// The template.
    pub template: Template,
    /// The account that the mail is about.
    pub account: Option<AccountId>,
    /// The address that the mail goes to.
    pub recipient: String,
    /// The language.
    pub locale: Locale,
    /// The state.
    pub state: OutboxState,
    /// How often a worker has claimed the mail.
    pub attempts: u32,
    /// While waiting: the time of the next attempt, or the end of the worker's lease.
    pub due_at: Timestamp,
    /// Whether a worker has claimed the mail and has not stored a result yet.
    pub is_claimed: bool,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// The time of the change that the mail reports.
    pub created_at: Timestamp,
    /// The time at which the mail expires.
    pub expires_at: Timestamp,
    /// The time at which the mail was sent or failed.
    pub done_at: Option<Timestamp>,
}

/// A mail that a worker has claimed.
#[derive(Clone, Debug)]
pub struct ClaimedMail {
    /// The row.
    pub row: OutboxRow,
    /// The encrypted data.
    pub sealed: Vec<u8>,
    /// The id of the claim, which the row's column `lease` has while the claim is valid.
    pub lease: Uuid,
}

/// The result of an attempt to send a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryResult {
    /// The mail server has accepted the mail.
    Sent,
    /// The mail server refuses the mail for good, with this error. The data stays until the mail expires: an operator can retry the mail.
    GivenUp(String),
    /// The mail has expired, after this error. Its data is deleted.
    Expired(String),
    /// The attempt failed with this error. The next one is due at this time.
    Retry(String, Timestamp),
}

/// The size and age of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    /// The number of mails that wait.
    pub waiting: u64,
    /// When the oldest waiting mail was created.
    pub oldest: Option<Timestamp>,
}

impl AccountChange {
    /// Adds a mail to the outbox, as part of the change. After the commit a worker sends it.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn enqueue(&mut self, mail: &OutboxMail) -> Result<(), SqlError> {
        insert(&mut self.tx, mail).await?;
        // The commit then wakes a worker.
        self.has_mail = true;
        Ok(())
    }
}

impl Sql {
    /// Adds a mail to the outbox in a transaction of its own, for a mail that reports no change: a reset link, a code.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn enqueue_mail(&self, mail: &OutboxMail) -> Result<(), SqlError> {
        let mut tx = self.begin_write().await?;
        insert(&mut tx, mail).await?;
        tx.commit().await?;
        self.mail_enqueued.notify_one();
        Ok(())
    }

    /// Waits until this process has added a mail to the outbox.
    pub async fn wait_for_enqueued_mail(&self) {
        self.mail_enqueued.notified().await;
    }

    /// Claims at most `limit` mails that are due, oldest first, until `now + lease_duration`.
    ///
    /// # Errors
    /// [`SqlError`]. If the database became unavailable, mails may be claimed until the lease ends.
    pub async fn claim_mails(
        &self,
        limit: u32,
        now: Timestamp,
        lease_duration: Duration,
    ) -> Result<Vec<ClaimedMail>, SqlError> {
        // A read precedes the write: an idle worker must not take SQLite's write lock.
        if !self.is_mail_due(now).await? {
            return Ok(Vec::new());
        }
        let lease = self.entropy.uuid();
        let mut tx = self.begin_write().await?;
        // PostgreSQL skips rows that another worker is claiming. SQLite has one writer at a time.
        let sql = match self.dialect {
            Dialect::Sqlite => concat!(
                "UPDATE mail_outbox SET due_at = $1, lease = $2, attempts = attempts + 1 WHERE id IN (\
                 SELECT id FROM mail_outbox WHERE state = 'waiting' AND due_at <= $3 ORDER BY due_at LIMIT $4) \
                 RETURNING sealed, ",
                columns!()
            ),
            Dialect::Postgres => concat!(
                "UPDATE mail_outbox SET due_at = $1, lease = $2, attempts = attempts + 1 WHERE id IN (\
                 SELECT id FROM mail_outbox WHERE state = 'waiting' AND due_at <= $3 ORDER BY due_at LIMIT $4 \
                 FOR UPDATE SKIP LOCKED) RETURNING sealed, ",
                columns!()
            ),
        };
        let rows = query(sql)
            .bind((now + lease_duration).as_millis())
            .bind(lease.to_string())
            .bind(now.as_millis())
            .bind(i64::from(limit))
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        let claimed = |row: &AnyRow| {
            // A waiting mail has data: only `finish_mail` and `wipe_expired_mails` delete it, from mails that do not wait, and
            // `retry_mails` leaves mails without data as they are. If data were missing, only this mail would fail, because empty data
            // can't be decrypted.
            let sealed: Option<Vec<u8>> = row.try_get("sealed")?;
            Ok(ClaimedMail { row: read(row)?, sealed: sealed.unwrap_or_default(), lease })
        };
        let mut mails: Vec<ClaimedMail> = rows.iter().map(claimed).collect::<Result<_, SqlError>>()?;
        // `RETURNING` has no order. Ids of mails begin with the time of their creation.
        mails.sort_by_key(|mail| mail.row.id);
        Ok(mails)
    }

    /// Begins a read-only transaction of a background task, which is not counted as a transaction of a request.
    async fn begin_background_read(&self) -> Result<Transaction<'static, Any>, SqlError> {
        Ok(self.pool.begin_with(self.dialect.begin_read()).await?)
    }

    /// Begins a transaction of a background task that may write. It is not counted as a transaction of a request.
    pub(super) async fn begin_background_write(&self) -> Result<Transaction<'static, Any>, SqlError> {
        Ok(self.pool.begin_with(self.dialect.begin_write()).await?)
    }

    async fn is_mail_due(&self, now: Timestamp) -> Result<bool, SqlError> {
        let mut tx = self.begin_background_read().await?;
        let row = query("SELECT id FROM mail_outbox WHERE state = 'waiting' AND due_at <= $1 LIMIT 1")
            .bind(now.as_millis())
            .fetch_optional(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(row.is_some())
    }

    /// Stores the result of an attempt and ends the lease. Returns false if the claim is no longer valid: its lease ended, and another
    /// worker has claimed the mail.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn finish_mail(
        &self,
        mail: &ClaimedMail,
        result: &DeliveryResult,
        now: Timestamp,
    ) -> Result<bool, SqlError> {
        let (assignments, error, due_at) = match result {
            DeliveryResult::Sent => ("state = 'sent', sealed = NULL, done_at = $5", None, now),
            DeliveryResult::GivenUp(error) => ("state = 'failed', done_at = $5", Some(error.clone()), now),
            DeliveryResult::Expired(error) => {
                ("state = 'failed', sealed = NULL, done_at = $5", Some(error.clone()), now)
            }
            DeliveryResult::Retry(error, due_at) => ("done_at = NULL", Some(error.clone()), *due_at),
        };
        // Only the statements of final results have the parameter $5.
        let is_final = !matches!(result, DeliveryResult::Retry(..));
        let sql = format!(
            "UPDATE mail_outbox SET lease = NULL, error = $1, due_at = $2, {assignments} \
             WHERE id = $3 AND lease = $4 AND state = 'waiting'"
        );
        let mut tx = self.begin_write().await?;
        let mut update = query(sqlx::AssertSqlSafe(sql))
            .bind(error)
            .bind(due_at.as_millis())
            .bind(mail.row.id.to_string())
            .bind(mail.lease.to_string());
        if is_final {
            update = update.bind(now.as_millis());
        }
        let done = update.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// The size and age of the queue.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn mail_queue(&self) -> Result<QueueState, SqlError> {
        let mut tx = self.begin_background_read().await?;
        let sql = "SELECT COUNT(*) AS waiting, MIN(created_at) AS oldest FROM mail_outbox WHERE state = 'waiting'";
        let row = query(sql).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        let waiting: i64 = row.try_get("waiting")?;
        let oldest: Option<i64> = row.try_get("oldest")?;
        Ok(QueueState {
            waiting: u64::try_from(waiting).unwrap_or_default(),
            oldest: oldest.map(Timestamp::from_millis),
        })
    }

    /// Lists at most `limit` mails in a state, or in any state (`None`), newest first.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn mails(&self, state: Option<OutboxState>, limit: u32) -> Result<Vec<OutboxRow>, SqlError> {
        let mut tx = self.begin_read().await?;
        let all = concat!("SELECT ", columns!(), " FROM mail_outbox ORDER BY id DESC LIMIT $1");
        let in_state = concat!("SELECT ", columns!(), " FROM mail_outbox WHERE state = $2 ORDER BY id DESC LIMIT $1");
        let rows = match state {
            None => query(all).bind(i64::from(limit)).fetch_all(&mut *tx).await?,
            Some(state) => query(in_state).bind(i64::from(limit)).bind(state.as_str()).fetch_all(&mut *tx).await?,
        };
        tx.commit().await?;
        rows.iter().map(read).collect()
    }

    /// Finds a mail by id.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn mail(&self, id: MailId) -> Result<Option<OutboxRow>, SqlError> {
        let mut tx = self.begin_read().await?;
        let sql = concat!("SELECT ", columns!(), " FROM mail_outbox WHERE id = $1");
        let row = query(sql).bind(id.to_string()).fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        row.as_ref().map(read).transpose()
    }

    /// Makes the mail with this id due now or, without an id, all mails that wait or have failed. Returns their number. Does not change
    /// mails that are under a worker's lease, that have expired, or whose data was deleted.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn retry_mails(&self, id: Option<MailId>, now: Timestamp) -> Result<u64, SqlError> {
        const RETRY: &str = "UPDATE mail_outbox SET state = 'waiting', due_at = $1, lease = NULL, done_at = NULL \
                             WHERE sealed IS NOT NULL AND expires_at > $1 \
                             AND (state = 'failed' OR state = 'waiting' AND (lease IS NULL OR due_at <= $1))";
        const RETRY_ONE: &str = "UPDATE mail_outbox SET state = 'waiting', due_at = $1, lease = NULL, done_at = NULL \
                                 WHERE id = $2 AND sealed IS NOT NULL AND expires_at > $1 \
                                 AND (state = 'failed' OR state = 'waiting' AND (lease IS NULL OR due_at <= $1))";
        let mut tx = self.begin_write().await?;
        let update = match id {
            None => query(RETRY).bind(now.as_millis()),
            Some(id) => query(RETRY_ONE).bind(now.as_millis()).bind(id.to_string()),
        };
        let done = update.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }

    /// Whether [`Self::wipe_expired_mails`] at `now` or [`Self::prune_mails`] with `before` would change a mail. Only reads, since an idle
    /// node must not take SQLite's write lock.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn has_obsolete_mails(&self, before: Timestamp, now: Timestamp) -> Result<bool, SqlError> {
        let mut tx = self.begin_background_read().await?;
        let sql = "SELECT id FROM mail_outbox WHERE state <> 'waiting' \
                   AND (done_at < $1 OR state = 'failed' AND sealed IS NOT NULL AND expires_at <= $2) LIMIT 1";
        let row = query(sql).bind(before.as_millis()).bind(now.as_millis()).fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        Ok(row.is_some())
    }

    /// Deletes the data of failed mails that have expired, so that they can't be retried. Returns the number of these mails.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn wipe_expired_mails(&self, now: Timestamp) -> Result<u64, SqlError> {
        let mut tx = self.begin_background_write().await?;
        let sql =
            "UPDATE mail_outbox SET sealed = NULL WHERE state = 'failed' AND sealed IS NOT NULL AND expires_at <= $1";
        let done = query(sql).bind(now.as_millis()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }

    /// Deletes at most `limit` mails that were sent or have failed before `before`, and returns their ids.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn prune_mails(&self, before: Timestamp, limit: u32) -> Result<Vec<MailId>, SqlError> {
        let mut tx = self.begin_background_write().await?;
        let sql = "DELETE FROM mail_outbox WHERE id IN (SELECT id FROM mail_outbox \
                   WHERE state <> 'waiting' AND done_at < $1 ORDER BY done_at LIMIT $2) RETURNING id";
        let rows = query(sql).bind(before.as_millis()).bind(i64::from(limit)).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter().map(|row| mail_id(&row.try_get::<String, _>("id")?)).collect()
    }
}

/// Inserts a mail as part of a transaction. The mail is due at its `created_at`, and so at once.
pub(super) async fn insert(tx: &mut Transaction<'_, Any>, mail: &OutboxMail) -> Result<(), SqlError> {
    let sql = "INSERT INTO mail_outbox (id, template, account_id, recipient, locale, sealed, state, attempts, due_at, lease, \
               error, created_at, expires_at, done_at) \
               VALUES ($1, $2, $3, $4, $5, $6, 'waiting', 0, $7, NULL, NULL, $7, $8, NULL)";
    query(sql)
        .bind(mail.id.to_string())
        .bind(mail.template.as_str())
        .bind(mail.account.map(|id| id.to_string()))
        .bind(mail.recipient.as_str().to_owned())
        .bind(mail.locale.as_str())
        .bind(mail.sealed.clone())
        .bind(mail.created_at.as_millis())
        .bind(mail.expires_at.as_millis())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn mail_id(text: &str) -> Result<MailId, SqlError> {
    text.parse().map_err(|_| SqlError::Corrupt("id of a mail".to_owned()))
}

/// Reads a row with the columns of `columns!`.
fn read(row: &AnyRow) -> Result<OutboxRow, SqlError> {
    let id = mail_id(&row.try_get::<String, _>("id")?)?;
    let corrupt = |column: &str| SqlError::Corrupt(format!("{column} of the mail {id}"));
    let text = |column: &str| -> Result<String, SqlError> { Ok(row.try_get(column)?) };
    let time = |column: &str| -> Result<Timestamp, SqlError> { Ok(Timestamp::from_millis(row.try_get(column)?)) };
    let account: Option<String> = row.try_get("account_id")?;
    let done_at: Option<i64> = row.try_get("done_at")?;
    let lease: Option<String> = row.try_get("lease")?;
    let attempts: i64 = row.try_get("attempts")?;
    Ok(OutboxRow {
        id,
        template: text("template")?.parse().map_err(|_| corrupt("template"))?,
        account: account.map(|id| id.parse()).transpose().map_err(|_| corrupt("account_id"))?,
        recipient: text("recipient")?,
        locale: text("locale")?.parse().map_err(|_| corrupt("locale"))?,
        state: OutboxState::parse(&text("state")?).ok_or_else(|| corrupt("state"))?,
        attempts: u32::try_from(attempts).unwrap_or_default(),
        due_at: time("due_at")?,
        is_claimed: lease.is_some(),
        error: row.try_get("error")?,
        created_at: time("created_at")?,
        expires_at: time("expires_at")?,
        done_at: done_at.map(Timestamp::from_millis),
    })
}
