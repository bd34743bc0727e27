//! The `secondary_emails` table: the e-mail addresses of accounts other than the primary one. Also decides who owns an address.
//!
//! The primary address is in `accounts`, so that a sign-in by the primary address reads one row. A verified address belongs to one
//! account. A unique index of each table guarantees this within the table, and the lock of [`AccountChange::lock_address`] across both
//! tables. An unverified address belongs to nobody (I13): several accounts may have it in `secondary_emails`. An account that has it as
//! its unverified primary address loses it to the account that verifies it.

use aws_lc_rs::digest::{SHA256, digest};
use sqlx::{Any, AssertSqlSafe, Row, SqlSafeStr, Transaction, any::AnyRow};

use super::{AccountChange, Dialect, Sql, SqlError, TakeAddressError, query};
use crate::domain::{
    account::{Account, Email, Identifier},
    clock::Timestamp,
    ids::{AccountId, EmailId},
};

/// A secondary address of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecondaryEmail {
    /// The id.
    pub id: EmailId,
    /// The account.
    pub account: AccountId,
    /// The address.
    pub email: Email,
    /// When the address was verified; `None` before.
    pub verified_at: Option<Timestamp>,
    /// When the address was added.
    pub created_at: Timestamp,
}

impl Sql {
    /// The secondary addresses of an account, oldest first.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn secondary_emails(&self, account: AccountId) -> Result<Vec<SecondaryEmail>, SqlError> {
        let mut tx = self.begin_read().await?;
        let found = list(&mut tx, account).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// The stored address of an account that matches the identifier a user typed. Mails are sent to the stored address, never to the typed
    /// text. An e-mail address other than the primary one matches the verified secondary address with the same key. Any other identifier
    /// matches the primary address. `None` if the secondary address by which the account was found has been removed since.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn named_email(&self, account: &Account, identifier: &Identifier) -> Result<Option<Email>, SqlError> {
        let Some(typed) = account.other_email(identifier) else { return Ok(Some(account.email.clone())) };
        let emails = self.secondary_emails(account.id).await?;
        let matching =
            emails.into_iter().find(|stored| stored.verified_at.is_some() && stored.email.key() == typed.key());
        Ok(matching.map(|stored| stored.email))
    }
}

