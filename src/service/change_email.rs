//! Changes the address of an account. The owner confirms the change with a link or a code at the new address. The owner of the former
//! address can undo it.

use std::net::IpAddr;

use crate::{
    crypto::{access_token::AccessClaims, one_time_token::LinkToken},
    domain::{
        account::{Account, Email, Identifier},
        audit::{Actor, AuditEntry, AuditEvent},
        clock::Timestamp,
        event::EndReason,
        ids::AccountId,
        mail::{AddressChange, MailData, Notice, Template},
        one_time_token::TokenPurpose,
        secret::{PasswordHash, SecretText},
        session::AcceptedTransport,
    },
    service::{
        account_mail,
        error::{ServiceError, from_store_errors},
        limits,
        one_time_tokens::{self, PresentedToken},
        replace_sessions::{end_sessions, replace_sessions},
        request_origin::RequestOrigin,
        secure_account::{self, ResetLink},
        token_issuer::Tokens,
        verify_email::{self, VerifyEmailError},
    },
    state::AppState,
    store::sql::{AccountChange, TakeAddressError},
};

/// Why a change of address was not started.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The account was deleted or disabled.
    #[error("the account was deleted or disabled")]
    NoAccount,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(RequestError);

/// Why a change of address was not undone.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// The link does not work: it was used or has expired.
    #[error("the link does not work any more")]
    InvalidToken,
    /// Another account has verified the former address since the change.
    #[error("another account has verified the former e-mail address")]
    EmailTaken,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(UndoError);

/// Returns the new address of the caller's account that is not confirmed yet, if any.
///
/// # Errors
/// [`ServiceError`]
pub async fn pending(state: &AppState, caller: &AccessClaims) -> Result<Option<Email>, ServiceError> {
    let pending = state.sql.pending_address(caller.sub, state.clock.now()).await?;
    Ok(pending.map(|address| address.email))
}

/// Starts a change of address: sends a link and a code to the new address. If another account has verified the address, the
/// mail is a notice to its owner instead. The result does not reveal which mail was sent (I12: no account oracle).
///
/// # Errors
/// [`RequestError`]
pub async fn request(
    state: &AppState,
    caller: &AccessClaims,
    email: &Email,
    origin: &RequestOrigin,
) -> Result<(), RequestError> {
    limits::check_self_service(state, origin.ip).await?;
    limits::check_account_change(state, caller.sid, origin.ip).await?;
    let now = state.clock.now();
    let is_taken = is_owned_by_another(state, caller.sub, email).await?;
    // the account may have been disabled or deleted after the access token was checked
    let change = state.sql.change_account(caller.sub).await?.filter(|change| !change.account.is_closed(now));
    let mut change = change.ok_or(RequestError::NoAccount)?;
    // For a taken address too: both cases have the same effects and take the same time (I12).
    let purpose = TokenPurpose::ChangeEmail;
    let issued =
        one_time_tokens::issue(state, &change.account, purpose, email, one_time_tokens::NO_SIGN_IN_REQUEST).await?;
    change.set_pending_address(email, now, issued.expires_at).await?;
    let data = if is_taken {
        account_mail::address_taken(state, origin)
    } else {
        MailData::ConfirmAddress { challenge: account_mail::link_and_code(state, purpose, &issued) }
    };
    account_mail::enqueue(state, &mut change, email, origin, data).await?;
    let entry = AuditEntry::new(now, AuditEvent::OneTimeToken).account(caller.sub).session(caller.sid);
    change.record(&entry.detail(purpose.as_str()).actor(Actor::Account).address(origin.ip)).await?;
    change.commit().await?;
    Ok(())
}

/// Whether another account has verified an address.
pub(super) async fn is_owned_by_another(
    state: &AppState,
    account: AccountId,
    email: &Email,
) -> Result<bool, ServiceError> {
    let identifier = Identifier::from(email);
    let holder = state.sql.find_account(&identifier).await?;
    Ok(holder.is_some_and(|holder| holder.id != account && holder.owns(&identifier)))
}

