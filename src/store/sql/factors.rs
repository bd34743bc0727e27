//! The tables `totp_factors`, `recovery_keys` and `recovery_codes`: authenticator apps and recovery codes. A change of factors
//! locks the account's row. The use of a code does not. A *sealed* value is encrypted under the secret of the nodes.

use sqlx::{Any, Row, Transaction, any::AnyRow};

use super::{AccountChange, Sql, SqlError, query};
use crate::domain::{
    clock::Timestamp,
    factor::{FactorKind, Factors},
    ids::{AccountId, FactorId},
};

/// An authenticator app. `Debug` omits the sealed secret.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpFactor {
    /// The id.
    pub id: FactorId,
    /// The account.
    pub account: AccountId,
    /// The name that the owner gave the app.
    pub label: String,
    /// The sealed secret.
    pub sealed: Vec<u8>,
    /// When the owner began to set it up.
    pub created_at: Timestamp,
    /// When its first accepted code confirmed it; none before.
    pub confirmed_at: Option<Timestamp>,
    /// The time step of the last accepted code; 0 before the first.
    pub last_step: u64,
    /// When the last code was accepted.
    pub last_used_at: Option<Timestamp>,
}

impl std::fmt::Debug for TotpFactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TotpFactor").field("id", &self.id).field("account", &self.account).finish_non_exhaustive()
    }
}

/// A `SELECT` of every column that [`read_totp`] reads, followed by the given clauses.
macro_rules! select_totp {
    ($rest:literal) => {
        concat!(
            "SELECT id, account_id, label, sealed, created_at, confirmed_at, last_step, last_used_at FROM totp_factors ",
            $rest
        )
    };
}

impl Sql {
    /// The authenticator apps of an account, oldest first, those that are not confirmed yet included.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn totp_factors(&self, account: AccountId) -> Result<Vec<TotpFactor>, SqlError> {
        let mut tx = self.begin_read().await?;
        let found = totp_of(&mut tx, account).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// Marks the time step of an authenticator app's code as used. Returns false if this or a later step was used before, or if there is no
    /// confirmed app with this id. Returns true to exactly one of several concurrent callers (I11: a code works once).
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn use_totp(&self, id: FactorId, step: u64, now: Timestamp) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        let sql = "UPDATE totp_factors SET last_step = $1, last_used_at = $2 \
                   WHERE id = $3 AND last_step < $1 AND confirmed_at IS NOT NULL";
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let used = query(sql).bind(step).bind(now.as_millis()).bind(id.to_string()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(used.rows_affected() == 1)
    }

