//! Service clients: created, listed, disabled, enabled, deleted and given new secrets by operators.

mod authenticate;

use std::time::Duration;

pub use authenticate::{AuthenticateClientError, Credentials, authenticate};

use crate::{
    config::TokenSettings,
    crypto::client_secret::ClientSecret,
    domain::{
        client::{Client, ClientId, ClientIdError, ClientSecretHash, InvalidItem, SpaceSeparated},
        clock::Clock,
        entropy::Entropy,
    },
    service::error::{ServiceError, from_store_errors},
    store::sql::Sql,
};

/// How long the former secret is accepted beside the new one by default.
pub const GRACE: Duration = Duration::from_hours(24);

/// The longest grace period: a year.
pub const MAX_GRACE: Duration = Duration::from_hours(24 * 366);

/// A client to create.
#[derive(Clone, Debug, Default)]
pub struct NewClient {
    /// The `client_id`.
    pub name: String,
    /// The scopes that its own tokens may have.
    pub scopes: Vec<String>,
    /// The audiences of its own tokens, and of the tokens it may introspect and revoke; `token.audience` if empty.
    pub audiences: Vec<String>,
    /// The public keys, as [`crate::crypto::client_keys::to_jwks`] gives them.
    pub jwks: Option<String>,
}

/// Why a client was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The name is not a valid `client_id`.
    #[error("the name {0}")]
    Name(#[from] ClientIdError),
    /// The name is `token.client_id`.
    #[error("the name is token.client_id, which is reserved for apps that sign users in and have no secret")]
    Reserved,
    /// A client has this name, perhaps a disabled one.
    #[error("a client of this name exists")]
    Taken,
    /// No client has this name.
    #[error("there is no client of this name")]
    Unknown,
    /// The client is disabled.
    #[error("the client is disabled; enable it first")]
    Disabled,
    /// A scope or an audience is malformed.
    #[error("a scope or an audience: {0}")]
    Word(#[from] InvalidItem),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(ClientError);

/// Creates a client. Returns it with its secret, of which only the hash is stored.
///
/// # Errors
/// [`ClientError`]
pub async fn add(
    settings: &TokenSettings,
    clock: &Clock,
    entropy: &Entropy,
    sql: &Sql,
    new: NewClient,
) -> Result<(Client, ClientSecret), ClientError> {
    let secret = ClientSecret::generate(entropy);
    let client = add_with_secret(settings, clock, sql, new, secret.hash()).await?;
    Ok((client, secret))
}

/// Creates a client whose secret has this hash. The secret must have 256 random bits.
///
/// # Errors
/// [`ClientError`]
pub async fn add_with_secret(
    settings: &TokenSettings,
    clock: &Clock,
    sql: &Sql,
    new: NewClient,
    secret: ClientSecretHash,
) -> Result<Client, ClientError> {
    let id = ClientId::parse(&new.name)?;
    if id.as_str() == settings.client_id {
        return Err(ClientError::Reserved);
    }
    let audiences = if new.audiences.is_empty() { vec![settings.audience.clone()] } else { new.audiences };
    let client = Client {
        id,
        scopes: SpaceSeparated::parse(new.scopes)?,
        audiences: SpaceSeparated::parse(audiences)?,
        jwks: new.jwks,
        secret,
        former_secret: None,
        created_at: clock.now(),
        disabled_at: None,
    };
    if !sql.insert_client(&client).await? {
        return Err(ClientError::Taken);
    }
    tracing::info!(client = %client.id, "service client created");
    Ok(client)
}

/// All clients, by name.
///
/// # Errors
/// [`ServiceError`]
pub async fn list(sql: &Sql) -> Result<Vec<Client>, ServiceError> {
    Ok(sql.clients().await?)
}

/// The client of this name.
///
/// # Errors
/// [`ClientError::Unknown`], [`ClientError::Service`]
pub async fn show(sql: &Sql, name: &str) -> Result<Client, ClientError> {
    let found = sql.clients().await?.into_iter().find(|client| client.id.as_str() == name);
    found.ok_or(ClientError::Unknown)
}

/// Disables a client; nodes apply this within seconds. [`enable`] undoes it.
///
/// # Errors
/// [`ClientError::Unknown`], [`ClientError::Service`]
pub async fn disable(clock: &Clock, sql: &Sql, name: &str) -> Result<(), ClientError> {
    let id = existing(sql.disable_client(&parse(name)?, clock.now()).await?, name)?;
    tracing::warn!(client = %id, "service client disabled");
    Ok(())
}

/// Enables a disabled client, with the secrets it had; nodes apply this within seconds.
///
/// # Errors
/// [`ClientError::Unknown`], [`ClientError::Service`]
pub async fn enable(clock: &Clock, sql: &Sql, name: &str) -> Result<(), ClientError> {
    let id = existing(sql.enable_client(&parse(name)?, clock.now()).await?, name)?;
    tracing::info!(client = %id, "service client enabled");
    Ok(())
}

/// Deletes a client; nodes apply this within seconds, and its name can be used for a new client.
///
/// # Errors
/// [`ClientError::Unknown`], [`ClientError::Service`]
pub async fn delete(clock: &Clock, sql: &Sql, name: &str) -> Result<(), ClientError> {
    let id = existing(sql.delete_client(&parse(name)?, clock.now()).await?, name)?;
    tracing::warn!(client = %id, "service client deleted");
    Ok(())
}

/// Rotates the secret of a client. The current secret is accepted for `grace` more, the previous one no longer.
///
/// # Errors
/// [`ClientError::Unknown`], [`ClientError::Disabled`], [`ClientError::Service`]
pub async fn rotate_secret(
    clock: &Clock,
    entropy: &Entropy,
    sql: &Sql,
    name: &str,
    grace: Duration,
) -> Result<(ClientId, ClientSecret), ClientError> {
    if !show(sql, name).await?.is_enabled() {
        return Err(ClientError::Disabled);
    }
    let secret = ClientSecret::generate(entropy);
    let now = clock.now();
    let rotated = sql.rotate_client_secret(&parse(name)?, &secret.hash(), now + grace, now).await?;
    let id = existing(rotated, name)?;
    tracing::info!(client = %id, "secret of a service client rotated");
    Ok((id, secret))
}

/// Parses a client's name. A text of another form is the name of no client.
fn parse(name: &str) -> Result<ClientId, ClientError> {
    ClientId::parse(name).map_err(|_| ClientError::Unknown)
}

fn existing(exists: bool, name: &str) -> Result<ClientId, ClientError> {
    if exists { parse(name) } else { Err(ClientError::Unknown) }
}
