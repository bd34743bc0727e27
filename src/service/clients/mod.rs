//! Service clients: made, listed, disabled, given new secrets.

mod authenticate;

use std::time::Duration;

pub use authenticate::{AuthenticateClientError, Credentials, authenticate};

use crate::{
    config::TokenSettings,
    crypto::client_secret::ClientSecret,
    domain::{
        client::{Client, ClientId, ClientIdError, InvalidItem, SpaceSeparated},
        clock::Clock,
        entropy::Entropy,
    },
    service::error::ServiceError,
    store::sql::Sql,
};

/// How long the former secret is accepted beside the new one, unless its owner says otherwise.
pub const GRACE: Duration = Duration::from_hours(24);

/// The longest grace: a year.
pub const MAX_GRACE: Duration = Duration::from_hours(24 * 366);

/// A client to be made.
#[derive(Clone, Debug, Default)]
pub struct NewClient {
    /// Its name.
    pub name: String,
    /// What its tokens may be used for.
    pub scopes: Vec<String>,
    /// Whom they are for, and whose tokens it may ask about; `token.audience` if there are none.
    pub audiences: Vec<String>,
    /// Its public keys, as [`crate::crypto::client_keys::to_jwks`] gives them.
    pub jwks: Option<String>,
}

/// Why a client wasn't changed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The name can't be one.
    #[error("the name {0}")]
    Name(#[from] ClientIdError),
    /// The name stands for those who sign in by themselves.
    #[error("the name is token.client_id: it stands for apps that sign users in, which have no secret")]
    Reserved,
    /// A client has this name, perhaps a disabled one.
    #[error("there is a client of this name already")]
    Taken,
    /// There is no such client.
    #[error("there is no client of this name")]
    Unknown,
    /// A scope or an audience can't be one.
    #[error("a scope or an audience: {0}")]
    Word(#[from] InvalidItem),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Makes a client; gives its secret, which is kept nowhere.
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
    let id = ClientId::parse(&new.name)?;
    if id.as_str() == settings.client_id {
        return Err(ClientError::Reserved);
    }
    let audiences = if new.audiences.is_empty() { vec![settings.audience.clone()] } else { new.audiences };
    let secret = ClientSecret::generate(entropy);
    let client = Client {
        id,
        scopes: SpaceSeparated::parse(new.scopes)?,
        audiences: SpaceSeparated::parse(audiences)?,
        jwks: new.jwks,
        secret: secret.hash(),
        former_secret: None,
        created_at: clock.now(),
        disabled_at: None,
    };
    if !sql.insert_client(&client).await.map_err(ServiceError::from)? {
        return Err(ClientError::Taken);
    }
    tracing::info!(client = %client.id, "a service client was made");
    Ok((client, secret))
}

/// Every client, by name.
///
/// # Errors
/// [`ServiceError`]
pub async fn list(sql: &Sql) -> Result<Vec<Client>, ServiceError> {
    Ok(sql.clients().await?)
}

/// Lets a client do nothing any more. Nodes know it within seconds.
///
/// # Errors
/// [`ClientError`]
pub async fn disable(clock: &Clock, sql: &Sql, name: &str) -> Result<(), ClientError> {
    let id = ClientId::parse(name).map_err(|_| ClientError::Unknown)?;
    if !sql.disable_client(&id, clock.now()).await.map_err(ServiceError::from)? {
        return Err(ClientError::Unknown);
    }
    tracing::warn!(client = %id, "a service client was disabled");
    Ok(())
}

/// Gives a client a new secret. The present one is accepted for `grace` more, and the one before it no longer.
///
/// # Errors
/// [`ClientError`]
pub async fn rotate_secret(
    clock: &Clock,
    entropy: &Entropy,
    sql: &Sql,
    name: &str,
    grace: Duration,
) -> Result<(ClientId, ClientSecret), ClientError> {
    let id = ClientId::parse(name).map_err(|_| ClientError::Unknown)?;
    let secret = ClientSecret::generate(entropy);
    let now = clock.now();
    if !sql.rotate_client_secret(&id, &secret.hash(), now + grace, now).await.map_err(ServiceError::from)? {
        return Err(ClientError::Unknown);
    }
    tracing::info!(client = %id, "a service client was given a new secret");
    Ok((id, secret))
}
