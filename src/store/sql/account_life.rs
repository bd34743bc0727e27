//! Changes of a locked account: address, username, password and scheduled deletion. Also the accounts whose deletion is due.

use sqlx::{Any, Row, Transaction, any::AnyRow};

use super::{AccountChange, Sql, SqlError, query};
use crate::domain::{
    account::{Email, Username},
    clock::Timestamp,
    ids::AccountId,
};

/// A pending or former address of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRecord {
    /// The address.
    pub email: Email,
    /// When the address was stored.
    pub created_at: Timestamp,
    /// Until when the address can become the primary one.
    pub expires_at: Timestamp,
}

/// Why an account did not get a verified address.
#[derive(Debug, thiserror::Error)]
pub enum TakeAddressError {
    /// Another account has verified the address.
    #[error("another account has verified this e-mail address")]
    Taken,
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

/// Why a username was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SetUsernameError {
    /// Another account has the username.
    #[error("another account has this username")]
    Taken,
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

/// The state in the table `addresses` of an address that waits for its confirmation.
const PENDING: &str = "pending";
/// The state in the table `addresses` of a replaced address, whose change can be undone.
const FORMER: &str = "former";

impl Sql {
    /// The ids of at most `limit` accounts whose deletion is due, in the order of the due times. Leaves out the first `offset` accounts,
    /// which the caller failed to delete.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn accounts_due_for_deletion(
        &self,
        now: Timestamp,
        offset: u32,
        limit: u32,
    ) -> Result<Vec<AccountId>, SqlError> {
        let mut tx = self.begin_read().await?;
        let rows = query("SELECT id FROM accounts WHERE deletion_at <= $1 ORDER BY deletion_at, id LIMIT $2 OFFSET $3")
            .bind(now.as_millis())
            .bind(i64::from(limit))
            .bind(i64::from(offset))
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        let mut ids = Vec::new();
        for row in rows {
            let text: String = row.try_get("id")?;
            let id: AccountId = text.parse().map_err(|_| SqlError::Corrupt(format!("the account id {text}")))?;
            ids.push(id);
        }
        Ok(ids)
    }

    /// The pending address of an account, which becomes the primary one when it is confirmed.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn pending_address(&self, id: AccountId, now: Timestamp) -> Result<Option<AddressRecord>, SqlError> {
        let mut tx = self.begin_read().await?;
        // There is at most one: see `set_pending_address`.
        let pending = addresses(&mut tx, id, PENDING, now).await?;
        tx.commit().await?;
        Ok(pending.into_iter().next())
    }

    /// The former addresses of an account that can become the primary one again, newest first.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn former_addresses(&self, id: AccountId, now: Timestamp) -> Result<Vec<AddressRecord>, SqlError> {
        let mut tx = self.begin_read().await?;
        let former = addresses(&mut tx, id, FORMER, now).await?;
        tx.commit().await?;
        Ok(former)
    }
}

impl AccountChange {
    /// Marks the primary address as verified, and deletes the same address from the secondary ones.
    ///
    /// # Errors
    /// [`TakeAddressError`]
    pub async fn verify_email(&mut self, now: Timestamp) -> Result<(), TakeAddressError> {
        let key = self.account.email.key();
        self.lock_address(&key).await?;
        if !self.free_address(&key).await? {
            return Err(TakeAddressError::Taken);
        }
        self.take_secondary_email(&key).await?;
        query("UPDATE accounts SET email_verified = 1, email_verified_at = $1 WHERE id = $2")
            .bind(now.as_millis())
            .bind(self.account.id.to_string())
            .execute(&mut *self.tx)
            .await
            .map_err(SqlError::from)?;
        self.account.email_verified = true;
        Ok(self.store(now).await?)
    }

