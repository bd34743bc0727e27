//! Secures an account whose owner reports that the action in a notice was not theirs (by its link "this wasn't me").

use crate::{
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        event::EndReason,
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
        one_time_tokens::{self, PresentedToken},
        request_origin::RequestOrigin,
    },
    state::AppState,
    store::{
        redis::AccountSessions,
        sql::{AccountChange, TakeAddressError},
    },
};

/// Why an account was not secured.
#[derive(Debug, thiserror::Error)]
pub enum SecureAccountError {
    /// The link does not work: it was used, has expired, or the primary address has changed since the notice. The notice of that change has
    /// an undo link.
    #[error("the link does not work any more")]
    InvalidToken,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(SecureAccountError);

/// Removes the password, ends all sessions and sends a reset link to the account's address.
///
/// If the address had replaced another one before the notice, but within `account.undo_window`, an attacker may have changed it. The former address is then restored
/// first, and gets the link.
///
/// # Errors
/// [`SecureAccountError`]
pub async fn secure_account(
    state: &AppState,
    token: &SecretText,
    origin: &RequestOrigin,
) -> Result<(), SecureAccountError> {
    limits::check_self_service(state, origin.ip).await?;
    let purpose = TokenPurpose::SecureAccount;
    let presented = PresentedToken::Link(token.clone());
    let Some(claim) = one_time_tokens::find(state, &presented, &[purpose], one_time_tokens::NO_SIGN_IN_REQUEST).await?
    else {
        one_time_tokens::record_refusal(state, &presented, purpose, origin.ip);
        return Err(SecureAccountError::InvalidToken);
    };
    let change = state.sql.change_account(claim.account.id).await?.ok_or(SecureAccountError::InvalidToken)?;
    let Some(taken) = one_time_tokens::take(state, &claim, &change.account).await? else {
        return Err(SecureAccountError::InvalidToken);
    };
    let outcome = apply(state, change, origin).await;
    if outcome.is_err() {
        // the account was not secured, so the link must work again
        one_time_tokens::restore(state, &claim, &taken).await;
    }
    Ok(outcome?)
}

/// Secures a locked account whose link was consumed, and commits the change.
async fn apply(state: &AppState, mut change: AccountChange, origin: &RequestOrigin) -> Result<(), ServiceError> {
    let (id, now) = (change.account.id, state.clock.now());
    let entry = AuditEntry::new(now, AuditEvent::AccountSecured).account(id).actor(Actor::Account).address(origin.ip);
    change.record(&entry).await?;
    let link = restore_earliest_address(state, &mut change, origin).await?;
    secure(state, &mut change, link, origin).await?;
    change.commit().await?;
    tracing::info!(account = %id, "account secured, because its owner reported an action as not theirs: the password was removed and all sessions ended");
    Ok(())
}

/// Makes the earliest former address the primary one, because an attacker may have made all changes since. This undoes every change of
/// address that can still be undone.
///
/// Returns whether a reset link may go to the primary address. If another account has verified the former address since, the current
/// address stays, and it may be the attacker's.
async fn restore_earliest_address(
    state: &AppState,
    change: &mut AccountChange,
    origin: &RequestOrigin,
) -> Result<ResetLink, ServiceError> {
    let now = state.clock.now();
    // The addresses are sorted from the newest to the earliest.
    let Some(earliest) = change.former_addresses(now).await?.pop() else { return Ok(ResetLink::Send) };
    change.clear_former_addresses().await?;
    if earliest.email.key() == change.account.email.key() {
        return Ok(ResetLink::Send);
    }
    match change.make_primary_address(&earliest.email, now).await {
        Ok(()) => {}
        Err(TakeAddressError::Taken) => return Ok(ResetLink::Omit),
        Err(TakeAddressError::Sql(error)) => return Err(error.into()),
    }
    let entry = AuditEntry::new(now, AuditEvent::EmailChangeUndone).account(change.account.id);
    change.record(&entry.actor(Actor::Account).address(origin.ip)).await?;
    Ok(ResetLink::Send)
}

/// Whether [`secure`] sends a reset link to the account's primary address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResetLink {
    /// The address is the owner's.
    Send,
    /// The address may be an attacker's.
    Omit,
}

/// Secures an account that an attacker may have used: removes the password, ends all sessions, cancels a pending deletion and a pending
/// change of address, and sends a reset link. Also removes what the attacker may have added:
///
/// - factors, consents and secondary addresses that were added, given or verified within the lifetime of a notice's link or
///   `account.undo_window`, whichever is longer,
/// - all unverified secondary addresses.
pub(super) async fn secure(
    state: &AppState,
    change: &mut AccountChange,
    link: ResetLink,
    origin: &RequestOrigin,
) -> Result<(), ServiceError> {
    let (id, now) = (change.account.id, state.clock.now());
    change.remove_password(now).await?;
    // the owner may open the notice of an attacker's change as long as its link works
    let since = now - TokenPurpose::SecureAccount.ttl().max(state.config.account.undo_window);
    suspect::remove_since(change, since, now, origin.ip).await?;
    change.clear_pending_address().await?;
    change.clear_recent_secondary_emails(since).await?;
    change.withdraw_consents_since(since, now, origin.ip).await?;
    let no_deletion = None;
    change.set_deletion(no_deletion, now).await?;
    let epoch = change.bump_epoch().await?;
    // The reset link is bound to the new epoch.
    if link == ResetLink::Send {
        send_reset(state, change, origin).await?;
    }
    let reason = EndReason::Revoked;
    let ended = state.redis.sessions.revoke_all(AccountSessions::all(id).with_epoch(epoch), reason, now).await?;
    limits::forget_devices(state, id).await?;
    Ok(record_ended(change, reason, ended, now).await?)
}

/// Sends a reset link to the primary address of a locked account.
async fn send_reset(state: &AppState, change: &mut AccountChange, origin: &RequestOrigin) -> Result<(), ServiceError> {
    let purpose = TokenPurpose::ResetPassword;
    let to = change.account.email.clone();
    let issued =
        one_time_tokens::issue(state, &change.account, purpose, &to, one_time_tokens::NO_SIGN_IN_REQUEST).await?;
    let data = MailData::PasswordReset {
        challenge: account_mail::link_and_code(state, purpose, &issued),
        origin: account_mail::action_origin(origin, state.clock.now()),
    };
    account_mail::enqueue(state, change, &to, origin, data).await
}
