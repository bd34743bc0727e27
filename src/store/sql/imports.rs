//! Accounts brought from elsewhere, many at a time, and how far that has come.

use sqlx::Row;

use super::{Sql, SqlError, accounts, query};
use crate::domain::{
    account::NewAccount,
    audit::{AuditEvent, Entry},
    clock::Timestamp,
};

/// What became of a row that was to be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    /// It is an account now.
    Inserted,
    /// Another account has its e-mail address, in this case or another.
    EmailTaken,
    /// Another account has its username, in this case or another.
    UsernameTaken,
}

impl Sql {
    /// Inserts `rows`, all those that can be, and notes that `source` has been dealt with up to and with `upto_line`: both
    /// or neither. Answers what became of each row, in order. `rows` may be empty.
    ///
    /// # Errors
    /// [`SqlError`]; nothing of this batch is stored then, so it can be tried again.
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

    /// The last line of `source` that has been dealt with, if its import was begun and not [forgotten](Self::forget_import).
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

    /// Forgets how far `source` has come: its import is done, or is to begin again.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn forget_import(&self, source: &str) -> Result<(), SqlError> {
        let mut tx = self.begin_write().await?;
        query("DELETE FROM imports WHERE source = $1").bind(source.to_owned()).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}
