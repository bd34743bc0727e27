//! Creates, lists, disables, enables and deletes clients for operators, and rotates their secrets.

mod authenticate;

use std::time::Duration;

pub use authenticate::{AuthenticateClientError, Credentials, authenticate};

use crate::{
    config::TokenSettings,
    crypto::client_secret::ClientSecret,
    domain::{
        app_client::{
            AppSettings, ClientAuthMethod, ClientKind, GrantType, RedirectUriError, check_link_uri, check_redirect_uri,
        },
        client::{Client, ClientId, ClientIdError, ClientSecretHash, InvalidItem, SpaceSeparated},
        clock::{Clock, Timestamp},
        dynamic_client::DynamicClient,
        entropy::Entropy,
    },
    service::{
        consents::stored_client_id,
        error::{ServiceError, from_store_errors},
    },
    store::sql::{Sql, StoredDynamicClient},
};

/// The scopes that an app may request if it is created without scopes.
pub const SIGN_IN_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// How long the former secret of a client is accepted beside the new one, by default.
pub const DEFAULT_GRACE: Duration = Duration::from_hours(24);

/// The longest grace period for a former secret: a leap year.
pub const MAX_GRACE: Duration = Duration::from_hours(24 * 366);

/// The maximum number of clients that [`list_dynamic`] returns.
pub const MAX_LISTED: u32 = 10_000;

