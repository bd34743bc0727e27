//! The `dynamic_clients` table: clients that no operator has registered, and that an account has consented to at least once.

use sqlx::{
    Any, Row,
    any::{AnyArguments, AnyRow},
    query::Query,
};

use super::{Permission, Sql, SqlError, query};
use crate::domain::{
    audit::{AuditEntry, AuditEvent},
    client::ClientId,
    clock::Timestamp,
    dynamic_client::DynamicSource,
    ids::AccountId,
};

/// A stored client that no operator has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDynamicClient {
    /// The reference under which consents and sessions name the client.
    pub id: ClientId,
    /// The `client_id` that the client sends.
    pub client_id: String,
    /// The metadata, as JSON.
    pub metadata: String,
    /// When the metadata was fetched.
    pub fetched_at: Timestamp,
    /// When an account allowed the client for the first time.
    pub created_at: Timestamp,
    /// When the client was disabled; none while it is enabled.
    pub disabled_at: Option<Timestamp>,
}

/// A dynamic client that an account consents to.
#[derive(Clone, Copy, Debug)]
pub struct AllowedClient<'a> {
    /// The reference under which consents and sessions name the client.
    pub id: &'a ClientId,
    /// The `client_id` that the client sends.
    pub client_id: &'a str,
    /// The metadata, as JSON.
    pub metadata: &'a str,
    /// Where the metadata comes from.
    pub source: DynamicSource,
}

impl Sql {
    /// The client with this reference, enabled or not.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn dynamic_client(&self, id: &str) -> Result<Option<StoredDynamicClient>, SqlError> {
        let mut tx = self.begin_read().await?;
        let sql =
            "SELECT id, client_id, metadata, fetched_at, created_at, disabled_at FROM dynamic_clients WHERE id = $1";
        let row = query(sql).bind(id.to_owned()).fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        row.as_ref().map(read_client).transpose()
    }

    /// All dynamic clients in order of their `client_id`, at most `limit`.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn dynamic_clients(&self, limit: u32) -> Result<Vec<StoredDynamicClient>, SqlError> {
        let mut tx = self.begin_read().await?;
        let sql = "SELECT id, client_id, metadata, fetched_at, created_at, disabled_at FROM dynamic_clients \
                   ORDER BY client_id LIMIT $1";
        let rows = query(sql).bind(i64::from(limit)).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter().map(read_client).collect()
    }

    /// Stores a dynamic client and the consent of an account to it. Returns false, and stores nothing, if the account has already
    /// consented to `max_others` other dynamic clients.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn allow_dynamic_client(
        &self,
        account: AccountId,
        client: AllowedClient<'_>,
        allowed: Permission<'_>,
        max_others: u32,
        now: Timestamp,
    ) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        // The references of dynamic clients begin with `url.` (a metadata document) or `dcr.` (a registration).
        let sql = "SELECT COUNT(*) AS others FROM consents WHERE account_id = $1 AND client_id <> $2 \
                   AND (client_id LIKE 'url.%' OR client_id LIKE 'dcr.%')";
        let row = query(sql).bind(account.to_string()).bind(client.id.to_string()).fetch_one(&mut *tx).await?;
        if row.try_get::<i64, _>("others")? >= i64::from(max_others) {
            tx.commit().await?;
            return Ok(false);
        }
        // Every consent sets `allowed_at`: see `prune_dynamic_clients`.
        let sql = "INSERT INTO dynamic_clients (id, client_id, metadata, fetched_at, created_at, allowed_at) \
                   VALUES ($1, $2, $3, $4, $4, $4) ON CONFLICT (id) DO UPDATE SET metadata = excluded.metadata, \
                   fetched_at = excluded.fetched_at, allowed_at = excluded.allowed_at";
        query(sql)
            .bind(client.id.to_string())
            .bind(client.client_id.to_owned())
            .bind(client.metadata.to_owned())
            .bind(now.as_millis())
            .execute(&mut *tx)
            .await?;
        // The audit entry shows a document's URL. The `client_id` of a registration is long and not readable.
        let audited_url = (client.source == DynamicSource::Document).then_some(client.client_id);
        self.write_consent(&mut tx, account, client.id, audited_url, allowed, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Replaces the metadata of a client, fetched at `now`.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn update_dynamic_client(&self, id: &ClientId, metadata: &str, now: Timestamp) -> Result<(), SqlError> {
        let mut tx = self.begin_write().await?;
        query("UPDATE dynamic_clients SET metadata = $1, fetched_at = $2 WHERE id = $3")
            .bind(metadata.to_owned())
            .bind(now.as_millis())
            .bind(id.to_string())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Disables a dynamic client. Returns whether the client exists.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn disable_dynamic_client(&self, id: &ClientId, now: Timestamp) -> Result<bool, SqlError> {
        // A client that is disabled already keeps the time at which it was disabled.
        let sql = "UPDATE dynamic_clients SET disabled_at = COALESCE(disabled_at, $2) WHERE id = $1";
        let statement = query(sql).bind(id.to_string()).bind(now.as_millis());
        let entry = AuditEntry::new(now, AuditEvent::ClientDisabled).client(id.clone());
        self.change_dynamic_client(statement, &entry).await
    }

    /// Enables a disabled dynamic client. Returns whether the client exists.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn enable_dynamic_client(&self, id: &ClientId, now: Timestamp) -> Result<bool, SqlError> {
        let statement = query("UPDATE dynamic_clients SET disabled_at = NULL WHERE id = $1").bind(id.to_string());
        let entry = AuditEntry::new(now, AuditEvent::ClientEnabled).client(id.clone());
        self.change_dynamic_client(statement, &entry).await
    }

    /// Runs a statement that changes one dynamic client, and records `entry` if the client exists.
    async fn change_dynamic_client(
        &self,
        statement: Query<'static, Any, AnyArguments>,
        entry: &AuditEntry,
    ) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        let exists = statement.execute(&mut *tx).await?.rows_affected() > 0;
        if exists {
            self.record(&mut tx, entry).await?;
        }
        tx.commit().await?;
        Ok(exists)
    }

    /// Deletes the clients that no account consents to, and that no account has consented to since `before`. Keeps disabled clients, so that
    /// they stay disabled. Returns the number of deleted clients.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn prune_dynamic_clients(&self, before: Timestamp) -> Result<u64, SqlError> {
        let mut tx = self.begin_write().await?;
        // NOT EXISTS misses a consent that is not committed yet. But the transaction of the consent also sets `allowed_at`, so the deletion
        // waits until that transaction has ended, and then compares the new value.
        let sql = "DELETE FROM dynamic_clients WHERE allowed_at < $1 AND disabled_at IS NULL \
                   AND NOT EXISTS (SELECT 1 FROM consents WHERE consents.client_id = dynamic_clients.id)";
        let deleted = query(sql).bind(before.as_millis()).execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(deleted)
    }
}

fn read_client(row: &AnyRow) -> Result<StoredDynamicClient, SqlError> {
    let id: String = row.try_get("id")?;
    let disabled_at: Option<i64> = row.try_get("disabled_at")?;
    Ok(StoredDynamicClient {
        client_id: row.try_get("client_id")?,
        metadata: row.try_get("metadata")?,
        fetched_at: Timestamp::from_millis(row.try_get("fetched_at")?),
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        disabled_at: disabled_at.map(Timestamp::from_millis),
        id: ClientId::parse(&id).map_err(|_| SqlError::Corrupt(format!("id of the dynamic client {id:?}")))?,
    })
}
