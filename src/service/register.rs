//! Someone registers: an account is made.

use std::net::IpAddr;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        account::{Account, Email, NewAccount, Roles, Username},
        audit::{Actor, AuditEvent, Entry},
        secret::SecretText,
    },
    password::{PasswordError, WeakPassword},
    service::{error::ServiceError, limits},
    state::AppState,
    store::sql::InsertError,
};

/// What is needed to register.
#[derive(Clone, Debug)]
pub struct Register {
    /// Unique without regard to case.
    pub email: Email,
    /// Unique without regard to case.
    pub username: Option<Username>,
    /// What the account signs in with from now on.
    pub password: SecretText,
    /// Only an operator may give roles.
    pub roles: Roles,
}

/// Why a registration was refused.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Registration is closed and the caller isn't an admin.
    #[error("registration is closed; only an admin may make accounts")]
    Closed,
    /// Somebody has this e-mail address.
    #[error("an account with this e-mail address exists")]
    EmailTaken,
    /// Somebody has this username.
    #[error("an account with this username exists")]
    UsernameTaken,
    /// The password can be guessed.
    #[error(transparent)]
    WeakPassword(WeakPassword),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Whether the caller, if there is one, may register accounts.
///
/// # Errors
/// [`RegisterError::Closed`]
pub fn may_register(state: &AppState, caller: Option<&AccessClaims>) -> Result<(), RegisterError> {
    let admin = caller.is_some_and(|claims| claims.roles.iter().any(|role| role == Roles::ADMIN));
    if state.config.registration.open || admin { Ok(()) } else { Err(RegisterError::Closed) }
}

/// Makes an account for somebody at this address, unless they or others ask for too many.
///
/// # Errors
/// [`RegisterError`]
pub async fn register_from(
    state: &AppState,
    input: Register,
    caller: Option<&AccessClaims>,
    ip: Option<IpAddr>,
) -> Result<Account, RegisterError> {
    let _place = state.passwords.reserve().map_err(ServiceError::from)?;
    limits::registration(state, &input.email, ip).await?;
    make(state, input, Some(caller.map_or(Actor::Anyone, |caller| Actor::Admin(caller.sub))), ip).await
}

/// Makes an account.
///
/// # Errors
/// [`RegisterError`]
pub async fn register(state: &AppState, input: Register) -> Result<Account, RegisterError> {
    make(state, input, None, None).await
}

async fn make(
    state: &AppState,
    input: Register,
    actor: Option<Actor>,
    ip: Option<IpAddr>,
) -> Result<Account, RegisterError> {
    let context = password_context(&input.email, input.username.as_ref());
    let password_hash = state.passwords.hash_new(input.password, context).await.map_err(|error| match error {
        PasswordError::Weak(weak) => RegisterError::WeakPassword(weak),
        other => RegisterError::Service(other.into()),
    })?;
    let now = state.clock.now();
    let new = NewAccount {
        id: state.entropy.account_id(now),
        email: input.email,
        username: input.username,
        password_hash,
        roles: input.roles,
        created_at: now,
    };
    let mut entry = Entry::new(now, AuditEvent::AccountAdded).account(new.id).from(ip);
    entry.what.actor = actor;
    let account = state.sql.insert_account_as(&new, &entry).await.map_err(|error| match error {
        InsertError::EmailTaken => RegisterError::EmailTaken,
        InsertError::UsernameTaken => RegisterError::UsernameTaken,
        InsertError::Sql(error) => RegisterError::Service(error.into()),
    })?;
    tracing::info!(account = %account.id, "an account was made");
    Ok(account)
}

/// What an account's password must not be made of.
pub(super) fn password_context(email: &Email, username: Option<&Username>) -> Vec<String> {
    let mut context = vec![email.as_str().to_owned()];
    context.extend(email.as_str().split('@').map(str::to_owned));
    context.extend(username.map(|name| name.as_str().to_owned()));
    context
}
