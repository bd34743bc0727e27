//! Compares a declared set-up (clients, and accounts with their roles) with what the service has, and applies the differences. Clients and
//! accounts that are not declared stay as they are.

use crate::{
    config::TokenSettings,
    domain::{
        account::{Account, Email, Roles, Username},
        app_client::{AppSettings, ClientAuthMethod, ClientKind},
        client::{Client, ClientId, ClientSecretHash, SpaceSeparated},
        clock::Timestamp,
    },
    service::{
        accounts::{self, ChangeAccountError},
        clients::{self, ClientError, NewClient},
        error::{ServiceError, from_store_errors},
    },
    state::AppState,
};

/// A declared client. All settings are applied, empty lists included. The secret and the enabled state are applied only if they are
/// declared.
#[derive(Clone, Debug)]
pub struct ClientSpec {
    /// The `client_id`.
    pub id: ClientId,
    /// The kind: an app with or without a secret, or a service.
    pub kind: ClientKind,
    /// How the client signs users in, completed with the defaults of its kind.
    pub app: AppSettings,
    /// The scopes.
    pub scopes: SpaceSeparated,
    /// The audiences.
    pub audiences: SpaceSeparated,
    /// The public keys, in the form that [`crate::crypto::client_keys::to_jwks`] returns.
    pub jwks: Option<String>,
    /// Whether the client is disabled; `None` if that is not declared.
    pub disabled: Option<bool>,
    /// The hash of the secret; `None` if no secret is declared.
    pub secret: Option<ClientSecretHash>,
}

impl ClientSpec {
    /// Checks a declaration, and completes it with the defaults of a new client. The caller sets `disabled` and `secret`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn parse(settings: &TokenSettings, declared: NewClient) -> Result<Self, ClientError> {
        // `complete` returns a client with a secret and a time of creation, which are not used here.
        let any_secret = ClientSecretHash::new([0; 32]);
        let any_time = Timestamp::from_millis(0);
        let client = clients::complete(settings, declared, any_secret, any_time)?;
        Ok(Self {
            id: client.id,
            kind: client.kind,
            app: client.app,
            scopes: client.scopes,
            audiences: client.audiences,
            jwks: client.jwks,
            disabled: None,
            secret: None,
        })
    }
}

/// A declared account.
#[derive(Clone, Debug)]
pub struct AccountSpec {
    /// The e-mail address, which identifies the account.
    pub email: Email,
    /// The username of the account if it is created. An existing account keeps its username.
    pub username: Option<Username>,
    /// The roles; `None` if they are not declared.
    pub roles: Option<Roles>,
}

/// A difference between the declared set-up and the service.
#[derive(Clone, Debug)]
pub enum Change {
    /// The client does not exist.
    AddClient(ClientSpec),
    /// The scopes, audiences, public keys or app settings of the client differ. Carries a text for each difference.
    UpdateClient(ClientSpec, Vec<String>),
    /// The client's secret is not the declared one.
    SetSecret(ClientId, ClientSecretHash),
    /// The client is enabled, and declared as disabled.
    DisableClient(ClientId),
    /// The client is disabled, and declared as enabled.
    EnableClient(ClientId),
    /// The account does not exist.
    AddAccount(AccountSpec),
    /// The account has other roles than declared. Carries the account and the declared roles.
    SetRoles(Box<Account>, Roles),
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// A client was not changed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An account was not changed.
    #[error(transparent)]
    Account(#[from] ChangeAccountError),
    /// A client is of another kind than declared. Carries the client, its kind and the declared kind.
    #[error("client {0} is of the kind {existing} and declared as {declared}: delete it first, with `latchkey client delete {0}`",
        existing = .1.as_str(), declared = .2.as_str())]
    Kind(ClientId, ClientKind, ClientKind),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(SetUpError);

/// Returns the changes that make the service match the declared set-up, in the order in which to apply them.
///
/// # Errors
/// [`SetUpError::Kind`], [`SetUpError::Service`]
pub async fn plan(
    state: &AppState,
    declared_clients: &[ClientSpec],
    declared_accounts: &[AccountSpec],
) -> Result<Vec<Change>, SetUpError> {
    let existing = clients::list(&state.sql).await?;
    let mut changes = Vec::new();
    for declared in declared_clients {
        let Some(client) = existing.iter().find(|client| client.id == declared.id) else {
            changes.push(Change::AddClient(declared.clone()));
            // A new client is enabled.
            if declared.disabled == Some(true) {
                changes.push(Change::DisableClient(declared.id.clone()));
            }
            continue;
        };
        if client.kind != declared.kind {
            return Err(SetUpError::Kind(declared.id.clone(), client.kind, declared.kind));
        }
        let differences = client_differences(client, declared);
        if !differences.is_empty() {
            changes.push(Change::UpdateClient(declared.clone(), differences));
        }
        // Compares with the current secret only: declaring the former secret again makes it the current one.
        if let Some(secret) = &declared.secret
            && client.secret != *secret
        {
            changes.push(Change::SetSecret(declared.id.clone(), secret.clone()));
        }
        match (declared.disabled, client.is_enabled()) {
            (Some(true), true) => changes.push(Change::DisableClient(declared.id.clone())),
            (Some(false), false) => changes.push(Change::EnableClient(declared.id.clone())),
            _ => {}
        }
    }
    for declared in declared_accounts {
        let name = format!("email:{}", declared.email.as_str());
        match accounts::find(&state.sql, &name).await {
            Err(ChangeAccountError::NotFound) => changes.push(Change::AddAccount(declared.clone())),
            Err(error) => return Err(error.into()),
            Ok(account) => {
                if let Some(roles) = &declared.roles
                    && *roles != account.roles
                {
                    changes.push(Change::SetRoles(Box::new(account), roles.clone()));
                }
            }
        }
    }
    Ok(changes)
}

