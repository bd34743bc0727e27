//! Someone registers: an account is made.

use std::net::IpAddr;

use crate::{
    app::App,
    crypto::{
        access_token::AccessClaims,
        password::{PasswordError, WeakPassword},
    },
    domain::{
        account::{Account, Email, NewAccount, Roles, Username},
        audit::{Actor, AuditEvent, Entry},
        secret::SecretText,
    },
    flow::{error::Failure, limits},
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
    /// See [`Failure`].
    #[error(transparent)]
    Failure(#[from] Failure),
}

/// Whether the caller, if there is one, may register accounts.
///
/// # Errors
/// [`RegisterError::Closed`]
pub fn may_register(app: &App, caller: Option<&AccessClaims>) -> Result<(), RegisterError> {
    let admin = caller.is_some_and(|claims| claims.roles.iter().any(|role| role == Roles::ADMIN));
    if app.config.registration.open || admin { Ok(()) } else { Err(RegisterError::Closed) }
}

/// Makes an account for somebody at this address, unless they or others ask for too many.
///
/// # Errors
/// [`RegisterError`]
pub async fn register_from(
    app: &App,
    input: Register,
    caller: Option<&AccessClaims>,
    ip: Option<IpAddr>,
) -> Result<Account, RegisterError> {
    let _place = app.passwords.reserve().map_err(Failure::from)?;
    limits::registration(app, &input.email, ip).await?;
    make(app, input, Some(caller.map_or(Actor::Anyone, |caller| Actor::Admin(caller.sub))), ip).await
}

/// Makes an account.
///
/// # Errors
/// [`RegisterError`]
pub async fn register(app: &App, input: Register) -> Result<Account, RegisterError> {
    make(app, input, None, None).await
}

async fn make(app: &App, input: Register, actor: Option<Actor>, ip: Option<IpAddr>) -> Result<Account, RegisterError> {
    let context = password_context(&input.email, input.username.as_ref());
    let password_hash = app.passwords.hash_new(input.password, context).await.map_err(|error| match error {
        PasswordError::Weak(weak) => RegisterError::WeakPassword(weak),
        other => RegisterError::Failure(other.into()),
    })?;
    let now = app.clock.now();
    let new = NewAccount {
        id: app.entropy.account_id(now),
        email: input.email,
        username: input.username,
        password_hash,
        roles: input.roles,
        created_at: now,
    };
    let mut entry = Entry::new(now, AuditEvent::AccountAdded).account(new.id).from(ip);
    entry.what.actor = actor;
    let account = app.sql.insert_account_as(&new, &entry).await.map_err(|error| match error {
        InsertError::EmailTaken => RegisterError::EmailTaken,
        InsertError::UsernameTaken => RegisterError::UsernameTaken,
        InsertError::Sql(error) => RegisterError::Failure(error.into()),
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
