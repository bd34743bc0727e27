//! Registers an account.

use std::net::IpAddr;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        account::{Account, Email, NewAccount, Roles, Username},
        audit::{Actor, AuditEvent, Entry},
        secret::SecretText,
    },
    password::{PasswordError, WeakPassword},
    service::{
        error::{ServiceError, from_store_errors},
        limits,
    },
    state::AppState,
    store::sql::InsertError,
};

/// The input of a registration.
#[derive(Clone, Debug)]
pub struct Register {
    /// Unique without regard to case.
    pub email: Email,
    /// Unique without regard to case.
    pub username: Option<Username>,
    /// The account's password.
    pub password: SecretText,
    /// The account's roles, which only an operator may set.
    pub roles: Roles,
}

/// Why a registration was refused.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Registration is closed and the caller is not an admin.
    #[error("registration is closed; only an admin may create accounts")]
    Closed,
    /// Another account has the e-mail address.
    #[error("an account with this e-mail address exists")]
    EmailTaken,
    /// Another account has the username.
    #[error("an account with this username exists")]
    UsernameTaken,
    /// The password does not satisfy the policy.
    #[error(transparent)]
    WeakPassword(WeakPassword),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(RegisterError);

/// Checks whether the caller, if any, may register accounts. Where registration is closed, the caller's roles are read from
/// the database: those in the access token may have been removed since.
///
/// # Errors
/// [`RegisterError::Closed`], [`RegisterError::Service`]
pub async fn may_register(state: &AppState, caller: Option<&AccessClaims>) -> Result<(), RegisterError> {
    if state.config.registration.open {
        return Ok(());
    }
    let caller = caller.ok_or(RegisterError::Closed)?;
    let account = state.sql.account(caller.sub).await?;
    let is_admin = account.is_some_and(|it| it.disabled_at.is_none() && it.roles.contains(Roles::ADMIN));
    if is_admin { Ok(()) } else { Err(RegisterError::Closed) }
}

/// Registers an account for a client at `ip`, within the rate limits. `caller` is the admin who creates it, or the account
/// of a signed-in user where registration is open.
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
    create(state, input, Some(caller.map_or(Actor::Anyone, |caller| Actor::Admin(caller.sub))), ip).await
}

/// Registers an account for an operator, without rate limits.
///
/// # Errors
/// [`RegisterError`]
pub async fn register(state: &AppState, input: Register) -> Result<Account, RegisterError> {
    create(state, input, None, None).await
}

async fn create(
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
    tracing::info!(account = %account.id, "account created");
    Ok(account)
}

/// The names of an account that its password must not contain.
pub(super) fn password_context(email: &Email, username: Option<&Username>) -> Vec<String> {
    let mut context = vec![email.as_str().to_owned()];
    context.extend(email.as_str().split('@').map(str::to_owned));
    context.extend(username.map(|name| name.as_str().to_owned()));
    context
}