/// Makes a confirmed address the account's primary one. All sessions end (I5: credential changes end sessions). If the caller is signed in,
/// a new session replaces the caller's, and its tokens are returned.
///
/// `new_hash` is the hash of the new password that the reader of the mail set (`verify_email::Proof::NewPassword`). It replaces all
/// credentials of the account, and no session starts.
pub(super) async fn apply(
    state: &AppState,
    mut change: AccountChange,
    address: &Email,
    caller: Option<&AccessClaims>,
    accepted: AcceptedTransport,
    new_hash: Option<PasswordHash>,
    origin: &RequestOrigin,
) -> Result<Option<Tokens>, VerifyEmailError> {
    let before = change.account.clone();
    let now = state.clock.now();
    if new_hash.is_some() && before.email_verified {
        // The current address was verified after the link was checked. The reader of the new address may no longer set a password.
        return Err(VerifyEmailError::ProofRequired);
    }
    // another request may have replaced or cancelled the change after the link was checked
    let pending = change.pending_address(now).await?;
    let is_pending = pending.is_some_and(|pending| pending.email.key() == address.key());
    if !is_pending {
        return Err(VerifyEmailError::InvalidToken);
    }
    change.make_primary_address(address, now).await.map_err(|error| match error {
        TakeAddressError::Taken => VerifyEmailError::EmailTaken,
        TakeAddressError::Sql(error) => error.into(),
    })?;
    change.clear_pending_address().await?;
    record_event(&mut change, AuditEvent::EmailChanged, now, origin.ip).await?;
    offer_undo(state, &mut change, &before, address, origin).await?;
    if let Some(hash) = new_hash {
        // also ends all sessions
        verify_email::replace_credentials(state, &mut change, &hash, origin).await?;
        change.commit().await?;
        return Ok(None);
    }
    let tokens = match caller {
        Some(caller) => {
            Some(replace_sessions(state, &mut change, caller, accepted, EndReason::Revoked, origin.ip).await?)
        }
        None => {
            end_sessions(state, &mut change).await?;
            None
        }
    };
    change.commit().await?;
    tracing::info!(account = %before.id, "e-mail address of an account changed by its owner");
    Ok(tokens)
}

/// Stores the former address, and sends it a notice with a link that undoes the change. Does neither for an unverified address: it may
/// belong to another person, who could take over the account with the link (I13: an unverified address belongs to nobody).
///
/// While an earlier change can be undone, the address is not stored, and its notice has no link. An attacker may have made the earlier
/// change, and the former address may be theirs. A link would then be a way back into the account.
pub(super) async fn offer_undo(
    state: &AppState,
    change: &mut AccountChange,
    before: &Account,
    new: &Email,
    origin: &RequestOrigin,
) -> Result<(), ServiceError> {
    if !before.email_verified || before.email.key() == new.key() {
        return Ok(());
    }
    let now = state.clock.now();
    let former = change.former_addresses(now).await?;
    let has_earlier_change = former.iter().any(|former| former.email.key() != before.email.key());
    if has_earlier_change {
        return notify_without_link(state, change, before, new, origin).await;
    }
    // stored even if the notice is off: `secure_account` can restore the address without a link
    change.add_former_address(&before.email, now, now + state.config.account.undo_window).await?;
    if !account_mail::should_notify(state, before, Template::AddressChanged) {
        return Ok(());
    }
    let purpose = TokenPurpose::UndoEmailChange;
    let issued =
        one_time_tokens::issue(state, before, purpose, &before.email, one_time_tokens::NO_SIGN_IN_REQUEST).await?;
    let data = MailData::AddressChanged {
        new_address: new.as_str().to_owned(),
        undo: account_mail::link_and_code(state, purpose, &issued),
        origin: account_mail::action_origin(origin, now),
    };
    account_mail::enqueue(state, change, &before.email, origin, data).await
}

/// Notifies the owner of the former address, if it was verified, of a change that they can't undo.
pub(super) async fn notify_without_link(
    state: &AppState,
    change: &mut AccountChange,
    before: &Account,
    new: &Email,
    origin: &RequestOrigin,
) -> Result<(), ServiceError> {
    let is_same = before.email.key() == new.key();
    if is_same || !account_mail::should_notify(state, before, Template::SecondaryAddressChanged) {
        return Ok(());
    }
    // The mail `AddressChanged` always has an undo link.
    let data = MailData::SecondaryAddressChanged {
        change: AddressChange::MadePrimary,
        secondary: new.as_str().to_owned(),
        notice: Notice { origin: account_mail::action_origin(origin, state.clock.now()), not_me: None },
    };
    account_mail::enqueue(state, change, &before.email, origin, data).await
}