    /// Makes an address that the caller has verified the primary address, and deletes it from the secondary ones. Another account that has
    /// it as its unverified primary address loses it (I13: an unverified address belongs to nobody).
    ///
    /// # Errors
    /// [`TakeAddressError`]
    pub async fn make_primary_address(&mut self, email: &Email, now: Timestamp) -> Result<(), TakeAddressError> {
        let id = self.account.id.to_string();
        let key = email.key();
        // Before the lock, to avoid a deadlock: this statement may wait for the row of an account whose change waits for the lock.
        self.release_unverified(&key, now).await?;
        self.lock_address(&key).await?;
        if !self.free_address(&key).await? {
            return Err(TakeAddressError::Taken);
        }
        self.take_secondary_email(&key).await?;
        let sql = "UPDATE accounts SET email = $1, email_key = $2, email_verified = 1, email_verified_at = $3 \
                   WHERE id = $4";
        let updated = query(sql)
            .bind(email.as_str().to_owned())
            .bind(key)
            .bind(now.as_millis())
            .bind(id)
            .execute(&mut *self.tx)
            .await;
        match updated {
            // Another account was registered with the address after `release_unverified`.
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Err(TakeAddressError::Taken),
            Err(error) => return Err(SqlError::from(error).into()),
            Ok(_) => {}
        }
        self.account.email = email.clone();
        self.account.email_verified = true;
        self.forget_devices().await?;
        Ok(self.store(now).await?)
    }

