//! Secures an account whose owner reports the action of a notice as not theirs (the link "this wasn't me").

use crate::{
    domain::{
        audit::{Actor, AuditEvent, Entry},
        event::Reason,
        mail::MailData,
        one_time_token::TokenPurpose,
        secret::SecretText,
    },
    service::{
        account_mail,
        accounts::record_ended,
        error::{ServiceError, from_store_errors},
        factors::suspect,
        limits,
        one_time_tokens::{self, Presented},
        request_origin::RequestOrigin,
    },
    state::AppState,
    store::sql::{AccountChange, TakeAddressError},
};

/// Why an account was not secured.
#[derive(Debug, thiserror::Error)]
pub enum SecureAccountError {
    /// The link does not work: it was used, has expired, or the account has another address now.
    #[error("the link does not work any more")]
    InvalidToken,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(SecureAccountError);

/// Removes the password, ends all sessions and sends a reset link to the account's address. If the address replaced another one within
/// `account.undo_window`, an attacker may have changed it: the former address is restored first, and gets the link.
///
/// # Errors
/// [`SecureAccountError`]
pub async fn secure_account(
    state: &AppState,
    token: &SecretText,
    origin: &RequestOrigin,
) -> Result<(), SecureAccountError> {
    limits::check_recovery(state, origin.ip).await?;
    let (purpose, presented) = (TokenPurpose::SecureAccount, Presented::Link(token.clone()));
    let Some(claim) = one_time_tokens::find(state, &presented, &[purpose], None, &[]).await? else {
        one_time_tokens::record_refusal(state, &presented, purpose, origin.ip);
        return Err(SecureAccountError::InvalidToken);
    };
    let change = state.sql.change_account(claim.account.id).await?.ok_or(SecureAccountError::InvalidToken)?;
    let Some(taken) = one_time_tokens::take(state, &claim, &change.account).await? else {
        return Err(SecureAccountError::InvalidToken);
    };
    let outcome = apply(state, change, origin).await;
    if outcome.is_err() {
        one_time_tokens::restore(state, &claim, &taken).await;
    }
    Ok(outcome?)
}

async fn apply(state: &AppState, mut change: AccountChange, origin: &RequestOrigin) -> Result<(), ServiceError> {
    let (id, now) = (change.account.id, state.clock.now());
    let entry = Entry::new(now, AuditEvent::AccountSecured).account(id).by(Actor::Account).from(origin.ip);
    change.record(&entry).await?;
    let is_owners = restore_earliest(state, &mut change, origin).await?;
    secure(state, &mut change, is_owners, origin).await?;
    change.commit().await?;
    tracing::info!(account = %id, "account secured by its owner");
    Ok(())
}

/// Makes the earliest former address the primary one: an attacker may have made all changes since, and have the current address. Undoes
/// every change that can still be undone. Returns whether the primary address is the owner's: false if another account has verified the
/// former address meanwhile.
async fn restore_earliest(
    state: &AppState,
    change: &mut AccountChange,
    origin: &RequestOrigin,
) -> Result<bool, ServiceError> {
    let now = state.clock.now();
    // The newest is the first.
    let Some(earliest) = change.former_addresses(now).await?.pop() else { return Ok(true) };
    change.clear_former_addresses(None).await?;
    if earliest.email.key() == change.account.email.key() {
        return Ok(true);
    }
    match change.take_address(&earliest.email, now).await {
        Ok(()) => {}
        Err(TakeAddressError::Taken) => return Ok(false),
        Err(TakeAddressError::Sql(error)) => return Err(error.into()),
    }
    let entry = Entry::new(now, AuditEvent::EmailChangeUndone).account(change.account.id);
    change.record(&entry.by(Actor::Account).from(origin.ip)).await?;
    Ok(true)
}

/// Secures an account that an attacker may have used. Removes the password, ends all sessions, cancels pending changes, and removes what
/// the attacker may have added: factors within the lifetime of a notice's link, and within `account.undo_window` consents and verified
/// secondary addresses; unverified ones in any case. Sends a reset link to the account's primary address if that is the owner's.
pub(super) async fn secure(
    state: &AppState,
    change: &mut AccountChange,
    is_owners: bool,
    origin: &RequestOrigin,
) -> Result<(), ServiceError> {
    let (id, now, reason) = (change.account.id, state.clock.now(), Reason::Revoked);
    change.remove_password(now).await?;
    let window = TokenPurpose::SecureAccount.ttl().max(state.config.account.undo_window);
    suspect::remove_since(change, now - window, now, origin.ip).await?;
    change.clear_pending_address().await?;
    let since = now - state.config.account.undo_window;
    change.clear_recent_secondary_emails(since).await?;
    change.withdraw_consents(Some(since), now, origin.ip).await?;
    change.set_deletion(None, now).await?;
    let epoch = change.bump_epoch().await?;
    if is_owners {
        send_reset(state, change, origin).await?;
    }
    let ended = state.redis.sessions.revoke_all(id, None, Some(epoch), reason, now).await?;
    limits::forget_devices(state, id).await?;
    Ok(record_ended(change, reason, ended, now).await?)
}

/// Sends a reset link to the primary address of a locked account.
async fn send_reset(state: &AppState, change: &mut AccountChange, origin: &RequestOrigin) -> Result<(), ServiceError> {
    let (purpose, to) = (TokenPurpose::ResetPassword, change.account.email.clone());
    let issued = one_time_tokens::issue(state, &change.account, purpose, &to, &[]).await?;
    let data = MailData::PasswordReset {
        challenge: account_mail::challenge(state, purpose, &issued),
        origin: account_mail::action_origin(origin, state.clock.now()),
    };
    account_mail::enqueue(state, change, &to, origin, data).await
}
