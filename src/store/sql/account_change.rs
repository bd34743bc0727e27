//! A transaction that changes an account and stays open until the account's sessions have been ended.

use sqlx::{Any, Transaction};

use super::{Dialect, Sql, SqlError, accounts, accounts::select, query};
use crate::domain::{
    account::{Account, ClaimsVersion, Email, Epoch, Roles},
    audit::AuditEntry,
    clock::Timestamp,
    ids::AccountId,
    secret::PasswordHash,
};

/// An account whose row is locked. [`AccountChange::commit`] stores the changes. Dropping the value undoes them.
///
/// The caller ends the account's sessions in Redis before it commits, so that the change fails if the sessions can't be ended
/// (I5: a changed credential ends all sessions).
#[derive(Debug)]
pub struct AccountChange {
    /// The account, including the uncommitted changes.
    pub account: Account,
    pub(super) tx: Transaction<'static, Any>,
    /// Whether the change adds a mail to the outbox.
    pub(super) has_mail: bool,
    /// The ids of the accounts that lose their unverified primary address, because this account verifies it. The commit logs them.
    pub(super) released: Vec<String>,
    pub(super) sql: Sql,
}

/// The reason why an e-mail address was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SetEmailError {
    /// Another account has the address.
    #[error("another account has this e-mail address")]
    Taken,
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

impl Sql {
    /// Locks and reads an account's row. Returns `None` if there is no such account.
    ///
    /// On SQLite every other writer waits until the change is committed or dropped.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn change_account(&self, id: AccountId) -> Result<Option<AccountChange>, SqlError> {
        let mut tx = self.begin_write().await?;
        let sql = match self.dialect {
            Dialect::Sqlite => select!("WHERE id = $1"),
            Dialect::Postgres => select!("WHERE id = $1 FOR UPDATE"),
        };
        let row = query(sql).bind(id.to_string()).fetch_optional(&mut *tx).await?;
        let account = row.as_ref().map(accounts::read).transpose()?;
        Ok(account.map(|account| AccountChange {
            account,
            tx,
            has_mail: false,
            released: Vec::new(),
            sql: self.clone(),
        }))
    }
}

impl AccountChange {
    /// Sets a new password's hash, and forgets the account's devices, which could skip the second factor.
    ///
    /// # Errors
    /// [`SqlError`]. After an error of this or any other method the change can only be dropped.
    pub async fn set_password(&mut self, hash: &PasswordHash, now: Timestamp) -> Result<(), SqlError> {
        self.account.password_hash = Some(hash.clone());
        self.account.password_changed_at = now;
        self.forget_devices().await?;
        self.store(now).await
    }

