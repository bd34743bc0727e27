//! The `signing_keys` table. Private keys are sealed: encrypted under a key that derives from the secret.

use sqlx::{Any, Row, Transaction, any::AnyRow};

use super::{Lock, Sql, SqlError, query};
use crate::domain::{
    audit::{AuditEntry, AuditEvent},
    clock::Timestamp,
    key::StoredKey,
};

impl Sql {
    /// Inserts a new key, and sets the end of trust in older keys, in one transaction. `ends` has the `kid` and the end of each older
    /// key.
    ///
    /// # Errors
    /// [`SqlError`], also if a key with the same `kid` exists.
    pub async fn rotate_keys(&self, new: &StoredKey, ends: &[(String, Timestamp)]) -> Result<(), SqlError> {
        let mut tx = self.begin_write().await?;
        insert(&mut tx, new).await?;
        self.record(&mut tx, &AuditEntry::new(new.created_at, AuditEvent::KeyMade).detail(&new.kid)).await?;
        for (kid, until) in ends {
            set_verifies_until(&mut tx, kid, Some(*until)).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Inserts `key`, unless a key exists. If several nodes start at the same time, only one of them inserts its key. Returns whether
    /// this call has inserted `key`.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn insert_first_key(&self, key: &StoredKey) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        // other nodes wait here until this transaction has ended
        self.dialect.lock(&mut tx, Lock::FirstKey).await?;
        let existing = query("SELECT kid FROM signing_keys LIMIT 1").fetch_optional(&mut *tx).await?;
        let is_first = existing.is_none();
        if is_first {
            insert(&mut tx, key).await?;
            self.record(&mut tx, &AuditEntry::new(key.created_at, AuditEvent::KeyMade).detail(&key.kid)).await?;
        }
        tx.commit().await?;
        Ok(is_first)
    }

    /// Lists all keys, oldest first.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn keys(&self) -> Result<Vec<StoredKey>, SqlError> {
        let mut tx = self.begin_read().await?;
        let sql = "SELECT kid, algorithm, sealed_private, public_jwk, created_at, signs_from, verifies_until \
                   FROM signing_keys ORDER BY created_at, kid";
        let rows = query(sql).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter().map(read).collect()
    }

    /// Retires a key at the time `now`: its tokens are refused from `until` on. An end that is not later stays. Otherwise the audit log
    /// records the retirement. `None` removes the key's end. Returns whether the key exists.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn set_key_verifies_until(
        &self,
        kid: &str,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        let Some(until) = until else {
            let exists = set_verifies_until(&mut tx, kid, None).await?;
            tx.commit().await?;
            return Ok(exists);
        };
        // A condition in the statement, so that only one of several concurrent calls with the same end records the retirement.
        let sql = "UPDATE signing_keys SET verifies_until = $1 \
                   WHERE kid = $2 AND (verifies_until IS NULL OR verifies_until > $1)";
        let updated = query(sql).bind(until.as_millis()).bind(kid.to_owned()).execute(&mut *tx).await?;
        let exists = if updated.rows_affected() > 0 {
            self.record(&mut tx, &AuditEntry::new(now, AuditEvent::KeyRetired).detail(kid)).await?;
            true
        } else {
            let found = query("SELECT kid FROM signing_keys WHERE kid = $1").bind(kid.to_owned());
            found.fetch_optional(&mut *tx).await?.is_some()
        };
        tx.commit().await?;
        Ok(exists)
    }

    /// Replaces a sealed private key by the same key sealed under another secret. Returns whether the key exists.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn reseal_key(&self, kid: &str, sealed: &[u8]) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        let updated = query("UPDATE signing_keys SET sealed_private = $1 WHERE kid = $2")
            .bind(sealed.to_vec())
            .bind(kid.to_owned())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(updated.rows_affected() > 0)
    }

    /// Deletes the keys whose end of trust is before `now`, and returns their number.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn delete_keys_before(&self, now: Timestamp) -> Result<u64, SqlError> {
        let mut tx = self.begin_write().await?;
        let sql = "DELETE FROM signing_keys WHERE verifies_until < $1";
        let deleted = query(sql).bind(now.as_millis()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(deleted.rows_affected())
    }
}

async fn insert(tx: &mut Transaction<'_, Any>, key: &StoredKey) -> Result<(), SqlError> {
    let sql = "INSERT INTO signing_keys \
               (kid, algorithm, sealed_private, public_jwk, created_at, signs_from, verifies_until) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    query(sql)
        .bind(key.kid.clone())
        .bind(key.algorithm.as_str())
        .bind(key.sealed_private.clone())
        .bind(key.public_jwk.clone())
        .bind(key.created_at.as_millis())
        .bind(key.signs_from.as_millis())
        .bind(key.verifies_until.map(Timestamp::as_millis))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Sets or removes the end of trust in a key. Returns whether the key exists.
async fn set_verifies_until(
    tx: &mut Transaction<'_, Any>,
    kid: &str,
    until: Option<Timestamp>,
) -> Result<bool, SqlError> {
    let updated = query("UPDATE signing_keys SET verifies_until = $1 WHERE kid = $2")
        .bind(until.map(Timestamp::as_millis))
        .bind(kid.to_owned())
        .execute(&mut **tx)
        .await?;
    Ok(updated.rows_affected() > 0)
}

fn read(row: &AnyRow) -> Result<StoredKey, SqlError> {
    let kid: String = row.try_get("kid")?;
    let algorithm: String = row.try_get("algorithm")?;
    let verifies_until: Option<i64> = row.try_get("verifies_until")?;
    Ok(StoredKey {
        algorithm: algorithm.parse().map_err(|_| SqlError::Corrupt(format!("algorithm of the signing key {kid}")))?,
        kid,
        sealed_private: row.try_get("sealed_private")?,
        public_jwk: row.try_get("public_jwk")?,
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        signs_from: Timestamp::from_millis(row.try_get("signs_from")?),
        verifies_until: verifies_until.map(Timestamp::from_millis),
    })
}
