//! The `passkeys` table.

use sqlx::{Any, Row, Transaction, any::AnyRow};

use super::{AccountChange, Sql, SqlError, accounts, accounts::select, query};
use crate::domain::{
    account::Account,
    clock::Timestamp,
    factor::FactorKind,
    ids::{AccountId, PasskeyId},
    passkey::{CredentialId, Passkey, PasskeyName, PasskeyUse},
};

/// Why a passkey was not added.
#[derive(Debug, thiserror::Error)]
pub enum AddPasskeyError {
    /// The credential is registered already, for this account or for another one.
    #[error("the passkey is registered already")]
    Exists,
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

/// A `SELECT` of every column that [`read`] reads, followed by the given clauses.
macro_rules! select_passkeys {
    ($rest:literal) => {
        concat!(
            "SELECT id, account_id, credential_id, public_key, name, aaguid, transports, discoverable, backup_eligible, ",
            "backed_up, counter, created_at, last_used_at FROM passkeys ",
            $rest
        )
    };
}

impl Sql {
    /// The passkeys of an account, oldest first.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn passkeys(&self, account: AccountId) -> Result<Vec<Passkey>, SqlError> {
        let mut tx = self.begin_read().await?;
        let found = passkeys_of(&mut tx, account).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// The passkey with this credential id, and its account.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn find_passkey(&self, credential: &CredentialId) -> Result<Option<(Passkey, Account)>, SqlError> {
        let mut tx = self.begin_read().await?;
        let row = query(select_passkeys!("WHERE credential_id = $1"))
            .bind(credential.as_bytes().to_vec())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let passkey = read(&row)?;
        let account_row =
            query(select!("WHERE id = $1")).bind(passkey.account.to_string()).fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        let Some(account_row) = account_row else { return Ok(None) };
        Ok(Some((passkey, accounts::read(&account_row)?)))
    }

    /// Records a use of a passkey. Returns false, and changes nothing, if the passkey was removed or if its counter has not increased
    /// since the last use. A counter that stays 0 is accepted: the authenticator has none.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn record_passkey_use(&self, id: PasskeyId, used: PasskeyUse) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        // An incomplete sign-in has no time, so the stored time stays until `set_passkey_used_at`.
        let sql = "UPDATE passkeys SET counter = $1, backed_up = $2, last_used_at = COALESCE($3, last_used_at) \
                   WHERE id = $4 AND (counter < $1 OR (counter = 0 AND $1 = 0))";
        let updated = query(sql)
            .bind(i64::from(used.counter))
            .bind(i64::from(used.backed_up))
            .bind(used.used_at.map(Timestamp::as_millis))
            .bind(id.to_string())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(updated.rows_affected() > 0)
    }

    /// Sets the time of the last use of a passkey, once the sign-in that used the passkey is complete.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn set_passkey_used_at(&self, id: PasskeyId, at: Timestamp) -> Result<(), SqlError> {
        let mut tx = self.begin_write().await?;
        let sql = "UPDATE passkeys SET last_used_at = $1 WHERE id = $2";
        query(sql).bind(at.as_millis()).bind(id.to_string()).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}

