//! Bulk inserts of imported accounts, and the progress of each import.

use sqlx::Row;

use super::{Sql, SqlError, accounts, query};
use crate::domain::{
    account::NewAccount,
    audit::{AuditEvent, Entry},
    clock::Timestamp,
};

/// The outcome of importing one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    /// The account was inserted.
    Inserted,
    /// Another account has its e-mail address.
    EmailTaken,
    /// Another account has its username.
    UsernameTaken,
    /// Another account has its id.
    IdTaken,
}

impl Sql {
    /// Inserts the rows that conflict with no account and stores `upto_line` as the progress of `source`, in one
    /// transaction. Returns the outcome of each row, in order. `rows` may be empty.
    ///
    /// # Errors
    /// [`SqlError`]. Nothing of the batch is stored then, so the caller can retry.
    pub async fn import_accounts(
        &self,
        source: &str,
        upto_line: u64,
        rows: &[NewAccount],
        now: Timestamp,
    ) -> Result<Vec<ImportOutcome>, SqlError> {
        let mut tx = self.begin_write().await?;
        let outcomes = accounts::insert(&mut tx, rows).await?;
        let sql = "INSERT INTO imports (source, line, updated_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (source) DO UPDATE SET line = excluded.line, updated_at = excluded.updated_at";
        query(sql)
            .bind(source.to_owned())
            .bind(i64::try_from(upto_line).unwrap_or(i64::MAX))
            .bind(now.as_millis())
            .execute(&mut *tx)
            .await?;
        let inserted = outcomes.iter().filter(|outcome| **outcome == ImportOutcome::Inserted).count() as u64;
        if inserted > 0 {
            self.record(&mut tx, &Entry::new(now, AuditEvent::AccountsImported).count(inserted)).await?;
        }
        tx.commit().await?;
        Ok(outcomes)
    }

    /// The last line of `source` that was stored, if its import is unfinished.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn import_progress(&self, source: &str) -> Result<Option<u64>, SqlError> {
        let mut tx = self.begin_read().await?;
        let sql = "SELECT line FROM imports WHERE source = $1";
        let row = query(sql).bind(source.to_owned()).fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        let Some(row) = row else { return Ok(None) };
        let line: i64 = row.try_get("line")?;
        let line = u64::try_from(line).map_err(|_| SqlError::Corrupt(format!("line {line} of an import")))?;
        Ok(Some(line))
    }

    /// Deletes the progress of `source`: its import is finished.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn forget_import(&self, source: &str) -> Result<(), SqlError> {
        let mut tx = self.begin_write().await?;
        query("DELETE FROM imports WHERE source = $1").bind(source.to_owned()).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}