impl AccountChange {
    /// The secondary addresses of the account, oldest first.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn secondary_emails(&mut self) -> Result<Vec<SecondaryEmail>, SqlError> {
        list(&mut self.tx, self.account.id).await
    }

    /// Adds a secondary address. The account must not have the address yet.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn add_secondary_email(&mut self, new: &SecondaryEmail) -> Result<(), SqlError> {
        insert(&mut self.tx, new).await
    }

    /// Marks a secondary address as verified. Another account that has the address as its unverified primary one loses it (I13).
    ///
    /// # Errors
    /// [`TakeAddressError`]
    pub async fn verify_secondary_email(
        &mut self,
        email: &SecondaryEmail,
        now: Timestamp,
    ) -> Result<(), TakeAddressError> {
        let key = email.email.key();
        self.release_unverified(&key, now).await?;
        self.lock_address(&key).await?;
        if !self.free_address(&key).await? {
            return Err(TakeAddressError::Taken);
        }
        let updated = query("UPDATE secondary_emails SET verified_at = $1 WHERE id = $2 AND account_id = $3")
            .bind(now.as_millis())
            .bind(email.id.to_string())
            .bind(self.account.id.to_string())
            .execute(&mut *self.tx)
            .await;
        match updated {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Err(TakeAddressError::Taken),
            Err(error) => Err(SqlError::from(error).into()),
            Ok(_) => Ok(self.store(now).await?),
        }
    }

    /// Removes a secondary address.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn remove_secondary_email(&mut self, id: EmailId, now: Timestamp) -> Result<(), SqlError> {
        query("DELETE FROM secondary_emails WHERE id = $1 AND account_id = $2")
            .bind(id.to_string())
            .bind(self.account.id.to_string())
            .execute(&mut *self.tx)
            .await?;
        self.store(now).await
    }

    /// Makes a secondary address that was verified at `verified_at` the primary one. The former primary address becomes a secondary one
    /// with the id `former_id`. Whether it is verified does not change.
    ///
    /// # Errors
    /// [`TakeAddressError`]
    pub async fn make_primary(
        &mut self,
        email: &SecondaryEmail,
        verified_at: Timestamp,
        former_id: EmailId,
        now: Timestamp,
    ) -> Result<(), TakeAddressError> {
        let account_id = self.account.id.to_string();
        // The address is empty if the account lost it, unverified, to another account.
        if !self.account.email.as_str().is_empty() {
            // An account that was verified before the column `email_verified_at` existed has no value in it.
            let sql = "INSERT INTO secondary_emails (id, account_id, email, email_key, verified_at, created_at) \
                       SELECT $1, id, email, email_key, \
                       CASE email_verified WHEN 1 THEN COALESCE(email_verified_at, created_at) END, created_at \
                       FROM accounts WHERE id = $2";
            let insert = query(sql).bind(former_id.to_string()).bind(account_id.clone());
            insert.execute(&mut *self.tx).await.map_err(SqlError::from)?;
        }
        self.make_primary_address(&email.email, now).await?;
        // `make_primary_address` has stored `now`, but the address was verified earlier.
        query("UPDATE accounts SET email_verified_at = $1 WHERE id = $2")
            .bind(verified_at.as_millis())
            .bind(account_id)
            .execute(&mut *self.tx)
            .await
            .map_err(SqlError::from)?;
        Ok(())
    }

    /// Removes all secondary addresses: another person may have added them (I13).
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn clear_secondary_emails(&mut self) -> Result<(), SqlError> {
        query("DELETE FROM secondary_emails WHERE account_id = $1")
            .bind(self.account.id.to_string())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Removes the secondary addresses that are unverified, or were verified at `since` or later.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn clear_recent_secondary_emails(&mut self, since: Timestamp) -> Result<(), SqlError> {
        query("DELETE FROM secondary_emails WHERE account_id = $1 AND (verified_at IS NULL OR verified_at >= $2)")
            .bind(self.account.id.to_string())
            .bind(since.as_millis())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Removes the secondary address with a key, if the account has it. Returns when it was verified; `None` if it was not.
    pub(super) async fn take_secondary_email(&mut self, key: &str) -> Result<Option<Timestamp>, SqlError> {
        let sql = "DELETE FROM secondary_emails WHERE account_id = $1 AND email_key = $2 RETURNING verified_at";
        let row =
            query(sql).bind(self.account.id.to_string()).bind(key.to_owned()).fetch_optional(&mut *self.tx).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(row.try_get::<Option<i64>, _>("verified_at")?.map(Timestamp::from_millis))
    }

    /// Takes an address from another account that has it as its unverified primary one. Call this before [`Self::lock_address`], to avoid
    /// a deadlock: the update may wait for a change of the other account, and that change may wait for the lock.
    pub(super) async fn release_unverified(&mut self, key: &str, now: Timestamp) -> Result<(), SqlError> {
        // The other account gets a key that no typed address has: it contains no `@`.
        let sql = "UPDATE accounts SET email = '', email_key = 'released:' || id, updated_at = $1 \
                   WHERE email_key = $2 AND id <> $3 AND email_verified = 0 RETURNING id";
        let released = query(sql)
            .bind(now.as_millis())
            .bind(key.to_owned())
            .bind(self.account.id.to_string())
            .fetch_all(&mut *self.tx)
            .await?;
        for row in released {
            self.released.push(row.try_get("id")?);
        }
        Ok(())
    }

    /// Locks an address until the transaction ends, so that only one transaction at a time verifies the address. On SQLite a write
    /// transaction is exclusive anyway.
    pub(super) async fn lock_address(&mut self, key: &str) -> Result<(), SqlError> {
        if self.sql.dialect == Dialect::Postgres {
            // An advisory lock has a number of 64 bits, here the beginning of a digest. Should two addresses have the same number, their
            // transactions only wait for each other.
            let digest = digest(&SHA256, format!("latchkey address {key}").as_bytes());
            let mut number = [0; 8];
            number.copy_from_slice(&digest.as_ref()[..8]);
            let sql = "SELECT pg_advisory_xact_lock($1)";
            query(sql).bind(i64::from_be_bytes(number)).execute(&mut *self.tx).await?;
        }
        Ok(())
    }

    /// Deletes the rows that deleted accounts left behind for an address. Returns false, and deletes nothing, if another account has
    /// verified the address, as its primary or as a secondary one.
    pub(super) async fn free_address(&mut self, key: &str) -> Result<bool, SqlError> {
        // An older release does not know this table, so the rows of an account that it deletes stay. Such rows don't count.
        let sql = "SELECT id FROM accounts WHERE id <> $1 AND ((email_key = $2 AND email_verified = 1) OR id = \
                   (SELECT account_id FROM secondary_emails WHERE email_key = $2 AND verified_at IS NOT NULL))";
        let id = self.account.id.to_string();
        if query(sql).bind(id.clone()).bind(key.to_owned()).fetch_optional(&mut *self.tx).await?.is_some() {
            return Ok(false);
        }
        let sql = "DELETE FROM secondary_emails WHERE account_id <> $1 AND email_key = $2 AND verified_at IS NOT NULL";
        query(sql).bind(id).bind(key.to_owned()).execute(&mut *self.tx).await?;
        Ok(true)
    }
}

/// Returns the keys among `keys` that belong to a verified secondary address.
pub(super) async fn verified_keys(tx: &mut Transaction<'_, Any>, keys: &[String]) -> Result<Vec<String>, SqlError> {
    let placeholders: Vec<String> = (1..=keys.len()).map(|number| format!("${number}")).collect();
    let sql = format!(
        "SELECT email_key FROM secondary_emails WHERE verified_at IS NOT NULL AND email_key IN ({})",
        placeholders.join(", ")
    );
    let mut select = query(AssertSqlSafe(sql).into_sql_str());
    for key in keys {
        select = select.bind(key.clone());
    }
    let rows = select.fetch_all(&mut **tx).await?;
    rows.iter().map(|row| Ok(row.try_get("email_key")?)).collect()
}

/// Inserts an imported secondary address. Returns false, and inserts nothing, if the address is an account's primary one or a verified
/// secondary one.
pub(super) async fn insert_imported(tx: &mut Transaction<'_, Any>, new: &SecondaryEmail) -> Result<bool, SqlError> {
    let key = new.email.key();
    let holder =
        query("SELECT id FROM accounts WHERE email_key = $1").bind(key.clone()).fetch_optional(&mut **tx).await?;
    if holder.is_some() || !verified_keys(tx, &[key]).await?.is_empty() {
        return Ok(false);
    }
    insert(tx, new).await?;
    Ok(true)
}

async fn insert(tx: &mut Transaction<'_, Any>, new: &SecondaryEmail) -> Result<(), SqlError> {
    let sql = "INSERT INTO secondary_emails (id, account_id, email, email_key, verified_at, created_at) \
               VALUES ($1, $2, $3, $4, $5, $6)";
    query(sql)
        .bind(new.id.to_string())
        .bind(new.account.to_string())
        .bind(new.email.as_str().to_owned())
        .bind(new.email.key())
        .bind(new.verified_at.map(Timestamp::as_millis))
        .bind(new.created_at.as_millis())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn list(tx: &mut Transaction<'_, Any>, account: AccountId) -> Result<Vec<SecondaryEmail>, SqlError> {
    let sql = "SELECT id, account_id, email, verified_at, created_at FROM secondary_emails \
               WHERE account_id = $1 ORDER BY created_at, id";
    let rows = query(sql).bind(account.to_string()).fetch_all(&mut **tx).await?;
    rows.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<SecondaryEmail, SqlError> {
    let id: String = row.try_get("id")?;
    let account: String = row.try_get("account_id")?;
    let unreadable = |column: &str| SqlError::Corrupt(format!("{column} of the e-mail address {id}"));
    Ok(SecondaryEmail {
        id: id.parse().map_err(|_| unreadable("id"))?,
        account: account.parse().map_err(|_| unreadable("account_id"))?,
        email: Email::from_stored(row.try_get("email")?),
        verified_at: row.try_get::<Option<i64>, _>("verified_at")?.map(Timestamp::from_millis),
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
    })
}
