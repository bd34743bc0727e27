//! Changes to an account by an operator. Each change is one transaction on the locked row, with its entry in the audit log. If sessions
//! end or roles change, Redis is updated before the transaction commits, so that no committed change leaves sessions alive (I5: credential
//! changes end sessions).
//!
//! An operator's change comes from no HTTP request, so its [`RequestOrigin`] is empty.

use crate::{
    domain::{
        account::{Account, Email, Epoch, Identifier, Roles},
        audit::{AuditEntry, AuditEvent},
        clock::Timestamp,
        event::EndReason,
        ids::AccountId,
        mail::{MailData, Template},
        secret::SecretText,
    },
    password::{PasswordError, WeakPassword},
    service::{
        account_mail, additional_claims, change_email,
        error::{ServiceError, from_store_errors},
        limits,
        register::password_context,
        request_origin::RequestOrigin,
    },
    state::AppState,
    store::{
        redis::AccountSessions,
        sql::{AccountChange, SetEmailError, Sql, SqlError},
    },
};

/// Why an account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeAccountError {
    /// No account has this id, e-mail address or username.
    #[error("there is no such account")]
    NotFound,
    /// Another account has the e-mail address.
    #[error("another account has this e-mail address")]
    EmailTaken,
    /// The new password does not satisfy the policy.
    #[error(transparent)]
    WeakPassword(WeakPassword),
    /// The account would have more than [`Roles::MAX`] roles.
    #[error("an account has at most {max} roles", max = Roles::MAX)]
    TooManyRoles,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(ChangeAccountError);

/// Finds an account by its id, e-mail address or username. The prefix `id:`, `email:` or `username:` selects one of the three. Without
/// a prefix, a UUID is looked up as an id first and as a username second.
///
/// # Errors
/// [`ChangeAccountError::NotFound`], [`ChangeAccountError::Service`]
pub async fn find(sql: &Sql, name: &str) -> Result<Account, ChangeAccountError> {
    let (prefix, text) = match name.split_once(':') {
        Some((prefix @ ("id" | "email" | "username"), text)) => (Some(prefix), text.trim()),
        _ => (None, name.trim()),
    };
    if matches!(prefix, Some("id") | None)
        && let Ok(id) = text.parse::<AccountId>()
        && let Some(account) = sql.account(id).await?
    {
        return Ok(account);
    }
    let identifier = match prefix {
        Some("id") => return Err(ChangeAccountError::NotFound),
        Some("email") => Identifier::Email(text.to_lowercase()),
        Some("username") => Identifier::Username(text.to_lowercase()),
        _ => Identifier::parse(text),
    };
    sql.find_account(&identifier).await?.ok_or(ChangeAccountError::NotFound)
}

/// Disables an account: it can't sign in, and its sessions end. Returns the number of sessions ended.
///
/// # Errors
/// [`ChangeAccountError::NotFound`], [`ChangeAccountError::Service`]
pub async fn disable(state: &AppState, id: AccountId) -> Result<u64, ChangeAccountError> {
    let now = state.clock.now();
    let mut change = lock(state, id).await?;
    let disabled_at = Some(now);
    change.set_disabled(disabled_at, now).await?;
    change.record(&AuditEntry::new(now, AuditEvent::AccountDisabled).account(id)).await?;
    if account_mail::should_notify(state, &change.account, Template::AccountDisabled) {
        let to = change.account.email.clone();
        let data = MailData::AccountDisabled { at: now };
        account_mail::enqueue(state, &mut change, &to, &RequestOrigin::default(), data).await?;
    }
    let ended = end_sessions(state, &mut change, EndReason::Disabled).await?;
    change.commit().await?;
    tracing::info!(account = %id, sessions_ended = ended, "account disabled");
    Ok(ended)
}

/// Enables a disabled account.
///
/// # Errors
/// [`ChangeAccountError::NotFound`], [`ChangeAccountError::Service`]
pub async fn enable(state: &AppState, id: AccountId) -> Result<(), ChangeAccountError> {
    let now = state.clock.now();
    let mut change = lock(state, id).await?;
    let disabled_at = None;
    change.set_disabled(disabled_at, now).await?;
    change.record(&AuditEntry::new(now, AuditEvent::AccountEnabled).account(id)).await?;
    change.commit().await?;
    tracing::info!(account = %id, "account enabled");
    Ok(())
}

