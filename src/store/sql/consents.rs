//! The `consents` table: the consent of account owners to clients.

use std::net::IpAddr;

use sqlx::{Any, Row, Transaction, any::AnyRow};

use super::{AccountChange, Dialect, Sql, SqlError, query};
use crate::domain::{
    audit::{Actor, AuditEntry, AuditEvent},
    client::{ClientId, SpaceSeparated},
    clock::Timestamp,
    ids::AccountId,
};

/// The consent of an account's owner to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// The client.
    pub client_id: String,
    /// All scopes that the owner has allowed.
    pub scope: SpaceSeparated,
    /// All resources that the client's tokens may be for (RFC 8707), except the issuer.
    pub resources: SpaceSeparated,
    /// When the owner consented for the first time.
    pub created_at: Timestamp,
    /// When the owner consented for the last time.
    pub updated_at: Timestamp,
}

/// The scopes and resources that an account's owner allows a client.
#[derive(Clone, Copy, Debug)]
pub struct Permission<'a> {
    /// The scopes.
    pub scope: &'a SpaceSeparated,
    /// The resources that the client's tokens may be for (RFC 8707), except the issuer.
    pub resources: &'a SpaceSeparated,
}

impl Sql {
    /// The consent of an account to a client, if any.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn consent(&self, account: AccountId, client: &str) -> Result<Option<Consent>, SqlError> {
        let mut tx = self.begin_read().await?;
        let sql = "SELECT client_id, scope, resources, created_at, updated_at FROM consents \
                   WHERE account_id = $1 AND client_id = $2";
        let row = query(sql).bind(account.to_string()).bind(client.to_owned()).fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        row.as_ref().map(read_consent).transpose()
    }

    /// The consents of an account, in order of the client's id.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn consents(&self, account: AccountId) -> Result<Vec<Consent>, SqlError> {
        let mut tx = self.begin_read().await?;
        let sql = "SELECT client_id, scope, resources, created_at, updated_at FROM consents \
                   WHERE account_id = $1 ORDER BY client_id";
        let rows = query(sql).bind(account.to_string()).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter().map(read_consent).collect()
    }

    /// Adds scopes and resources to the consent of an account to a client.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn add_consent(
        &self,
        account: AccountId,
        client: &ClientId,
        allowed: Permission<'_>,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        let mut tx = self.begin_write().await?;
        let audited_url = None;
        self.write_consent(&mut tx, account, client, audited_url, allowed, now).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Adds to a consent within a transaction, as [`Sql::add_consent`] does. The audit entry names the client by its id and, if given,
    /// by `audited_url`: the URL of the client's metadata document, of which the id is only a digest.
    pub(super) async fn write_consent(
        &self,
        tx: &mut Transaction<'_, Any>,
        account: AccountId,
        client: &ClientId,
        audited_url: Option<&str>,
        allowed: Permission<'_>,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        // Locks the account's row: waits for a concurrent change of the account, and makes later changes wait. So
        // `AccountChange::withdraw_consents` sees every consent that was stored before. On SQLite a write transaction is exclusive anyway.
        if self.dialect == Dialect::Postgres {
            let sql = "SELECT id FROM accounts WHERE id = $1 FOR SHARE";
            query(sql).bind(account.to_string()).fetch_optional(&mut **tx).await?;
        }
        let sql = "SELECT client_id, scope, resources, created_at, updated_at FROM consents \
                   WHERE account_id = $1 AND client_id = $2";
        let row = query(sql).bind(account.to_string()).bind(client.to_string()).fetch_optional(&mut **tx).await?;
        let former = row.as_ref().map(read_consent).transpose()?;
        let scope = union(former.as_ref().map(|former| &former.scope), allowed.scope)?;
        let resources = union(former.as_ref().map(|former| &former.resources), allowed.resources)?;
        let sql = "INSERT INTO consents (account_id, client_id, scope, resources, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (account_id, client_id) DO UPDATE SET \
                   scope = excluded.scope, resources = excluded.resources, updated_at = excluded.updated_at";
        query(sql)
            .bind(account.to_string())
            .bind(client.to_string())
            .bind(scope.to_string())
            .bind(resources.to_string())
            .bind(now.as_millis())
            .execute(&mut **tx)
            .await?;
        let entry = AuditEntry::new(now, AuditEvent::ConsentGiven).account(account).client(client.clone());
        // The scopes of this call, without those that the owner allowed before.
        let scope = allowed.scope;
        let detail = match audited_url {
            Some(url) => format!("{scope} ({url})"),
            None => scope.to_string(),
        };
        self.record(tx, &entry.actor(Actor::Account).detail(detail)).await
    }

    /// Withdraws the consent of an account to a client. Returns whether there was a consent.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn delete_consent(
        &self,
        account: AccountId,
        client: &ClientId,
        now: Timestamp,
    ) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        let sql = "DELETE FROM consents WHERE account_id = $1 AND client_id = $2";
        let deleted = query(sql).bind(account.to_string()).bind(client.to_string()).execute(&mut *tx).await?;
        let existed = deleted.rows_affected() > 0;
        if existed {
            let entry = AuditEntry::new(now, AuditEvent::ConsentWithdrawn).account(account).client(client.clone());
            self.record(&mut tx, &entry.actor(Actor::Account)).await?;
        }
        tx.commit().await?;
        Ok(existed)
    }
}

