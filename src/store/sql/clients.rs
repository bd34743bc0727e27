//! The `clients` table: service clients and apps that operators have registered.

use sqlx::{Row, any::AnyRow};

use super::{Sql, SqlError, query};
use crate::domain::{
    app_client::{AppSettings, ClientAuthMethod, ClientKind, GrantType},
    audit::{AuditEntry, AuditEvent},
    client::{Client, ClientId, ClientSecretHash, FormerSecret, InvalidItem, SpaceSeparated},
    clock::Timestamp,
};

impl Sql {
    /// Inserts an enabled client with one secret. Returns false if its id is taken.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn insert_client(&self, client: &Client) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        let sql = "INSERT INTO clients \
                   (id, scopes, audiences, jwks, secret_hash, former_secret_hash, former_secret_until, created_at, disabled_at, \
                   kind, name, redirect_uris, post_logout_redirect_uris, grant_types, auth_method, asks_consent, logo_uri, \
                   client_uri, policy_uri, tos_uri, without_pkce, initiate_login_uri) \
                   VALUES ($1, $2, $3, $4, $5, NULL, NULL, $6, NULL, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) \
                   ON CONFLICT (id) DO NOTHING";
        let app = &client.app;
        let grants: Vec<_> = app.grant_types.iter().map(|grant| grant.as_str()).collect();
        let done = query(sql)
            .bind(client.id.to_string())
            .bind(client.scopes.to_string())
            .bind(client.audiences.to_string())
            .bind(client.jwks.clone())
            .bind(client.secret.as_bytes().to_vec())
            .bind(client.created_at.as_millis())
            .bind(client.kind.as_str())
            .bind(app.name.clone())
            .bind(app.redirect_uris.join(" "))
            .bind(app.post_logout_redirect_uris.join(" "))
            .bind(grants.join(" "))
            .bind(app.auth_method.map(ClientAuthMethod::as_str))
            .bind(i64::from(app.asks_consent))
            .bind(app.logo_uri.clone())
            .bind(app.client_uri.clone())
            .bind(app.policy_uri.clone())
            .bind(app.tos_uri.clone())
            .bind(i64::from(app.without_pkce))
            .bind(app.initiate_login_uri.clone())
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() > 0 {
            let entry = AuditEntry::new(client.created_at, AuditEvent::ClientAdded).client(client.id.clone());
            self.record(&mut tx, &entry).await?;
        }
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Lists all clients in order of id.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn clients(&self) -> Result<Vec<Client>, SqlError> {
        let mut tx = self.begin_read().await?;
        let sql = "SELECT id, scopes, audiences, jwks, secret_hash, former_secret_hash, former_secret_until, created_at, \
                   disabled_at, kind, name, redirect_uris, post_logout_redirect_uris, grant_types, auth_method, asks_consent, \
                   logo_uri, client_uri, policy_uri, tos_uri, without_pkce, initiate_login_uri FROM clients ORDER BY id";
        let rows = query(sql).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter().map(read).collect()
    }

    /// Disables a client. Returns whether the client exists. A client that is disabled already keeps the time at which it was disabled.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn disable_client(&self, id: &ClientId, now: Timestamp) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        let done = query("UPDATE clients SET disabled_at = COALESCE(disabled_at, $1) WHERE id = $2")
            .bind(now.as_millis())
            .bind(id.to_string())
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() > 0 {
            self.record(&mut tx, &AuditEntry::new(now, AuditEvent::ClientDisabled).client(id.clone())).await?;
        }
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Enables a disabled client. Returns whether the client exists.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn enable_client(&self, id: &ClientId, now: Timestamp) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        let done =
            query("UPDATE clients SET disabled_at = NULL WHERE id = $1").bind(id.to_string()).execute(&mut *tx).await?;
        if done.rows_affected() > 0 {
            self.record(&mut tx, &AuditEntry::new(now, AuditEvent::ClientEnabled).client(id.clone())).await?;
        }
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Sets the scopes, audiences, public keys and app settings of a client. Its kind, secret and state stay. Returns whether the client
    /// exists.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn update_client(
        &self,
        id: &ClientId,
        scopes: &SpaceSeparated,
        audiences: &SpaceSeparated,
        jwks: Option<&str>,
        app: &AppSettings,
        now: Timestamp,
    ) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        let grants: Vec<_> = app.grant_types.iter().map(|grant| grant.as_str()).collect();
        let sql = "UPDATE clients SET scopes = $1, audiences = $2, jwks = $3, name = $4, redirect_uris = $5, \
                   post_logout_redirect_uris = $6, grant_types = $7, auth_method = $8, asks_consent = $9, logo_uri = $10, \
                   client_uri = $11, policy_uri = $12, tos_uri = $13, without_pkce = $14, \
                   initiate_login_uri = $15 WHERE id = $16";
        let done = query(sql)
            .bind(scopes.to_string())
            .bind(audiences.to_string())
            .bind(jwks.map(str::to_owned))
            .bind(app.name.clone())
            .bind(app.redirect_uris.join(" "))
            .bind(app.post_logout_redirect_uris.join(" "))
            .bind(grants.join(" "))
            .bind(app.auth_method.map(ClientAuthMethod::as_str))
            .bind(i64::from(app.asks_consent))
            .bind(app.logo_uri.clone())
            .bind(app.client_uri.clone())
            .bind(app.policy_uri.clone())
            .bind(app.tos_uri.clone())
            .bind(i64::from(app.without_pkce))
            .bind(app.initiate_login_uri.clone())
            .bind(id.to_string())
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() > 0 {
            self.record(&mut tx, &AuditEntry::new(now, AuditEvent::ClientChanged).client(id.clone())).await?;
        }
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Deletes a client and the consents to it. Its id can be used again. Returns whether the client existed.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn delete_client(&self, id: &ClientId, now: Timestamp) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        let done = query("DELETE FROM clients WHERE id = $1").bind(id.to_string()).execute(&mut *tx).await?;
        if done.rows_affected() > 0 {
            // Otherwise a new client with this id would inherit the consents.
            query("DELETE FROM consents WHERE client_id = $1").bind(id.to_string()).execute(&mut *tx).await?;
            self.record(&mut tx, &AuditEntry::new(now, AuditEvent::ClientDeleted).client(id.clone())).await?;
        }
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Replaces a client's secret. The replaced secret is accepted until `former_until`. A secret that was replaced earlier is no longer
    /// accepted. Returns whether the client exists.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn rotate_client_secret(
        &self,
        id: &ClientId,
        new: &ClientSecretHash,
        former_until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, SqlError> {
        let mut tx = self.begin_write().await?;
        let sql = "UPDATE clients SET former_secret_hash = secret_hash, former_secret_until = $1, secret_hash = $2 \
                   WHERE id = $3";
        let done = query(sql)
            .bind(former_until.as_millis())
            .bind(new.as_bytes().to_vec())
            .bind(id.to_string())
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() > 0 {
            self.record(&mut tx, &AuditEntry::new(now, AuditEvent::ClientSecretRotated).client(id.clone())).await?;
        }
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }
}