/// Describes how a client differs from its declaration.
fn client_differences(client: &Client, declared: &ClientSpec) -> Vec<String> {
    let items_or_none = |items: &SpaceSeparated| if items.is_empty() { "none".to_owned() } else { items.to_string() };
    let mut found = Vec::new();
    for (name, before, after) in
        [("scopes", &client.scopes, &declared.scopes), ("audiences", &client.audiences, &declared.audiences)]
    {
        if before != after {
            found.push(format!("{name} {} → {}", items_or_none(before), items_or_none(after)));
        }
    }
    match (&client.jwks, &declared.jwks) {
        (before, after) if before == after => {}
        (None, Some(_)) => found.push("public keys added".to_owned()),
        (Some(_), None) => found.push("public keys removed".to_owned()),
        _ => found.push("public keys replaced".to_owned()),
    }
    found.extend(app_differences(&client.app, &declared.app));
    found
}

/// Describes how the app settings of a client differ from the declared ones.
fn app_differences(before: &AppSettings, after: &AppSettings) -> Vec<String> {
    let text_or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let items_or_none = |items: &[String]| if items.is_empty() { "none".to_owned() } else { items.join(" ") };
    let grants = |app: &AppSettings| app.grant_types.iter().map(|grant| grant.as_str().to_owned()).collect::<Vec<_>>();
    let method = |app: &AppSettings| app.auth_method.map_or("any", ClientAuthMethod::as_str).to_owned();
    let yes_no = |yes: bool| String::from(if yes { "yes" } else { "no" });
    let named_values = |app: &AppSettings| {
        [
            ("display name", text_or_none(&app.name)),
            ("redirect URIs", items_or_none(&app.redirect_uris)),
            ("post-logout redirect URIs", items_or_none(&app.post_logout_redirect_uris)),
            ("grant types", items_or_none(&grants(app))),
            ("authentication method", method(app)),
            ("consent", yes_no(app.asks_consent)),
            ("without PKCE", yes_no(app.without_pkce)),
            ("logo", text_or_none(&app.logo_uri)),
            ("home page", text_or_none(&app.client_uri)),
            ("privacy policy", text_or_none(&app.policy_uri)),
            ("terms of service", text_or_none(&app.tos_uri)),
            ("opened at", text_or_none(&app.initiate_login_uri)),
        ]
    };
    let mut found = Vec::new();
    for ((name, before), (_, after)) in named_values(before).into_iter().zip(named_values(after)) {
        if before != after {
            found.push(format!("{name} {before} → {after}"));
        }
    }
    found
}

/// Creates a declared client whose secret has this hash.
///
/// # Errors
/// [`ClientError`]
pub async fn add_client(state: &AppState, declared: &ClientSpec, secret: &ClientSecretHash) -> Result<(), ClientError> {
    let new = NewClient {
        name: declared.id.to_string(), // the `client_id`, not the display name
        scopes: declared.scopes.items().to_vec(),
        audiences: declared.audiences.items().to_vec(),
        jwks: declared.jwks.clone(),
        kind: declared.kind,
        app: declared.app.clone(),
    };
    clients::add_with_secret(&state.config.token, &state.clock, &state.sql, new, secret.clone()).await.map(drop)
}

/// Applies a change. Ignores [`Change::AddClient`] and [`Change::AddAccount`]: the caller creates these clients and accounts, because they
/// need credentials that are not declared.
///
/// # Errors
/// [`SetUpError`]
pub async fn apply(state: &AppState, change: &Change) -> Result<(), SetUpError> {
    let now = state.clock.now();
    match change {
        Change::AddClient(_) | Change::AddAccount(_) => {}
        Change::UpdateClient(declared, _) => {
            let ClientSpec { id, scopes, audiences, jwks, app, .. } = declared;
            state.sql.update_client(id, scopes, audiences, jwks.as_deref(), app, now).await?;
        }
        Change::SetSecret(id, secret) => {
            let former_valid_until = now + clients::DEFAULT_GRACE;
            state.sql.rotate_client_secret(id, secret, former_valid_until, now).await?;
        }
        Change::DisableClient(id) => clients::disable(&state.clock, &state.sql, id.as_str()).await?,
        Change::EnableClient(id) => clients::enable(&state.clock, &state.sql, id.as_str()).await?,
        Change::SetRoles(account, roles) => {
            let removed = roles_except(&account.roles, roles);
            accounts::change_roles(state, account.id, roles, &removed).await?;
        }
    }
    Ok(())
}

/// The roles among `roles` that are not in `kept`.
fn roles_except(roles: &Roles, kept: &Roles) -> Roles {
    // A subset of valid roles is valid.
    Roles::parse(roles.names().iter().filter(|role| !kept.contains(role))).unwrap_or_default()
}