/// A client to create.
#[derive(Clone, Debug, Default)]
pub struct NewClient {
    /// The `client_id`.
    pub name: String,
    /// The scopes that the client's tokens may have.
    pub scopes: Vec<String>,
    /// The audiences of the client's tokens, and of the tokens that it may introspect and revoke. If empty, a service client gets
    /// `token.audience`.
    pub audiences: Vec<String>,
    /// The public keys, in the form that [`crate::crypto::client_keys::to_jwks`] returns.
    pub jwks: Option<String>,
    /// The kind.
    pub kind: ClientKind,
    /// How the client signs users in. Without grant types, the client gets those of its kind.
    pub app: AppSettings,
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
    /// The name has the form of a reference: the internal id of a dynamic client, which no operator has registered.
    #[error(
        "the name must not be url. or dcr. followed by 32 characters: such names are reserved for apps that no operator has \
         registered"
    )]
    Reference,
    /// A client has this name, perhaps a disabled one.
    #[error(
        "a client of this name exists; choose another name, or get a new secret with `latchkey client rotate-secret`"
    )]
    Taken,
    /// No client has this name.
    #[error("there is no client of this name")]
    Unknown,
    /// The client is disabled.
    #[error("the client is disabled; enable it first")]
    Disabled,
    /// A redirect URI can't be registered.
    #[error("the redirect URI {0:?} {1}")]
    RedirectUri(String, RedirectUriError),
    /// A link of the app can't be registered. Carries the member of the client's metadata (RFC 7591, section 2) and the URI.
    #[error("{0} {1:?} {2}")]
    Link(&'static str, String, RedirectUriError),
    /// The kind of client and its other settings contradict each other. The text names no command-line option: the settings may come
    /// from the file of `latchkey apply`.
    #[error("{0}")]
    Contradiction(&'static str),
    /// A scope or an audience is malformed.
    #[error("a scope or an audience: {0}")]
    InvalidItem(#[from] InvalidItem),
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

/// Creates a client whose secret has this hash. The secret must have 256 random bits, because the hash is a fast one (SHA-256).
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
    let client = complete(settings, new, secret, clock.now())?;
    if !sql.insert_client(&client).await? {
        return Err(ClientError::Taken);
    }
    tracing::info!(client = %client.id, kind = client.kind.as_str(), "client created");
    Ok(client)
}

/// Validates a new client and completes it with defaults, without storing it.
///
/// # Errors
/// [`ClientError`]
pub(crate) fn complete(
    settings: &TokenSettings,
    new: NewClient,
    secret: ClientSecretHash,
    created_at: Timestamp,
) -> Result<Client, ClientError> {
    let id = ClientId::parse(&new.name)?;
    if id.as_str() == settings.client_id {
        return Err(ClientError::Reserved);
    }
    if DynamicClient::is_reference(id.as_str()) {
        return Err(ClientError::Reference);
    }
    let app = complete_app(&new)?;
    let audiences = match new.kind {
        ClientKind::Service if new.audiences.is_empty() => vec![settings.audience.clone()],
        _ => new.audiences,
    };
    let scopes = match new.kind {
        ClientKind::Public | ClientKind::Web if new.scopes.is_empty() => SIGN_IN_SCOPES.map(str::to_owned).to_vec(),
        _ => new.scopes,
    };
    Ok(Client {
        id,
        kind: new.kind,
        app,
        scopes: SpaceSeparated::parse(scopes)?,
        audiences: SpaceSeparated::parse(audiences)?,
        jwks: new.jwks,
        secret,
        former_secret: None,
        created_at,
        disabled_at: None,
        dynamic: None,
    })
}

/// Checks the URIs of an app.
fn check_uris(kind: ClientKind, app: &AppSettings) -> Result<(), ClientError> {
    for uri in app.redirect_uris.iter().chain(&app.post_logout_redirect_uris) {
        check_redirect_uri(kind, uri).map_err(|error| ClientError::RedirectUri(uri.clone(), error))?;
    }
    for (member, uri) in [
        ("initiate_login_uri", &app.initiate_login_uri),
        ("client_uri", &app.client_uri),
        ("logo_uri", &app.logo_uri),
        ("policy_uri", &app.policy_uri),
        ("tos_uri", &app.tos_uri),
    ] {
        if let Some(uri) = uri {
            check_link_uri(uri).map_err(|error| ClientError::Link(member, uri.clone(), error))?;
        }
    }
    Ok(())
}

/// Checks the settings of an app against its kind, and completes them.
fn complete_app(new: &NewClient) -> Result<AppSettings, ClientError> {
    let mut app = new.app.clone();
    check_uris(new.kind, &app)?;
    if app.grant_types.is_empty() {
        app.grant_types = GrantType::of_kind(new.kind);
    }
    let signs_in = app.grant_types.contains(&GrantType::AuthorizationCode);
    let has_credentials = new.jwks.is_some()
        || app.grant_types.contains(&GrantType::ClientCredentials)
        || app.auth_method.is_some_and(|method| method != ClientAuthMethod::None);
    let refuse = |why| Err(ClientError::Contradiction(why));
    match (new.kind, app.auth_method) {
        (ClientKind::Service, _) if signs_in || !app.redirect_uris.is_empty() || app.initiate_login_uri.is_some() => {
            return refuse("a service signs nobody in: an app is of the kind web or public");
        }
        (ClientKind::Public, _) if has_credentials => {
            return refuse("a public client has no credentials: an app with credentials is of the kind web");
        }
        (ClientKind::Web | ClientKind::Service, Some(ClientAuthMethod::None)) => {
            return refuse("a client of this kind must authenticate: an app without a secret is of the kind public");
        }
        (ClientKind::Public | ClientKind::Service, _) if app.without_pkce => {
            return refuse("only an app that authenticates may leave PKCE out: it is of the kind web");
        }
        (_, Some(ClientAuthMethod::PrivateKeyJwt)) if new.jwks.is_none() => {
            return refuse("private_key_jwt requires a public key or a JWK set");
        }
        _ => {}
    }
    if signs_in && app.redirect_uris.is_empty() {
        return refuse("an app needs a redirect URI");
    }
    Ok(app)
}

/// All clients that an operator has registered, sorted by name.
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

/// Disables a client; nodes apply this within seconds. [`enable`] undoes it. A dynamic client, which no operator has
/// registered, is named by its `client_id` or its reference. It is unknown until an account has allowed it.
///
/// # Errors
/// [`ClientError::Unknown`], [`ClientError::Service`]
pub async fn disable(clock: &Clock, sql: &Sql, name: &str) -> Result<(), ClientError> {
    if let Some(id) = dynamic_client_id(name) {
        if !sql.disable_dynamic_client(&id, clock.now()).await? {
            return Err(ClientError::Unknown);
        }
        tracing::info!(client = %id, "dynamic client disabled: within seconds, no node accepts it");
        return Ok(());
    }
    let id = parse_name(name)?;
    if !sql.disable_client(&id, clock.now()).await? {
        return Err(ClientError::Unknown);
    }
    tracing::info!(client = %id, "client disabled: within seconds, no node accepts it");
    Ok(())
}

/// Enables a disabled client, with its former secrets; nodes apply this within seconds.
///
/// # Errors
/// [`ClientError::Unknown`], [`ClientError::Service`]
pub async fn enable(clock: &Clock, sql: &Sql, name: &str) -> Result<(), ClientError> {
    if let Some(id) = dynamic_client_id(name) {
        if !sql.enable_dynamic_client(&id, clock.now()).await? {
            return Err(ClientError::Unknown);
        }
        tracing::info!(client = %id, "dynamic client enabled: within seconds, all nodes accept it");
        return Ok(());
    }
    let id = parse_name(name)?;
    if !sql.enable_client(&id, clock.now()).await? {
        return Err(ClientError::Unknown);
    }
    tracing::info!(client = %id, "client enabled: within seconds, all nodes accept it");
    Ok(())
}

/// Deletes a client that an operator has registered; nodes apply this within seconds. A new client can have its name.
///
/// # Errors
/// [`ClientError::Unknown`], [`ClientError::Service`]
pub async fn delete(clock: &Clock, sql: &Sql, name: &str) -> Result<(), ClientError> {
    let id = parse_name(name)?;
    if !sql.delete_client(&id, clock.now()).await? {
        return Err(ClientError::Unknown);
    }
    tracing::info!(client = %id, "client deleted: within seconds, no node accepts it");
    Ok(())
}

/// Rotates the secret of a client. The current secret stays accepted for `grace`; the one before it is dropped at once.
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
    let id = parse_name(name)?;
    let secret = ClientSecret::generate(entropy);
    let now = clock.now();
    let former_expires_at = now + grace;
    if !sql.rotate_client_secret(&id, &secret.hash(), former_expires_at, now).await? {
        return Err(ClientError::Unknown);
    }
    tracing::info!(client = %id, "client secret rotated; the former secret stays valid until its grace period ends");
    Ok((id, secret))
}

/// Dynamic clients, which an account has allowed and no operator has registered, sorted by `client_id`. At most [`MAX_LISTED`].
///
/// # Errors
/// [`ServiceError`]
pub async fn list_dynamic(sql: &Sql) -> Result<Vec<StoredDynamicClient>, ServiceError> {
    Ok(sql.dynamic_clients(MAX_LISTED).await?)
}

/// The id of the dynamic client that is named by its `client_id` or its reference; `None` for another name.
fn dynamic_client_id(name: &str) -> Option<ClientId> {
    stored_client_id(name).filter(|id| DynamicClient::is_reference(id.as_str()))
}

/// Parses the name of a client. No client exists under a malformed name.
fn parse_name(name: &str) -> Result<ClientId, ClientError> {
    ClientId::parse(name).map_err(|_| ClientError::Unknown)
}