    /// Disables the account as of `at`, or enables it (`None`). Forgets its devices.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn set_disabled(&mut self, at: Option<Timestamp>, now: Timestamp) -> Result<(), SqlError> {
        self.account.disabled_at = at;
        self.forget_devices().await?;
        self.store(now).await
    }

    /// Replaces the account's roles, increments the version of its claims, and forgets its devices: a new role may require a second factor.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn set_roles(&mut self, roles: &Roles, now: Timestamp) -> Result<(), SqlError> {
        self.account.roles = roles.clone();
        self.account.claims_version = self.account.claims_version.next();
        self.forget_devices().await?;
        self.store(now).await
    }

    /// Increments the version of the account's claims, after a change of other claims than the roles.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn bump_claims_version(&mut self, now: Timestamp) -> Result<(), SqlError> {
        self.account.claims_version = self.account.claims_version.next();
        self.store(now).await
    }

    /// Sets the version of the account's claims to the version that Redis has stored, which may be higher than that of this change. Does
    /// nothing if they are the same.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn set_claims_version(&mut self, version: ClaimsVersion) -> Result<(), SqlError> {
        if self.account.claims_version == version {
            return Ok(());
        }
        self.account.claims_version = version;
        self.store(self.account.updated_at).await
    }

    /// Replaces the account's primary e-mail address, unless another account has it. The new address is verified only if it was
    /// a verified secondary one.
    ///
    /// # Errors
    /// [`SetEmailError`]
    pub async fn set_email(&mut self, email: &Email, now: Timestamp) -> Result<(), SetEmailError> {
        let id = self.account.id.to_string();
        let other_owner = query("SELECT id FROM accounts WHERE email_key = $1 AND id <> $2")
            .bind(email.key())
            .bind(id.clone())
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(SqlError::from)?;
        if other_owner.is_some() || !self.free_address(&email.key()).await? {
            return Err(SetEmailError::Taken);
        }
        // Deletes the secondary address, if it is one. `None` if it was none, or was not verified.
        let verified_at = self.take_secondary_email(&email.key()).await?;
        let sql = "UPDATE accounts SET email = $1, email_key = $2, email_verified = $3, email_verified_at = $4 \
                   WHERE id = $5";
        let updated = query(sql)
            .bind(email.as_str().to_owned())
            .bind(email.key())
            .bind(i64::from(verified_at.is_some()))
            .bind(verified_at.map(Timestamp::as_millis))
            .bind(id)
            .execute(&mut *self.tx)
            .await;
        match updated {
            // Another account took the address after the query above.
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Err(SetEmailError::Taken),
            Err(error) => return Err(SqlError::from(error).into()),
            Ok(_) => {}
        }
        self.account.email = email.clone();
        self.account.email_verified = verified_at.is_some();
        self.forget_devices().await?;
        Ok(self.store(now).await?)
    }

    /// Increments the account's epoch and returns it. A sign-in whose credentials were checked in an earlier epoch can't create a session.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn bump_epoch(&mut self) -> Result<Epoch, SqlError> {
        self.account.epoch = self.account.epoch.next();
        self.store(self.account.updated_at).await?;
        Ok(self.account.epoch)
    }

    /// Deletes the account, with its profile, its addresses of all kinds, its factors, its consents and its remembered devices.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn delete(&mut self) -> Result<(), SqlError> {
        for sql in [
            "DELETE FROM profiles WHERE account_id = $1",
            "DELETE FROM addresses WHERE account_id = $1",
            "DELETE FROM secondary_emails WHERE account_id = $1",
            "DELETE FROM totp_factors WHERE account_id = $1",
            "DELETE FROM recovery_keys WHERE account_id = $1",
            "DELETE FROM recovery_codes WHERE account_id = $1",
            "DELETE FROM passkeys WHERE account_id = $1",
            "DELETE FROM consents WHERE account_id = $1",
            "DELETE FROM remembered_devices WHERE account_id = $1",
            "DELETE FROM accounts WHERE id = $1",
        ] {
            query(sql).bind(self.account.id.to_string()).execute(&mut *self.tx).await?;
        }
        Ok(())
    }

    /// Adds an entry to the audit log, as part of the change.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn record(&mut self, entry: &AuditEntry) -> Result<(), SqlError> {
        self.sql.record(&mut self.tx, entry).await
    }

    /// Commits the changes.
    ///
    /// # Errors
    /// [`SqlError`]. If the database became unavailable, the changes may or may not have been stored.
    pub async fn commit(self) -> Result<(), SqlError> {
        self.tx.commit().await?;
        for account in self.released {
            tracing::info!(
                %account,
                verified_by = %self.account.id,
                "an account lost its unverified primary address, because another account verified the address; it has no primary address now"
            );
        }
        if self.has_mail {
            self.sql.mail_enqueued.notify_one();
        }
        Ok(())
    }

    /// Writes the columns that changes set in [`AccountChange::account`], except those of the e-mail address and the username. The row is
    /// locked, so no concurrent change is overwritten.
    pub(super) async fn store(&mut self, updated_at: Timestamp) -> Result<(), SqlError> {
        let account = &mut self.account;
        account.updated_at = updated_at;
        let sql = "UPDATE accounts SET password_hash = $1, password_changed_at = $2, disabled_at = $3, roles = $4, \
                   epoch = $5, updated_at = $6, deletion_at = $7, claims_version = $8, factors = $9, factors_version = $10, \
                   factor_required_at = $11 WHERE id = $12";
        query(sql)
            .bind(accounts::stored_hash(account.password_hash.as_ref()))
            .bind(account.password_changed_at.as_millis())
            .bind(account.disabled_at.map(Timestamp::as_millis))
            .bind(account.roles.to_string())
            .bind(i64::from(account.epoch.0))
            .bind(updated_at.as_millis())
            .bind(account.deletion_at.map(Timestamp::as_millis))
            .bind(i64::from(account.claims_version.0))
            .bind(i64::from(account.factors.bits()))
            .bind(i64::from(account.factors_version.0))
            .bind(account.factor_required_at.map(Timestamp::as_millis))
            .bind(account.id.to_string())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}