/// Reads a client from a row. Columns that hold several items separate them by spaces, and 0 and 1 stand for booleans.
fn read(row: &AnyRow) -> Result<Client, SqlError> {
    let id: String = row.try_get("id")?;
    let corrupt = |column: &str| SqlError::Corrupt(format!("{column} of the client {id:?}"));
    let space_separated = |column: &str| -> Result<SpaceSeparated, SqlError> {
        let text: String = row.try_get(column)?;
        SpaceSeparated::from_spaced(&text).map_err(|InvalidItem(_)| corrupt(column))
    };
    let hash = |column: &str, bytes: Vec<u8>| -> Result<ClientSecretHash, SqlError> {
        Ok(ClientSecretHash::new(bytes.try_into().map_err(|_| corrupt(column))?))
    };
    let former_hash: Option<Vec<u8>> = row.try_get("former_secret_hash")?;
    let former_until: Option<i64> = row.try_get("former_secret_until")?;
    let disabled_at: Option<i64> = row.try_get("disabled_at")?;
    let former_secret = match (former_hash, former_until) {
        (Some(bytes), Some(until)) => {
            let until = Timestamp::from_millis(until);
            Some(FormerSecret { hash: hash("former_secret_hash", bytes)?, until })
        }
        _ => None,
    };
    let items = |column: &str| -> Result<Vec<String>, SqlError> {
        let text: String = row.try_get(column)?;
        Ok(text.split(' ').filter(|item| !item.is_empty()).map(str::to_owned).collect())
    };
    let kind: String = row.try_get("kind")?;
    let mut grant_types = Vec::new();
    for grant in items("grant_types")? {
        grant_types.push(GrantType::parse(&grant).ok_or_else(|| corrupt("grant_types"))?);
    }
    let auth_method: Option<String> = row.try_get("auth_method")?;
    let auth_method = match auth_method {
        Some(text) => Some(ClientAuthMethod::parse(&text).ok_or_else(|| corrupt("auth_method"))?),
        None => None,
    };
    Ok(Client {
        kind: ClientKind::parse(&kind).ok_or_else(|| corrupt("kind"))?,
        app: AppSettings {
            name: row.try_get("name")?,
            redirect_uris: items("redirect_uris")?,
            post_logout_redirect_uris: items("post_logout_redirect_uris")?,
            grant_types,
            auth_method,
            asks_consent: row.try_get::<i64, _>("asks_consent")? != 0,
            without_pkce: row.try_get::<i64, _>("without_pkce")? != 0,
            logo_uri: row.try_get("logo_uri")?,
            client_uri: row.try_get("client_uri")?,
            policy_uri: row.try_get("policy_uri")?,
            tos_uri: row.try_get("tos_uri")?,
            initiate_login_uri: row.try_get("initiate_login_uri")?,
        },
        scopes: space_separated("scopes")?,
        audiences: space_separated("audiences")?,
        jwks: row.try_get("jwks")?,
        secret: hash("secret_hash", row.try_get("secret_hash")?)?,
        former_secret,
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        disabled_at: disabled_at.map(Timestamp::from_millis),
        // Dynamic clients are not in this table.
        dynamic: None,
        id: ClientId::parse(&id).map_err(|_| corrupt("id"))?,
    })
}