impl AccountChange {
    /// The passkeys of the account, oldest first.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn passkeys(&mut self) -> Result<Vec<Passkey>, SqlError> {
        passkeys_of(&mut self.tx, self.account.id).await
    }

    /// Renames a passkey. Returns the passkey, or none if the account has no such passkey.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn rename_passkey(&mut self, id: PasskeyId, name: &PasskeyName) -> Result<Option<Passkey>, SqlError> {
        let account = self.account.id.to_string();
        query("UPDATE passkeys SET name = $1 WHERE id = $2 AND account_id = $3")
            .bind(name.as_str().to_owned())
            .bind(id.to_string())
            .bind(account.clone())
            .execute(&mut *self.tx)
            .await?;
        let renamed = query(select_passkeys!("WHERE id = $1 AND account_id = $2"))
            .bind(id.to_string())
            .bind(account)
            .fetch_optional(&mut *self.tx)
            .await?;
        renamed.as_ref().map(read).transpose()
    }

    /// Adds a passkey.
    ///
    /// # Errors
    /// [`AddPasskeyError`]
    pub async fn add_passkey(&mut self, passkey: &Passkey) -> Result<(), AddPasskeyError> {
        let sql = "INSERT INTO passkeys (id, account_id, credential_id, public_key, name, aaguid, transports, discoverable, \
                   backup_eligible, backed_up, counter, created_at, last_used_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL) ON CONFLICT (credential_id) DO NOTHING";
        let inserted = query(sql)
            .bind(passkey.id.to_string())
            .bind(passkey.account.to_string())
            .bind(passkey.credential.as_bytes().to_vec())
            .bind(passkey.public_key.clone())
            .bind(passkey.name.as_str().to_owned())
            .bind(passkey.aaguid.to_string())
            .bind(passkey.transports.clone())
            .bind(passkey.discoverable.map(i64::from))
            .bind(i64::from(passkey.backup_eligible))
            .bind(i64::from(passkey.backed_up))
            .bind(i64::from(passkey.counter))
            .bind(passkey.created_at.as_millis())
            .execute(&mut *self.tx)
            .await
            .map_err(SqlError::from)?;
        if inserted.rows_affected() == 0 {
            return Err(AddPasskeyError::Exists);
        }
        let has_passkeys = true;
        Ok(self.set_factor(FactorKind::Passkey, has_passkeys, passkey.created_at).await?)
    }

    /// Removes a passkey. Returns false if the account has no such passkey.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn remove_passkey(&mut self, id: PasskeyId, now: Timestamp) -> Result<bool, SqlError> {
        let deleted = query("DELETE FROM passkeys WHERE id = $1 AND account_id = $2")
            .bind(id.to_string())
            .bind(self.account.id.to_string())
            .execute(&mut *self.tx)
            .await?;
        if deleted.rows_affected() == 0 {
            return Ok(false);
        }
        let has_passkeys = !self.passkeys().await?.is_empty();
        self.set_factor(FactorKind::Passkey, has_passkeys, now).await?;
        Ok(true)
    }
}

/// The passkeys of an account, oldest first: an id begins with the time of its creation.
async fn passkeys_of(tx: &mut Transaction<'static, Any>, account: AccountId) -> Result<Vec<Passkey>, SqlError> {
    let rows = query(select_passkeys!("WHERE account_id = $1 ORDER BY id"))
        .bind(account.to_string())
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<Passkey, SqlError> {
    let id: String = row.try_get("id")?;
    let corrupt = |column: &str| SqlError::Corrupt(format!("{column} of the passkey {id}"));
    let account: String = row.try_get("account_id")?;
    let name: String = row.try_get("name")?;
    let aaguid: String = row.try_get("aaguid")?;
    let counter: i64 = row.try_get("counter")?;
    // Booleans are stored as 0 and 1 in both databases.
    let flag = |column: &str| row.try_get::<i64, _>(column).map(|number| number != 0);
    let last_used_at: Option<i64> = row.try_get("last_used_at")?;
    Ok(Passkey {
        id: id.parse().map_err(|_| corrupt("id"))?,
        account: account.parse().map_err(|_| corrupt("account_id"))?,
        credential: CredentialId::new(row.try_get("credential_id")?).ok_or_else(|| corrupt("credential_id"))?,
        public_key: row.try_get("public_key")?,
        name: PasskeyName::parse(&name).map_err(|_| corrupt("name"))?,
        aaguid: aaguid.parse().map_err(|_| corrupt("aaguid"))?,
        transports: row.try_get("transports")?,
        discoverable: row.try_get::<Option<i64>, _>("discoverable")?.map(|number| number != 0),
        backup_eligible: flag("backup_eligible")?,
        backed_up: flag("backed_up")?,
        counter: u32::try_from(counter).map_err(|_| corrupt("counter"))?,
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        last_used_at: last_used_at.map(Timestamp::from_millis),
    })
}
