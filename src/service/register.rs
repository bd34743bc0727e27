//! Registers an account.

use std::net::IpAddr;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        account::{Account, Email, NewAccount, Roles, Username},
        audit::{Actor, AuditEvent, Entry},
    },
    password::{NewPassword, PasswordError, WeakPassword},
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
    pub password: NewPassword,
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
    /// The username is reserved for accounts that an admin or an operator creates.
    #[error("this username is reserved")]
    UsernameReserved,
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

/// Whether the caller is an admin now. The caller's roles are read from the database: those in the access token may have
/// been removed since.
async fn is_admin(state: &AppState, caller: Option<&AccessClaims>) -> Result<bool, RegisterError> {
    let Some(caller) = caller else { return Ok(false) };
    let account = state.sql.account(caller.sub).await?;
    Ok(account.is_some_and(|it| it.disabled_at.is_none() && it.roles.contains(Roles::ADMIN)))
}

/// Checks whether the caller, if any, may register accounts.
///
/// # Errors
/// [`RegisterError::Closed`], [`RegisterError::Service`]
pub async fn may_register(state: &AppState, caller: Option<&AccessClaims>) -> Result<(), RegisterError> {
    if state.config.registration.open || is_admin(state, caller).await? { Ok(()) } else { Err(RegisterError::Closed) }
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
    let reserved = &state.config.registration.reserved_usernames;
    let is_reserved = input.username.as_ref().is_some_and(|name| reserved.contains(&name.key()));
    if is_reserved && !is_admin(state, caller).await? {
        return Err(RegisterError::UsernameReserved);
    }
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
        email_verified: false,
        username: input.username,
        password_hash: Some(password_hash),
        roles: input.roles,
        disabled_at: None,
        created_at: now,
        updated_at: now,
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
