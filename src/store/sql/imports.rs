//! Bulk inserts of imported accounts, and the progress of each import.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    slice,
};

use sqlx::{Any, Row, Transaction};

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
    /// Skips each row whose id, username or e-mail address (primary or secondary) belongs to another account, stored before or inserted
    /// from another row. Of rows with the same id, username or primary address, the first is inserted. A primary address wins over a
    /// secondary one. A skipped row takes nothing from the others.
    ///
    /// `factors` are the authenticator apps of the accounts. `emails` are their secondary addresses, each with the index of its account in
    /// `rows`.
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
        let outcomes = insert_with_emails(&mut tx, rows, emails).await?;
        let inserted = rows.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == ImportOutcome::Inserted);
        let inserted_ids: HashSet<AccountId> = inserted.map(|(row, _)| row.id).collect();
        // An import adds no factors of another kind.
        let totp_only = Factors::NONE.set(FactorKind::Totp, true);
        for factor in factors.iter().filter(|factor| inserted_ids.contains(&factor.account)) {
            super::factors::insert_totp(&mut tx, factor).await?;
            query("UPDATE accounts SET factors = $1, factors_version = 1 WHERE id = $2")
                .bind(i64::from(totp_only.bits()))
                .bind(factor.account.to_string())
                .execute(&mut *tx)
                .await?;
        }
        // the column `line` has the number of the record
        let sql = "INSERT INTO imports (source, line, updated_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (source) DO UPDATE SET line = excluded.line, updated_at = excluded.updated_at";
        query(sql)
            .bind(source.to_owned())
            .bind(i64::try_from(last_record).unwrap_or(i64::MAX))
            .bind(now.as_millis())
            .execute(&mut *tx)
            .await?;
        if !inserted_ids.is_empty() {
            let entry = AuditEntry::new(now, AuditEvent::AccountsImported).count(inserted_ids.len() as u64);
            self.record(&mut tx, &entry).await?;
        }
        tx.commit().await?;
        Ok(outcomes)
    }

    /// The number of the last record of `source` that was processed; `None` if there is no unfinished import of `source`.
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

/// Inserts accounts and their secondary addresses, without committing. Returns the outcome of each row, in order.
async fn insert_with_emails(
    tx: &mut Transaction<'_, Any>,
    rows: &[NewAccount],
    emails: &[(usize, SecondaryEmail)],
) -> Result<Vec<ImportOutcome>, SqlError> {
    let mut emails_by_row: BTreeMap<usize, Vec<&SecondaryEmail>> = BTreeMap::new();
    for (index, email) in emails {
        emails_by_row.entry(*index).or_default().push(email);
    }
    let mut outcomes = accounts::insert(tx, rows).await?;
    // The rows that the last call of `accounts::insert` tried to insert.
    let mut tried: Vec<usize> = (0..rows.len()).collect();
    // The rows with a secondary address that is taken.
    let mut refused = BTreeSet::new();
    // Each refusal frees an id, addresses and a username for which other rows were skipped. So the loop tries the skipped rows again,
    // until it refuses no further row.
    loop {
        let refused_before = refused.len();
        for index in tried {
            if outcomes[index] != ImportOutcome::Inserted {
                continue;
            }
            let emails = emails_by_row.get(&index).map(Vec::as_slice).unwrap_or_default();
            if !insert_emails_or_delete(tx, rows[index].id, emails).await? {
                outcomes[index] = ImportOutcome::EmailTaken;
                refused.insert(index);
            }
        }
        if refused.len() == refused_before {
            break;
        }
        let is_skipped = |index: &usize| outcomes[*index] != ImportOutcome::Inserted && !refused.contains(index);
        tried = (0..rows.len()).filter(is_skipped).collect();
        let skipped: Vec<NewAccount> = tried.iter().map(|index| rows[*index].clone()).collect();
        for (index, outcome) in tried.iter().zip(accounts::insert(tx, &skipped).await?) {
            outcomes[*index] = outcome;
        }
    }
    // Tries the refused rows once more: their secondary address may have been the primary address of a row that was refused later.
    for index in refused {
        let outcome = accounts::insert(tx, slice::from_ref(&rows[index])).await?;
        let emails = emails_by_row.get(&index).map(Vec::as_slice).unwrap_or_default();
        let is_inserted = outcome == [ImportOutcome::Inserted];
        if is_inserted && insert_emails_or_delete(tx, rows[index].id, emails).await? {
            outcomes[index] = ImportOutcome::Inserted;
        }
    }
    Ok(outcomes)
}

/// Inserts the secondary addresses of a new account. If one of them is taken, deletes the account and returns false.
async fn insert_emails_or_delete(
    tx: &mut Transaction<'_, Any>,
    account: AccountId,
    emails: &[&SecondaryEmail],
) -> Result<bool, SqlError> {
    for email in emails {
        if !secondary_emails::insert_imported(tx, email).await? {
            for sql in ["DELETE FROM secondary_emails WHERE account_id = $1", "DELETE FROM accounts WHERE id = $1"] {
                query(sql).bind(account.to_string()).execute(&mut **tx).await?;
            }
            return Ok(false);
        }
    }
    Ok(true)
}