/// If a former address is the primary one again, deletes it and the former addresses that were stored after it: their links could undo
/// its restoration.
///
/// A former address is stored when another one replaces it. So the addresses that were stored later were primary in between.
pub(super) async fn forget_later_addresses(change: &mut AccountChange, now: Timestamp) -> Result<(), ServiceError> {
    let primary = change.account.email.key();
    let former = change.former_addresses(now).await?;
    if let Some(restored) = former.iter().find(|former| former.email.key() == primary) {
        change.clear_former_addresses_since(restored.created_at).await?;
    }
    Ok(())
}

/// Restores a former address as the primary one. An attacker who changed the address may know the password and have sessions. So the
/// password is removed, all sessions end, and a reset link goes to the restored address.
///
/// # Errors
/// [`UndoError`]
pub async fn undo(state: &AppState, token: &SecretText, origin: &RequestOrigin) -> Result<(), UndoError> {
    limits::check_self_service(state, origin.ip).await?;
    let purpose = TokenPurpose::UndoEmailChange;
    let refused = || {
        one_time_tokens::record_refusal(state, &PresentedToken::Link(token.clone()), purpose, origin.ip);
        UndoError::InvalidToken
    };
    let link = LinkToken::parse(token.expose()).filter(|link| link.purpose == purpose).ok_or_else(refused)?;
    let account = state.sql.account(link.account).await?.ok_or_else(refused)?;
    let former = state.sql.former_addresses(account.id, state.clock.now()).await?;
    let addresses = former.iter().map(|former| former.email.clone()).collect();
    // the link names only its account: the address to restore is one of the former addresses
    let claim = one_time_tokens::find_link_about(state, account, &link, addresses).await?.ok_or_else(refused)?;
    let address = claim.about.clone().ok_or_else(refused)?;
    let change = state.sql.change_account(claim.account.id).await?.ok_or_else(refused)?;
    // None if another request has used the link or changed the account meanwhile
    let Some(consumed) = one_time_tokens::take(state, &claim, &change.account).await? else {
        return Err(UndoError::InvalidToken);
    };
    let replaced_at = former.iter().find(|former| former.email == address).map(|former| former.created_at);
    let outcome = apply_undo(state, change, &address, replaced_at, origin).await;
    if outcome.is_err() {
        one_time_tokens::restore(state, &claim, &consumed).await;
    }
    outcome
}

/// Applies [`undo`] to a locked account. `replaced_at` is the time at which another address replaced `address`.
async fn apply_undo(
    state: &AppState,
    mut change: AccountChange,
    address: &Email,
    replaced_at: Option<Timestamp>,
    origin: &RequestOrigin,
) -> Result<(), UndoError> {
    let id = change.account.id;
    let now = state.clock.now();
    change.make_primary_address(address, now).await.map_err(|error| match error {
        TakeAddressError::Taken => UndoError::EmailTaken,
        TakeAddressError::Sql(error) => error.into(),
    })?;
    if let Some(replaced_at) = replaced_at {
        // The owner made none of the later changes. Their undo links would restore an attacker's address.
        change.clear_former_addresses_since(replaced_at).await?;
    }
    record_event(&mut change, AuditEvent::EmailChangeUndone, now, origin.ip).await?;
    secure_account::secure(state, &mut change, ResetLink::Send, origin).await?;
    change.commit().await?;
    tracing::info!(account = %id, "change of e-mail address undone by the owner of the former address: the account may have been taken over. It was secured, and a reset link was sent");
    Ok(())
}

/// Writes a change of the address to the audit log.
async fn record_event(
    change: &mut AccountChange,
    event: AuditEvent,
    now: Timestamp,
    ip: Option<IpAddr>,
) -> Result<(), ServiceError> {
    let entry = AuditEntry::new(now, event).account(change.account.id).actor(Actor::Account).address(ip);
    Ok(change.record(&entry).await?)
}