/// Deletes an account and ends its sessions. Returns the number of sessions ended. The id is never reused.
///
/// # Errors
/// [`ChangeAccountError::NotFound`], [`ChangeAccountError::Service`]
pub async fn delete(state: &AppState, id: AccountId) -> Result<u64, ChangeAccountError> {
    let now = state.clock.now();
    let mut change = lock(state, id).await?;
    // The fence in Redis refuses sign-ins that read an earlier epoch, so it needs a later one than the deleted row had.
    let epoch = change.account.epoch.next();
    change.delete().await?;
    change.record(&AuditEntry::new(now, AuditEvent::AccountDeleted).account(id)).await?;
    let ended =
        state.redis.sessions.revoke_all(AccountSessions::all(id).with_epoch(epoch), EndReason::Deleted, now).await?;
    record_ended(&mut change, EndReason::Deleted, ended, now).await?;
    change.commit().await?;
    tracing::info!(account = %id, sessions_ended = ended, "account deleted");
    Ok(ended)
}

/// Adds and removes roles. A role in both `add` and `remove` is removed. Returns the roles that the account has now.
///
/// Redis is updated in the same step. Every node then refuses the access tokens that were issued before, and the next refresh of each
/// session of the account returns a token with the new roles (I16: claim changes apply at once).
///
/// # Errors
/// [`ChangeAccountError::NotFound`], [`ChangeAccountError::TooManyRoles`], [`ChangeAccountError::Service`]
pub async fn change_roles(
    state: &AppState,
    id: AccountId,
    add: &Roles,
    remove: &Roles,
) -> Result<Roles, ChangeAccountError> {
    let now = state.clock.now();
    let mut change = lock(state, id).await?;
    let kept = change.account.roles.names().iter().filter(|role| !remove.contains(role));
    let added = add.names().iter().filter(|role| !remove.contains(role));
    let roles = Roles::parse(kept.chain(added)).map_err(|_| ChangeAccountError::TooManyRoles)?;
    if roles == change.account.roles {
        return Ok(roles);
    }
    change.set_roles(&roles, now).await?;
    let detail = if roles.is_empty() { "none".to_owned() } else { roles.to_string() };
    change.record(&AuditEntry::new(now, AuditEvent::RolesChanged).account(id).detail(detail)).await?;
    // The epoch keeps a sign-in that read the former roles from writing them to Redis.
    let epoch = change.bump_epoch().await?;
    store_claims(state, &mut change, epoch, now).await?;
    change.commit().await?;
    tracing::info!(account = %id, %roles, "roles of an account changed; its older access tokens are refused");
    Ok(roles)
}

/// Changes the e-mail address of an account. The account's sessions continue. The replaced address may be an attacker's, so it gets a
/// notice without an undo link. All undo links stop working, except a link that restores the new address.
///
/// # Errors
/// [`ChangeAccountError::NotFound`], [`ChangeAccountError::EmailTaken`], [`ChangeAccountError::Service`]
pub async fn set_email(state: &AppState, id: AccountId, email: &Email) -> Result<(), ChangeAccountError> {
    let now = state.clock.now();
    let mut change = lock(state, id).await?;
    let former_account = change.account.clone();
    // Whether the address is verified may be a claim, and the new address may differ in that.
    let former_claims = additional_claims::load_in_change(state, &mut change).await?;
    change.set_email(email, now).await.map_err(|error| match error {
        SetEmailError::Taken => ChangeAccountError::EmailTaken,
        SetEmailError::Sql(error) => error.into(),
    })?;
    change.retain_former_address(email).await?; // drops the other undo links
    change_email::notify_without_link(state, &mut change, &former_account, email, &RequestOrigin::default()).await?;
    change.record(&AuditEntry::new(now, AuditEvent::EmailChanged).account(id)).await?;
    additional_claims::update(state, &mut change, &former_claims).await?;
    change.commit().await?;
    tracing::info!(account = %id, "e-mail address of an account changed");
    Ok(())
}