    /// The sealed key of an account's recovery codes, and the number of unused codes.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn recovery_key(&self, account: AccountId) -> Result<Option<(Vec<u8>, u32)>, SqlError> {
        let mut tx = self.begin_read().await?;
        let sql = "SELECT sealed, (SELECT COUNT(*) FROM recovery_codes WHERE account_id = $1) AS codes \
                   FROM recovery_keys WHERE account_id = $1";
        let row = query(sql).bind(account.to_string()).fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        let Some(row) = row else { return Ok(None) };
        let sealed = row.try_get("sealed")?;
        let codes: i64 = row.try_get("codes")?;
        Ok(Some((sealed, u32::try_from(codes).unwrap_or(u32::MAX))))
    }

    /// Whether an account has an unused recovery code with this digest.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn has_recovery_code(&self, account: AccountId, digest: &str) -> Result<bool, SqlError> {
        let mut tx = self.begin_read().await?;
        let sql = "SELECT digest FROM recovery_codes WHERE account_id = $1 AND digest = $2";
        let found = query(sql).bind(account.to_string()).bind(digest.to_owned()).fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        Ok(found.is_some())
    }

    /// Uses a recovery code, which deletes it. Returns the number of remaining codes; `None` if the code does not exist or another caller
    /// has used it (I11).
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn use_recovery_code(&self, account: AccountId, digest: &str) -> Result<Option<u32>, SqlError> {
        let mut tx = self.begin_write().await?;
        let sql = "DELETE FROM recovery_codes WHERE account_id = $1 AND digest = $2";
        let used = query(sql).bind(account.to_string()).bind(digest.to_owned()).execute(&mut *tx).await?;
        let remaining = count_codes(&mut tx, account).await?;
        tx.commit().await?;
        Ok((used.rows_affected() == 1).then_some(remaining))
    }

    /// At most `limit` secrets of authenticator apps that are sealed under another secret than the current one, in the order of the apps'
    /// ids, beginning after the app `after`. A value that is sealed under the current secret begins with `prefix`.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn outdated_totp_secrets(
        &self,
        prefix: &[u8],
        after: Option<FactorId>,
        limit: u32,
    ) -> Result<Vec<SealedFactor>, SqlError> {
        let sql = "SELECT id, account_id, sealed FROM totp_factors WHERE substr(sealed, 1, $1) <> $2 AND id > $3 \
                   ORDER BY id LIMIT $4";
        self.outdated(sql, prefix, after.map(|id| id.to_string()), limit).await
    }

    /// At most `limit` keys of recovery codes that are sealed under another secret than the current one, in the order of the accounts'
    /// ids, beginning after the account `after`. A value that is sealed under the current secret begins with `prefix`.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn outdated_recovery_keys(
        &self,
        prefix: &[u8],
        after: Option<AccountId>,
        limit: u32,
    ) -> Result<Vec<SealedFactor>, SqlError> {
        let sql = "SELECT CAST(NULL AS TEXT) AS id, account_id, sealed FROM recovery_keys \
                   WHERE substr(sealed, 1, $1) <> $2 AND account_id > $3 ORDER BY account_id LIMIT $4";
        self.outdated(sql, prefix, after.map(|id| id.to_string()), limit).await
    }

    /// Reads the outdated values that `sql` selects. `after` is the id after which they begin.
    async fn outdated(
        &self,
        sql: &'static str,
        prefix: &[u8],
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<SealedFactor>, SqlError> {
        let mut tx = self.begin_read().await?;
        // `substr` of PostgreSQL takes a 32-bit integer.
        let prefix_length = i32::try_from(prefix.len()).unwrap_or(i32::MAX);
        let rows = query(sql)
            .bind(prefix_length)
            .bind(prefix.to_vec())
            .bind(after.unwrap_or_default()) // every id is greater than the empty string
            .bind(i64::from(limit))
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        let read = |row: &AnyRow| -> Result<SealedFactor, SqlError> {
            let id: Option<String> = row.try_get("id")?;
            let account: String = row.try_get("account_id")?;
            Ok(SealedFactor {
                factor: id.map(|id| parse_id(&id)).transpose()?,
                account: parse_id(&account)?,
                sealed: row.try_get("sealed")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Replaces the sealed value `old.sealed` by `sealed`, unless it has changed meanwhile.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn reseal_factor_secret(&self, old: &SealedFactor, sealed: &[u8]) -> Result<(), SqlError> {
        let mut tx = self.begin_write().await?;
        let (sql, id) = match old.factor {
            Some(id) => ("UPDATE totp_factors SET sealed = $1 WHERE id = $2 AND sealed = $3", id.to_string()),
            None => {
                ("UPDATE recovery_keys SET sealed = $1 WHERE account_id = $2 AND sealed = $3", old.account.to_string())
            }
        };
        query(sql).bind(sealed.to_vec()).bind(id).bind(old.sealed.clone()).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}

/// A sealed secret of a factor. `Debug` omits it.
pub struct SealedFactor {
    /// The authenticator app; none for the key of recovery codes.
    pub factor: Option<FactorId>,
    /// The account.
    pub account: AccountId,
    /// The sealed secret.
    pub sealed: Vec<u8>,
}

impl std::fmt::Debug for SealedFactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedFactor")
            .field("factor", &self.factor)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

impl AccountChange {
    /// The account's authenticator apps, oldest first, those that are not confirmed yet included.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn totp_factors(&mut self) -> Result<Vec<TotpFactor>, SqlError> {
        totp_of(&mut self.tx, self.account.id).await
    }

    /// Adds an authenticator app. Removes the apps that are not confirmed: an account has at most one of them.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn add_totp(&mut self, factor: &TotpFactor) -> Result<(), SqlError> {
        let id = self.account.id.to_string();
        let sql = "DELETE FROM totp_factors WHERE account_id = $1 AND confirmed_at IS NULL";
        query(sql).bind(id).execute(&mut *self.tx).await?;
        insert_totp(&mut self.tx, factor).await
    }

    /// Confirms an authenticator app with the time step of its first code.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn confirm_totp(&mut self, id: FactorId, step: u64, now: Timestamp) -> Result<(), SqlError> {
        let sql = "UPDATE totp_factors SET confirmed_at = $1, last_step = $2, last_used_at = $1 \
                   WHERE id = $3 AND account_id = $4";
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let account = self.account.id.to_string();
        let update = query(sql).bind(now.as_millis()).bind(step).bind(id.to_string()).bind(account);
        update.execute(&mut *self.tx).await?;
        Ok(())
    }

    /// Renames a confirmed authenticator app. Returns whether the account has the app.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn rename_totp(&mut self, id: FactorId, label: &str) -> Result<bool, SqlError> {
        let sql = "UPDATE totp_factors SET label = $1 WHERE id = $2 AND account_id = $3 AND confirmed_at IS NOT NULL";
        let account = self.account.id.to_string();
        let done = query(sql).bind(label.to_owned()).bind(id.to_string()).bind(account).execute(&mut *self.tx).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Removes an authenticator app.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn remove_totp(&mut self, id: FactorId) -> Result<(), SqlError> {
        let sql = "DELETE FROM totp_factors WHERE id = $1 AND account_id = $2";
        query(sql).bind(id.to_string()).bind(self.account.id.to_string()).execute(&mut *self.tx).await?;
        Ok(())
    }

    /// Replaces the account's recovery codes. With no digests, the account has no codes afterwards.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn set_recovery_codes(
        &mut self,
        sealed_key: &[u8],
        digests: &[String],
        now: Timestamp,
    ) -> Result<(), SqlError> {
        let id = self.account.id.to_string();
        for sql in
            ["DELETE FROM recovery_codes WHERE account_id = $1", "DELETE FROM recovery_keys WHERE account_id = $1"]
        {
            query(sql).bind(id.clone()).execute(&mut *self.tx).await?;
        }
        if digests.is_empty() {
            return Ok(());
        }
        query("INSERT INTO recovery_keys (account_id, sealed, created_at) VALUES ($1, $2, $3)")
            .bind(id.clone())
            .bind(sealed_key.to_vec())
            .bind(now.as_millis())
            .execute(&mut *self.tx)
            .await?;
        for digest in digests {
            query("INSERT INTO recovery_codes (account_id, digest) VALUES ($1, $2)")
                .bind(id.clone())
                .bind(digest.clone())
                .execute(&mut *self.tx)
                .await?;
        }
        Ok(())
    }

    /// Removes all factors, passkeys included, and recovery codes. Forgets the devices that skip the second factor.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn clear_factors(&mut self, now: Timestamp) -> Result<(), SqlError> {
        self.account.factors = Factors::NONE;
        self.account.factors_version = self.account.factors_version.next();
        self.forget_devices().await?;
        self.store(now).await?;
        for sql in ["DELETE FROM totp_factors WHERE account_id = $1", "DELETE FROM passkeys WHERE account_id = $1"] {
            query(sql).bind(self.account.id.to_string()).execute(&mut *self.tx).await?;
        }
        let (no_key, no_digests) = (&[], &[]);
        self.set_recovery_codes(no_key, no_digests, now).await
    }

    /// When the account's recovery codes were created, even if all of them are used; none if there is no set of codes.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn recovery_codes_made_at(&mut self) -> Result<Option<Timestamp>, SqlError> {
        let sql = "SELECT created_at FROM recovery_keys WHERE account_id = $1";
        let row = query(sql).bind(self.account.id.to_string()).fetch_optional(&mut *self.tx).await?;
        let at = row.map(|row| row.try_get("created_at")).transpose()?;
        Ok(at.map(Timestamp::from_millis))
    }

    /// Sets whether the account has factors of a kind, increments the version of its factors, and forgets the devices that skip the
    /// second factor. Every change of the factors calls this function, even if the kinds stay the same.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn set_factor(&mut self, kind: FactorKind, present: bool, now: Timestamp) -> Result<(), SqlError> {
        self.account.factors = self.account.factors.set(kind, present);
        self.account.factors_version = self.account.factors_version.next();
        self.forget_devices().await?;
        self.store(now).await
    }

    /// Suspends codes by mail as a second factor ([`Factors::with_email_code_suspended`]). The factors and their version stay.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn suspend_email_code(&mut self) -> Result<(), SqlError> {
        self.account.factors = self.account.factors.with_email_code_suspended(true);
        self.store(self.account.updated_at).await
    }

    /// Accepts codes by mail as a second factor again after [`Self::suspend_email_code`]. The factors and their version stay.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn resume_email_code(&mut self) -> Result<(), SqlError> {
        self.account.factors = self.account.factors.with_email_code_suspended(false);
        self.store(self.account.updated_at).await
    }

    /// Stores the time since which the account must have a second factor; `None` if it need not have one.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn set_factor_required(&mut self, since: Option<Timestamp>) -> Result<(), SqlError> {
        self.account.factor_required_at = since;
        self.store(self.account.updated_at).await
    }
}