    /// Removes the password. Afterwards only a reset sets a password.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn remove_password(&mut self, now: Timestamp) -> Result<(), SqlError> {
        self.account.password_hash = None;
        self.forget_devices().await?;
        // Links and codes of mails are bound to this time, so they stop working.
        self.account.password_changed_at = now;
        self.store(now).await
    }

    /// Schedules the deletion of the account at the time `at`, and forgets its devices, which could skip the second factor. `None` cancels
    /// a scheduled deletion.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn set_deletion(&mut self, at: Option<Timestamp>, now: Timestamp) -> Result<(), SqlError> {
        if at.is_some() {
            self.forget_devices().await?;
        }
        self.account.deletion_at = at;
        self.store(now).await
    }

    /// Replaces the username, unless another account has the new one. `None` removes the username.
    ///
    /// # Errors
    /// [`SetUsernameError`]
    pub async fn set_username(&mut self, name: Option<&Username>, now: Timestamp) -> Result<(), SetUsernameError> {
        let id = self.account.id.to_string();
        if let Some(name) = name {
            let holder = query("SELECT id FROM accounts WHERE username_key = $1 AND id <> $2")
                .bind(name.key())
                .bind(id.clone())
                .fetch_optional(&mut *self.tx)
                .await
                .map_err(SqlError::from)?;
            if holder.is_some() {
                return Err(SetUsernameError::Taken);
            }
        }
        let updated = query("UPDATE accounts SET username = $1, username_key = $2 WHERE id = $3")
            .bind(name.map(|name| name.as_str().to_owned()))
            .bind(name.map(Username::key))
            .bind(id)
            .execute(&mut *self.tx)
            .await;
        match updated {
            // Another account took the username after the query above.
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Err(SetUsernameError::Taken),
            Err(error) => return Err(SqlError::from(error).into()),
            Ok(_) => {}
        }
        self.account.username = name.cloned();
        Ok(self.store(now).await?)
    }

    /// Stores the address that becomes the primary one once it is confirmed. Replaces an earlier pending address.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn set_pending_address(
        &mut self,
        email: &Email,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), SqlError> {
        self.clear_pending_address().await?;
        self.insert_address(PENDING, email, now, expires_at).await
    }

    /// The pending address, if it has not expired.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn pending_address(&mut self, now: Timestamp) -> Result<Option<AddressRecord>, SqlError> {
        let pending = addresses(&mut self.tx, self.account.id, PENDING, now).await?;
        Ok(pending.into_iter().next())
    }

    /// Deletes the pending address.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn clear_pending_address(&mut self) -> Result<(), SqlError> {
        query("DELETE FROM addresses WHERE account_id = $1 AND state = $2")
            .bind(self.account.id.to_string())
            .bind(PENDING.to_owned())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Stores the verified primary address that a change replaced, so that the change can be undone. Deletes expired former addresses. A
    /// former address that is stored again keeps its `created_at`.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn add_former_address(
        &mut self,
        email: &Email,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), SqlError> {
        query("DELETE FROM addresses WHERE account_id = $1 AND state = $2 AND expires_at <= $3")
            .bind(self.account.id.to_string())
            .bind(FORMER.to_owned())
            .bind(now.as_millis())
            .execute(&mut *self.tx)
            .await?;
        self.insert_address(FORMER, email, now, expires_at).await
    }

    /// The former addresses that can become the primary one again, newest first.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn former_addresses(&mut self, now: Timestamp) -> Result<Vec<AddressRecord>, SqlError> {
        addresses(&mut self.tx, self.account.id, FORMER, now).await
    }

    /// Deletes all former addresses. No change of the address can be undone any more.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn clear_former_addresses(&mut self) -> Result<(), SqlError> {
        let earliest = Timestamp::from_millis(i64::MIN);
        self.clear_former_addresses_since(earliest).await
    }

    /// Deletes the former addresses that were stored at `since` or later.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn clear_former_addresses_since(&mut self, since: Timestamp) -> Result<(), SqlError> {
        query("DELETE FROM addresses WHERE account_id = $1 AND state = $2 AND created_at >= $3")
            .bind(self.account.id.to_string())
            .bind(FORMER.to_owned())
            .bind(since.as_millis())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Deletes all former addresses except `kept`.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn retain_former_address(&mut self, kept: &Email) -> Result<(), SqlError> {
        query("DELETE FROM addresses WHERE account_id = $1 AND state = $2 AND email_key <> $3")
            .bind(self.account.id.to_string())
            .bind(FORMER.to_owned())
            .bind(kept.key())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Deletes one former address. The change that replaced it can't be undone any more.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn remove_former_address(&mut self, email: &Email) -> Result<(), SqlError> {
        query("DELETE FROM addresses WHERE account_id = $1 AND state = $2 AND email_key = $3")
            .bind(self.account.id.to_string())
            .bind(FORMER.to_owned())
            .bind(email.key())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Stores an address. An address that the account already has in this state keeps its `created_at`.
    async fn insert_address(
        &mut self,
        state: &str,
        email: &Email,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), SqlError> {
        let sql = "INSERT INTO addresses (account_id, email, email_key, state, created_at, expires_at) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account_id, state, email_key) DO UPDATE SET \
                   email = excluded.email, expires_at = excluded.expires_at";
        query(sql)
            .bind(self.account.id.to_string())
            .bind(email.as_str().to_owned())
            .bind(email.key())
            .bind(state.to_owned())
            .bind(now.as_millis())
            .bind(expires_at.as_millis())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}

/// The unexpired addresses of an account in one state, newest first.
async fn addresses(
    tx: &mut Transaction<'_, Any>,
    id: AccountId,
    state: &str,
    now: Timestamp,
) -> Result<Vec<AddressRecord>, SqlError> {
    let sql = "SELECT email, created_at, expires_at FROM addresses \
               WHERE account_id = $1 AND state = $2 AND expires_at > $3 ORDER BY created_at DESC";
    let rows =
        query(sql).bind(id.to_string()).bind(state.to_owned()).bind(now.as_millis()).fetch_all(&mut **tx).await?;
    let record = |row: &AnyRow| {
        Ok(AddressRecord {
            email: Email::from_stored(row.try_get("email")?),
            created_at: Timestamp::from_millis(row.try_get("created_at")?),
            expires_at: Timestamp::from_millis(row.try_get("expires_at")?),
        })
    };
    rows.iter().map(record).collect()
}