/// The former items, followed by the added items that are not among them.
fn union(former: Option<&SpaceSeparated>, added: &SpaceSeparated) -> Result<SpaceSeparated, SqlError> {
    let former = former.map(SpaceSeparated::items).unwrap_or_default();
    let all = SpaceSeparated::parse(former.iter().chain(added.items()));
    all.map_err(|error| SqlError::Corrupt(format!("a consent: {error}")))
}

impl AccountChange {
    /// Withdraws all consents, because another person may have given them (I13: only the first person to verify an address owns it).
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn withdraw_consents(&mut self, now: Timestamp, ip: Option<IpAddr>) -> Result<(), SqlError> {
        let earliest = Timestamp::from_millis(i64::MIN);
        self.withdraw_consents_since(earliest, now, ip).await
    }

    /// Withdraws the consents that were given or extended at `since` or later, because another person may have given them (I13).
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn withdraw_consents_since(
        &mut self,
        since: Timestamp,
        now: Timestamp,
        ip: Option<IpAddr>,
    ) -> Result<(), SqlError> {
        let sql = "DELETE FROM consents WHERE account_id = $1 AND updated_at >= $2 RETURNING client_id";
        let rows =
            query(sql).bind(self.account.id.to_string()).bind(since.as_millis()).fetch_all(&mut *self.tx).await?;
        for row in rows {
            let text: String = row.try_get("client_id")?;
            let client = ClientId::parse(&text)
                .map_err(|_| SqlError::Corrupt(format!("consents.client_id {text:?} of an account")))?;
            let entry = AuditEntry::new(now, AuditEvent::ConsentWithdrawn).account(self.account.id).because("suspect");
            self.record(&entry.client(client).actor(Actor::Account).address(ip)).await?;
        }
        Ok(())
    }
}

/// Reads a row of the table.
fn read_consent(row: &AnyRow) -> Result<Consent, SqlError> {
    let client_id: String = row.try_get("client_id")?;
    let items = |column: &str| -> Result<SpaceSeparated, SqlError> {
        let text: String = row.try_get(column)?;
        SpaceSeparated::from_spaced(&text)
            .map_err(|_| SqlError::Corrupt(format!("consents.{column} of the client {client_id:?}")))
    };
    Ok(Consent {
        scope: items("scope")?,
        resources: items("resources")?,
        client_id,
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        updated_at: Timestamp::from_millis(row.try_get("updated_at")?),
    })
}
