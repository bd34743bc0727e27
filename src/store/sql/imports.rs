//! Bulk inserts of imported accounts, and the progress of each import.

use std::collections::HashSet;

use sqlx::Row;

use super::{SecondaryEmail, Sql, SqlError, TotpFactor, accounts, query, secondary_emails};
use crate::domain::{
    account::NewAccount,
    audit::{AuditEntry, AuditEvent},
    clock::Timestamp,
    factor::{FactorKind, Factors},
    ids::AccountId,
};

/// The outcome of importing one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    /// The account was inserted.
    Inserted,
    /// Another account has an e-mail address of the row.
    EmailTaken,
    /// Another account has the row's username.
    UsernameTaken,
    /// Another account has the row's id.
    IdTaken,
}

impl Sql {
    /// Inserts a batch of accounts, and stores the number of the batch's last record as the progress of `source`, in one transaction. Returns
    /// the outcome of each row, in order. `rows` may be empty.
    ///
    /// Skips each row whose id, username or e-mail address (primary or secondary) belongs to another account. `factors` are the authenticator
    /// apps of the accounts, `emails` their secondary addresses, each with the index of its account in `rows`.
    ///
    /// # Errors
    /// [`SqlError`]. Then nothing of the batch was stored, so the caller can retry.
    pub async fn import_accounts(
        &self,
        source: &str,
        last_record: u64,
        rows: &[NewAccount],
        factors: &[TotpFactor],
        emails: &[(usize, SecondaryEmail)],
        now: Timestamp,
    ) -> Result<Vec<ImportOutcome>, SqlError> {
        let mut tx = self.begin_write().await?;
        let mut outcomes = accounts::insert(&mut tx, rows).await?;
        for (index, email) in emails {
            let Some(outcome) = outcomes.get_mut(*index).filter(|outcome| **outcome == ImportOutcome::Inserted) else {
                continue;
            };
            if !secondary_emails::insert_imported(&mut tx, email).await? {
                *outcome = ImportOutcome::EmailTaken;
                for sql in ["DELETE FROM secondary_emails WHERE account_id = $1", "DELETE FROM accounts WHERE id = $1"]
                {
                    query(sql).bind(email.account.to_string()).execute(&mut *tx).await?;
                }
            }
        }
        let inserted = rows.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == ImportOutcome::Inserted);
        let inserted: HashSet<AccountId> = inserted.map(|(row, _)| row.id).collect();
        let kinds = Factors::NONE.set(FactorKind::Totp, true);
        for factor in factors.iter().filter(|factor| inserted.contains(&factor.account)) {
            super::factors::insert_totp(&mut tx, factor).await?;
            query("UPDATE accounts SET factors = $1, factors_version = 1 WHERE id = $2")
                .bind(i64::from(kinds.bits()))
                .bind(factor.account.to_string())
                .execute(&mut *tx)
                .await?;
        }
        let sql = "INSERT INTO imports (source, line, updated_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (source) DO UPDATE SET line = excluded.line, updated_at = excluded.updated_at";
        query(sql)
            .bind(source.to_owned())
            .bind(i64::try_from(last_record).unwrap_or(i64::MAX))
            .bind(now.as_millis())
            .execute(&mut *tx)
            .await?;
        if !inserted.is_empty() {
            let entry = AuditEntry::new(now, AuditEvent::AccountsImported).count(inserted.len() as u64);
            self.record(&mut tx, &entry).await?;
        }
        tx.commit().await?;
        Ok(outcomes)
    }

    /// The number of the last record of `source` that was processed; none if there is no unfinished import of `source`.
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

    /// Deletes the progress of `source`, whose import is finished.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn forget_import(&self, source: &str) -> Result<(), SqlError> {
        let mut tx = self.begin_write().await?;
        query("DELETE FROM imports WHERE source = $1").bind(source.to_owned()).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}