/// Sets a new password for an account whose owner has lost the old one, and ends its sessions. Returns the number of
/// sessions ended.
///
/// # Errors
/// [`ChangeAccountError::NotFound`], [`ChangeAccountError::WeakPassword`], [`ChangeAccountError::Service`]
pub async fn set_password(state: &AppState, id: AccountId, password: SecretText) -> Result<u64, ChangeAccountError> {
    let account = state.sql.account(id).await?.ok_or(ChangeAccountError::NotFound)?;
    let context = password_context(&account.email, account.username.as_ref());
    let password = state.passwords.check_new(password).map_err(ChangeAccountError::WeakPassword)?;
    let hash = state.passwords.hash_new(password, context).await.map_err(|error| match error {
        PasswordError::Weak(weak) => ChangeAccountError::WeakPassword(weak),
        other => ChangeAccountError::Service(other.into()),
    })?;
    let now = state.clock.now();
    let mut change = lock(state, id).await?;
    change.set_password(&hash, now).await?;
    // After a password reset by mail, a code by mail is no second factor, since it proves the same as the reset. It is one again with a
    // password from the operator.
    change.resume_email_code().await?;
    change.record(&AuditEntry::new(now, AuditEvent::PasswordChange).account(id).because("set_by_operator")).await?;
    if account_mail::should_notify(state, &change.account, Template::PasswordChanged) {
        let to = change.account.email.clone();
        let data = MailData::PasswordChanged { notice: account_mail::operator_notice(now) };
        account_mail::enqueue(state, &mut change, &to, &RequestOrigin::default(), data).await?;
    }
    let ended = end_sessions(state, &mut change, EndReason::PasswordChanged).await?;
    // Devices and networks that signed in with the former password may be a thief's: they lose their separate allowance of attempts.
    limits::forget_devices(state, id).await?;
    change.commit().await?;
    tracing::info!(account = %id, sessions_ended = ended, "password of an account set by an operator");
    Ok(ended)
}

/// Stores the roles and the other claims of a locked account in Redis. If Redis raises the version of the claims, stores the raised version
/// in the account.
pub(super) async fn store_claims(
    state: &AppState,
    change: &mut AccountChange,
    epoch: Epoch,
    now: Timestamp,
) -> Result<(), ServiceError> {
    let additional = additional_claims::load_in_change(state, change).await?;
    let account = &change.account;
    let (roles, version) = (&account.roles, account.claims_version);
    let stored_version = state.redis.sessions.set_claims(account.id, roles, &additional, version, epoch, now).await?;
    Ok(change.set_claims_version(stored_version).await?)
}

/// Resynchronizes Redis with the database after a change that is in Redis only, because its transaction failed to commit.
///
/// Redis refuses sign-ins with the epoch of the database until the fence of that change expires, so this function raises the epoch of the
/// database. If Redis has a newer version of the claims, it also writes the roles and claims of the database to Redis. `stale` is the epoch
/// at which Redis refused a sign-in. Does nothing if the account has another epoch by now.
pub(super) async fn resync(state: &AppState, account: AccountId, stale: Epoch) -> Result<(), ServiceError> {
    let change = state.sql.change_account(account).await?;
    let Some(mut change) = change.filter(|change| change.account.epoch == stale) else { return Ok(()) };
    let epoch = change.bump_epoch().await?;
    let version_in_redis = state.redis.sessions.claims_version(account).await?;
    if version_in_redis.is_some_and(|version| version > change.account.claims_version) {
        store_claims(state, &mut change, epoch, state.clock.now()).await?;
    }
    Ok(change.commit().await?)
}

/// Locks an account.
async fn lock(state: &AppState, id: AccountId) -> Result<AccountChange, ChangeAccountError> {
    state.sql.change_account(id).await?.ok_or(ChangeAccountError::NotFound)
}

/// Ends all sessions of a locked account. On an error, the caller drops the change, which rolls its transaction back.
async fn end_sessions(
    state: &AppState,
    change: &mut AccountChange,
    reason: EndReason,
) -> Result<u64, ChangeAccountError> {
    // The caller has changed the account: `updated_at` is the time of that change.
    let (id, now) = (change.account.id, change.account.updated_at);
    let epoch = change.bump_epoch().await?;
    let ended = state.redis.sessions.revoke_all(AccountSessions::all(id).with_epoch(epoch), reason, now).await?;
    record_ended(change, reason, ended, now).await?;
    Ok(ended)
}

/// Writes to the audit log how many sessions a change has ended, if any.
pub(super) async fn record_ended(
    change: &mut AccountChange,
    reason: EndReason,
    ended: u64,
    now: Timestamp,
) -> Result<(), SqlError> {
    if ended == 0 {
        return Ok(());
    }
    let entry = AuditEntry::new(now, AuditEvent::SessionsEnded).because(reason.as_str()).count(ended);
    change.record(&entry.account(change.account.id)).await
}