/// Inserts an authenticator app.
pub(super) async fn insert_totp(tx: &mut Transaction<'_, Any>, factor: &TotpFactor) -> Result<(), SqlError> {
    let sql = "INSERT INTO totp_factors (id, account_id, label, sealed, created_at, confirmed_at, last_step, last_used_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    query(sql)
        .bind(factor.id.to_string())
        .bind(factor.account.to_string())
        .bind(factor.label.clone())
        .bind(factor.sealed.clone())
        .bind(factor.created_at.as_millis())
        .bind(factor.confirmed_at.map(Timestamp::as_millis))
        .bind(i64::try_from(factor.last_step).unwrap_or(i64::MAX))
        .bind(factor.last_used_at.map(Timestamp::as_millis))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn totp_of(tx: &mut Transaction<'_, Any>, account: AccountId) -> Result<Vec<TotpFactor>, SqlError> {
    // the ids are UUIDs of version 7, so this order is that of creation
    let sql = select_totp!("WHERE account_id = $1 ORDER BY id");
    let rows = query(sql).bind(account.to_string()).fetch_all(&mut **tx).await?;
    rows.iter().map(read_totp).collect()
}

/// The number of an account's unused recovery codes.
async fn count_codes(tx: &mut Transaction<'_, Any>, account: AccountId) -> Result<u32, SqlError> {
    let sql = "SELECT COUNT(*) AS codes FROM recovery_codes WHERE account_id = $1";
    let row = query(sql).bind(account.to_string()).fetch_one(&mut **tx).await?;
    Ok(u32::try_from(row.try_get::<i64, _>("codes")?).unwrap_or(u32::MAX))
}

fn read_totp(row: &AnyRow) -> Result<TotpFactor, SqlError> {
    let id: String = row.try_get("id")?;
    let account: String = row.try_get("account_id")?;
    let confirmed_at: Option<i64> = row.try_get("confirmed_at")?;
    let last_used_at: Option<i64> = row.try_get("last_used_at")?;
    Ok(TotpFactor {
        id: parse_id(&id)?,
        account: parse_id(&account)?,
        label: row.try_get("label")?,
        sealed: row.try_get("sealed")?,
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        confirmed_at: confirmed_at.map(Timestamp::from_millis),
        last_step: row.try_get::<i64, _>("last_step")?.max(0).unsigned_abs(),
        last_used_at: last_used_at.map(Timestamp::from_millis),
    })
}

fn parse_id<T: std::str::FromStr>(id: &str) -> Result<T, SqlError> {
    id.parse().map_err(|_| SqlError::Corrupt(format!("the id {id} of a second factor")))
}
