//! A declared set-up: service clients, and accounts with their roles. Compares it with the service, and makes the differences
//! disappear. What is not declared stays as it is.

use crate::{
    config::TokenSettings,
    domain::{
        account::{Account, Email, Roles, Username},
        client::{Client, ClientId, ClientIdError, ClientSecretHash, InvalidItem, SpaceSeparated},
    },
    service::{
        accounts::{self, ChangeAccountError},
        clients::{self, ClientError, NewClient},
        error::{ServiceError, from_store_errors},
    },
    state::AppState,
};

/// A declared service client. Everything but the secret and the state is as declared, also where a list is empty.
#[derive(Clone, Debug)]
pub struct WantedClient {
    /// The `client_id`.
    pub id: ClientId,
    /// The scopes.
    pub scopes: SpaceSeparated,
    /// The audiences.
    pub audiences: SpaceSeparated,
    /// The public keys, as [`crate::crypto::client_keys::to_jwks`] gives them.
    pub jwks: Option<String>,
    /// Whether it is disabled; none if that is not declared.
    pub disabled: Option<bool>,
    /// The hash of its secret; none if that is not declared.
    pub secret: Option<ClientSecretHash>,
}

impl WantedClient {
    /// Checks the names. `token.audience` is the audience if there is none.
    ///
    /// # Errors
    /// [`ClientError::Name`], [`ClientError::Reserved`], [`ClientError::Word`]
    pub fn parse(
        settings: &TokenSettings,
        id: &str,
        scopes: &[String],
        audiences: &[String],
    ) -> Result<Self, ClientError> {
        let id = ClientId::parse(id).map_err(|error: ClientIdError| ClientError::Name(error))?;
        if id.as_str() == settings.client_id {
            return Err(ClientError::Reserved);
        }
        let words =
            |words: &[String]| SpaceSeparated::parse(words).map_err(|error: InvalidItem| ClientError::Word(error));
        let audiences = if audiences.is_empty() { vec![settings.audience.clone()] } else { audiences.to_vec() };
        Ok(Self { id, scopes: words(scopes)?, audiences: words(&audiences)?, jwks: None, disabled: None, secret: None })
    }
}

/// A declared account.
#[derive(Clone, Debug)]
pub struct WantedAccount {
    /// The e-mail address, which identifies the account.
    pub email: Email,
    /// The username of a new account.
    pub username: Option<Username>,
    /// The roles; none if they are not declared.
    pub roles: Option<Roles>,
}

/// A difference between what is declared and the service.
#[derive(Clone, Debug)]
pub enum Change {
    /// The client does not exist.
    AddClient(WantedClient),
    /// The scopes, audiences or public keys of the client differ; the texts say how.
    UpdateClient(WantedClient, Vec<String>),
    /// The client has another secret.
    SetSecret(ClientId, ClientSecretHash),
    /// The client is enabled.
    DisableClient(ClientId),
    /// The client is disabled.
    EnableClient(ClientId),
    /// The account does not exist.
    AddAccount(WantedAccount),
    /// The account has other roles: its own, then the declared ones.
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
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(SetUpError);

/// The differences, in the order in which they are made.
///
/// # Errors
/// [`SetUpError::Service`]
pub async fn plan(
    state: &AppState,
    wanted_clients: &[WantedClient],
    wanted_accounts: &[WantedAccount],
) -> Result<Vec<Change>, SetUpError> {
    let existing = clients::list(&state.sql).await?;
    let mut changes = Vec::new();
    for wanted in wanted_clients {
        let Some(client) = existing.iter().find(|client| client.id == wanted.id) else {
            changes.push(Change::AddClient(wanted.clone()));
            if wanted.disabled == Some(true) {
                changes.push(Change::DisableClient(wanted.id.clone()));
            }
            continue;
        };
        let differences = differences(client, wanted);
        if !differences.is_empty() {
            changes.push(Change::UpdateClient(wanted.clone(), differences));
        }
        // The former secret is no match: declaring it again makes it the current one.
        if let Some(secret) = wanted.secret.as_ref().filter(|secret| client.secret != **secret) {
            changes.push(Change::SetSecret(wanted.id.clone(), secret.clone()));
        }
        match (wanted.disabled, client.is_enabled()) {
            (Some(true), true) => changes.push(Change::DisableClient(wanted.id.clone())),
            (Some(false), false) => changes.push(Change::EnableClient(wanted.id.clone())),
            _ => {}
        }
    }
    for wanted in wanted_accounts {
        match accounts::find(&state.sql, &format!("email:{}", wanted.email.as_str())).await {
            Err(ChangeAccountError::NotFound) => changes.push(Change::AddAccount(wanted.clone())),
            Err(error) => return Err(error.into()),
            Ok(account) => {
                if let Some(roles) = wanted.roles.as_ref().filter(|roles| **roles != account.roles) {
                    changes.push(Change::SetRoles(Box::new(account), roles.clone()));
                }
            }
        }
    }
    Ok(changes)
}

fn differences(client: &Client, wanted: &WantedClient) -> Vec<String> {
    let shown = |words: &SpaceSeparated| if words.is_empty() { "none".to_owned() } else { words.to_string() };
    let mut found = Vec::new();
    for (name, before, after) in
        [("scopes", &client.scopes, &wanted.scopes), ("audiences", &client.audiences, &wanted.audiences)]
    {
        if before != after {
            found.push(format!("{name} {} → {}", shown(before), shown(after)));
        }
    }
    match (&client.jwks, &wanted.jwks) {
        (before, after) if before == after => {}
        (None, Some(_)) => found.push("public keys added".to_owned()),
        (Some(_), None) => found.push("public keys removed".to_owned()),
        _ => found.push("other public keys".to_owned()),
    }
    found
}

/// Creates a client with the secret of this hash. Nothing else is accepted as its secret.
///
/// # Errors
/// [`ClientError`]
pub async fn add_client(state: &AppState, wanted: &WantedClient, secret: &ClientSecretHash) -> Result<(), ClientError> {
    let new = NewClient {
        name: wanted.id.to_string(),
        scopes: wanted.scopes.words().to_vec(),
        audiences: wanted.audiences.words().to_vec(),
        jwks: wanted.jwks.clone(),
        ..NewClient::default()
    };
    clients::add_with_secret(&state.config.token, &state.clock, &state.sql, new, secret.clone()).await.map(drop)
}

/// Makes a change other than the creation of a client or an account, which need more than is declared.
///
/// # Errors
/// [`SetUpError`]
pub async fn apply(state: &AppState, change: &Change) -> Result<(), SetUpError> {
    let now = state.clock.now();
    match change {
        Change::AddClient(_) | Change::AddAccount(_) => {}
        Change::UpdateClient(wanted, _) => {
            state.sql.update_client(&wanted.id, &wanted.scopes, &wanted.audiences, wanted.jwks.as_deref(), now).await?;
        }
        Change::SetSecret(id, secret) => {
            state.sql.rotate_client_secret(id, secret, now + clients::GRACE, now).await?;
        }
        Change::DisableClient(id) => clients::disable(&state.clock, &state.sql, id.as_str()).await?,
        Change::EnableClient(id) => clients::enable(&state.clock, &state.sql, id.as_str()).await?,
        Change::SetRoles(account, roles) => {
            accounts::change_roles(state, account.id, roles, &without(&account.roles, roles)).await?;
        }
    }
    Ok(())
}

/// The roles that are not in `kept`.
fn without(roles: &Roles, kept: &Roles) -> Roles {
    // The names are valid, and not more than before.
    Roles::parse(roles.names().iter().filter(|role| !kept.contains(role))).unwrap_or_default()
}
