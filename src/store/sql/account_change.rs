//! A change to an account that ends sessions: held open until they have been ended.

use sqlx::{Any, Transaction};

use super::{Dialect, Sql, SqlError, accounts, accounts::select, query};
use crate::domain::{
    account::{Account, Email, Epoch, Roles},
    audit::Entry,
    clock::Timestamp,
    ids::AccountId,
    secret::PasswordHash,
};

/// An account whose row nobody else can change until this is committed, or dropped and so undone.
///
/// Whoever changes it ends its sessions in Redis in between: so nothing is changed unless they could be ended (I5).
#[derive(Debug)]
pub struct AccountChange {
    /// The account, with the changes made so far.
    pub account: Account,
    tx: Transaction<'static, Any>,
    sql: Sql,
}

/// Why an e-mail address was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SetEmailError {
    /// Another account has it.
    #[error("another account has this e-mail address")]
    Taken,
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

impl Sql {
    /// Locks the account's row and reads it; none if there is no such account.
    ///
    /// On SQLite this keeps every other writer waiting: be quick.
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
        Ok(account.map(|account| AccountChange { account, tx, sql: self.clone() }))
    }
}

impl AccountChange {
    /// Sets a new password's hash.
    ///
    /// # Errors
    /// [`SqlError`]; the change can then only be dropped. The same holds for all below.
    pub async fn set_password(&mut self, hash: &PasswordHash, now: Timestamp) -> Result<(), SqlError> {
        self.account.password_hash = hash.clone();
        self.account.password_changed_at = now;
        self.store(now).await
    }

    /// Disables the account as of `at`, or enables it again.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn set_disabled(&mut self, at: Option<Timestamp>, now: Timestamp) -> Result<(), SqlError> {
        self.account.disabled_at = at;
        self.store(now).await
    }

    /// Replaces its roles.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn set_roles(&mut self, roles: &Roles, now: Timestamp) -> Result<(), SqlError> {
        self.account.roles = roles.clone();
        self.store(now).await
    }

    /// Replaces its e-mail address, unless another account has it. The row of the accounts table stays locked.
    ///
    /// # Errors
    /// [`SetEmailError`]
    pub async fn set_email(&mut self, email: &Email, now: Timestamp) -> Result<(), SetEmailError> {
        let id = self.account.id.to_string();
        let taken = query("SELECT id FROM accounts WHERE email_key = $1 AND id <> $2")
            .bind(email.key())
            .bind(id.clone())
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(SqlError::from)?;
        if taken.is_some() {
            return Err(SetEmailError::Taken);
        }
        let updated = query("UPDATE accounts SET email = $1, email_key = $2 WHERE id = $3")
            .bind(email.as_str().to_owned())
            .bind(email.key())
            .bind(id)
            .execute(&mut *self.tx)
            .await;
        match updated {
            // Another account took it after the query above.
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Err(SetEmailError::Taken),
            updated => drop(updated.map_err(SqlError::from)?),
        }
        self.account.email = email.clone();
        Ok(self.store(now).await?)
    }

    /// Raises the epoch, so that a sign-in which was checked before this can't create a session any more, and answers the
    /// new one.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn bump_epoch(&mut self) -> Result<Epoch, SqlError> {
        self.account.epoch = self.account.epoch.next();
        self.store(self.account.updated_at).await?;
        Ok(self.account.epoch)
    }

    /// Deletes the account.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn delete(&mut self) -> Result<(), SqlError> {
        query("DELETE FROM accounts WHERE id = $1").bind(self.account.id.to_string()).execute(&mut *self.tx).await?;
        Ok(())
    }

    /// Writes the change down in the audit log, if it is made.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn record(&mut self, entry: &Entry) -> Result<(), SqlError> {
        self.sql.record(&mut self.tx, entry).await
    }

    /// Makes the changes last.
    ///
    /// # Errors
    /// [`SqlError`]; whether the changes were made is then unknown if the database became unavailable just now.
    pub async fn commit(self) -> Result<(), SqlError> {
        Ok(self.tx.commit().await?)
    }

    /// Writes what may change; the row is locked, so nothing of somebody else's is overwritten.
    async fn store(&mut self, now: Timestamp) -> Result<(), SqlError> {
        let account = &mut self.account;
        account.updated_at = now;
        let sql = "UPDATE accounts SET password_hash = $1, password_changed_at = $2, disabled_at = $3, roles = $4, \
                   epoch = $5, updated_at = $6 WHERE id = $7";
        query(sql)
            .bind(account.password_hash.expose().to_owned())
            .bind(account.password_changed_at.as_millis())
            .bind(account.disabled_at.map(Timestamp::as_millis))
            .bind(account.roles.to_string())
            .bind(i64::from(account.epoch.0))
            .bind(now.as_millis())
            .bind(account.id.to_string())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}
