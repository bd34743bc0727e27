//! Registers an account.

use std::{net::IpAddr, sync::Arc};

use crate::{
    config::Verification,
    crypto::access_token::AccessClaims,
    domain::{
        account::{Account, ClaimsVersion, Email, Epoch, Identifier, NewAccount, Roles, Username},
        audit::{Actor, AuditEntry, AuditEvent},
        factor::{Factors, FactorsVersion},
        one_time_token::TokenPurpose,
    },
    password::{NewPassword, PasswordError, WeakPassword},
    service::{
        account_mail, background,
        error::{ServiceError, from_store_errors},
        limits,
        request_origin::RequestOrigin,
        verify_email,
    },
    state::AppState,
    store::sql::InsertError,
};

/// The input of a registration.
#[derive(Clone, Debug)]
pub struct Register {
    /// The e-mail address, unique without regard to case.
    pub email: Email,
    /// The username, unique without regard to case.
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
    /// With `registration.conceal`, a username can be chosen only after the first sign-in: a taken username would reveal whether an earlier
    /// registration created an account.
    #[error("a username can be chosen after the first sign-in")]
    UsernameNotYet,
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
///
/// # Errors
/// [`ServiceError`]
pub async fn is_admin(state: &AppState, caller: &AccessClaims) -> Result<bool, ServiceError> {
    let account = state.sql.account(caller.sub).await?;
    Ok(account.is_some_and(|account| !account.is_closed(state.clock.now()) && account.roles.contains(Roles::ADMIN)))
}

async fn is_admin_call(state: &AppState, caller: Option<&AccessClaims>) -> Result<bool, ServiceError> {
    let Some(caller) = caller else { return Ok(false) }; // a stranger
    is_admin(state, caller).await
}

/// Checks that registration is open to everyone.
///
/// # Errors
/// [`RegisterError::Closed`]
pub fn check_registration_is_open(state: &AppState) -> Result<(), RegisterError> {
    if state.config.registration.open { Ok(()) } else { Err(RegisterError::Closed) }
}

/// Checks that the caller may register accounts: registration is open, or the caller is an admin.
///
/// # Errors
/// [`RegisterError::Closed`], [`RegisterError::Service`]
pub async fn check_may_register(state: &AppState, caller: Option<&AccessClaims>) -> Result<(), RegisterError> {
    if state.config.registration.open || is_admin_call(state, caller).await? {
        Ok(())
    } else {
        Err(RegisterError::Closed)
    }
}

/// Registers an account at the request of a client, within the rate limits. `caller` is the admin who creates the account or, if
/// registration is open, any signed-in user. `None` stands for a stranger.
///
/// # Errors
/// [`RegisterError`]
pub async fn register_for_client(
    state: &Arc<AppState>,
    input: Register,
    caller: Option<&AccessClaims>,
    origin: RequestOrigin,
) -> Result<Account, RegisterError> {
    let ip = origin.ip;
    let settings = &state.config.registration;
    // Refuses early if the hashing queue is full, before any further work in Redis and in the database.
    let _reservation = state.passwords.reserve().map_err(ServiceError::from)?;
    let by_admin = is_admin_call(state, caller).await?;
    // I12: anyone but an admin must not learn from the response whether an account has the address.
    let conceals_accounts = settings.conceal && !by_admin;
    if conceals_accounts && input.username.is_some() {
        return Err(RegisterError::UsernameNotYet);
    }
    let is_reserved =
        input.username.as_ref().is_some_and(|username| settings.reserved_usernames.contains(&username.key()));
    if is_reserved && !by_admin {
        return Err(RegisterError::UsernameReserved);
    }
    limits::check_registration(state, &input.email, ip).await?;
    let admin = caller.filter(|_| by_admin);
    let actor = admin.map_or(Actor::Anyone, |admin| Actor::Admin(admin.sub));
    let email = input.email.clone();
    match create(state, input, Some(actor), ip).await {
        Ok(account) => {
            if settings.verification != Verification::Off {
                send_after_response(state, account.email.clone(), origin);
            }
            Ok(account)
        }
        Err((RegisterError::EmailTaken, Some(new))) if conceals_accounts => {
            send_after_response(state, email, origin);
            Ok(as_if_registered(new))
        }
        Err((error, _)) => Err(error),
    }
}

/// Sends a mail to a registered address after the response: a link that verifies the address. If an account has verified the address
/// before, its owner gets a notice of the registration instead.
fn send_after_response(state: &Arc<AppState>, email: Email, origin: RequestOrigin) {
    background::run(state, "registration_mail", move |state| {
        // Cloned for each attempt: the job is retried while a store does not answer.
        let (email, origin) = (email.clone(), origin.clone());
        async move {
            let identifier = Identifier::from(&email);
            let Some(account) = state.sql.find_account(&identifier).await? else { return Ok(()) };
            // no mails about an account that nobody can use any more
            if account.is_closed(state.clock.now()) {
                return Ok(());
            }
            // An account owns an address once it has verified it.
            if !account.owns(&identifier) {
                return verify_email::send(&state, &account, &origin).await;
            }
            let Some(to) = state.sql.named_email(&account, &identifier).await? else { return Ok(()) };
            if limits::admit_mail(&state, TokenPurpose::VerifyEmail, &account, &to).await? {
                account_mail::send(&state, &account, &to, &origin, account_mail::address_taken(&state, &origin))
                    .await?;
            }
            Ok(())
        }
    });
}

/// The account in the response to a registration with an address that is taken. With `registration.conceal`, the response looks like that
/// of a successful registration.
fn as_if_registered(new: NewAccount) -> Account {
    Account {
        id: new.id,
        email: new.email,
        email_verified: false,
        username: new.username,
        password_hash: None,
        roles: new.roles,
        disabled_at: None,
        deletion_at: None,
        created_at: new.created_at,
        updated_at: new.updated_at,
        password_changed_at: new.created_at,
        epoch: Epoch::default(),
        claims_version: ClaimsVersion::default(),
        factors: Factors::NONE,
        factors_version: FactorsVersion::default(),
        factor_required_at: None,
    }
}

/// Registers an account for an operator, without rate limits.
///
/// # Errors
/// [`RegisterError`]
pub async fn register(state: &AppState, input: Register) -> Result<Account, RegisterError> {
    // Without an actor, the entry in the audit log names the operator as the actor.
    let (actor, ip) = (None, None);
    create(state, input, actor, ip).await.map_err(|(error, _)| error)
}

/// Creates an account. If the database refuses the account, the error comes with the account that was not created. `actor` and `ip` are
/// for the audit log.
async fn create(
    state: &AppState,
    input: Register,
    actor: Option<Actor>,
    ip: Option<IpAddr>,
) -> Result<Account, (RegisterError, Option<NewAccount>)> {
    let context = password_context(&input.email, input.username.as_ref());
    let hashed = state.passwords.hash_new(input.password, context).await.map_err(|error| match error {
        PasswordError::Weak(weak) => RegisterError::WeakPassword(weak),
        other => RegisterError::Service(other.into()),
    });
    let password_hash = hashed.map_err(|error| (error, None))?;
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
    let mut entry = AuditEntry::new(now, AuditEvent::AccountAdded).account(new.id).address(ip);
    entry.facts.actor = actor;
    let inserted = state.sql.insert_account_with_entry(&new, &entry).await.map_err(|error| match error {
        InsertError::EmailTaken => RegisterError::EmailTaken,
        InsertError::UsernameTaken => RegisterError::UsernameTaken,
        InsertError::Sql(error) => RegisterError::Service(error.into()),
    });
    let account = inserted.map_err(|error| (error, Some(new)))?;
    tracing::info!(account = %account.id, "account created");
    Ok(account)
}

/// The words of an account that its password must not contain: the address, the parts before and after its `@`, and the username.
pub(super) fn password_context(email: &Email, username: Option<&Username>) -> Vec<String> {
    let mut context = vec![email.as_str().to_owned()];
    context.extend(email.as_str().split('@').map(str::to_owned));
    context.extend(username.map(|name| name.as_str().to_owned()));
    context
}
