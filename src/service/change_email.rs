//! Changes the address of an account: the new address confirms it, and the owner of the former address can undo it.

use std::net::IpAddr;

use crate::{
    crypto::{access_token::AccessClaims, one_time_token::LinkToken},
    domain::{
        account::{Account, Email, Identifier},
        audit::{Actor, AuditEvent, Entry},
        authentication::Acr,
        clock::Timestamp,
        event::Reason,
        ids::AccountId,
        mail::{MailData, Template},
        one_time_token::TokenPurpose,
        secret::{PasswordHash, SecretText},
        session::Accepted,
    },
    service::{
        account_mail,
        accounts::record_ended,
        error::{ServiceError, from_store_errors},
        further_claims, limits,
        one_time_tokens::{self, Presented},
        request_origin::RequestOrigin,
        sign_in::policy,
        token_issuer::{self, Tokens},
        verify_email::{self, VerifyEmailError},
    },
    state::AppState,
    store::{
        redis::{Replace, Replacement},
        sql::{AccountChange, TakeAddressError},
    },
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
    /// Another account has verified the former address meanwhile.
    #[error("another account has verified the former e-mail address")]
    EmailTaken,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(UndoError);

/// The new address that the caller's account waits to confirm, if any.
///
/// # Errors
/// [`ServiceError`]
pub async fn pending(state: &AppState, caller: &AccessClaims) -> Result<Option<Email>, ServiceError> {
    let pending = state.sql.pending_address(caller.sub, state.clock.now()).await?;
    Ok(pending.map(|address| address.email))
}

/// Starts a change of address: sends a link and a code to the new address. If another account has verified the address, its
/// owner gets a mail instead, and the answer does not reveal it (I12).
///
/// # Errors
/// [`RequestError`]
pub async fn request(
    state: &AppState,
    caller: &AccessClaims,
    email: &Email,
    origin: &RequestOrigin,
) -> Result<(), RequestError> {
    limits::recovery(state, origin.ip).await?;
    limits::password_change(state, caller.sid, origin.ip).await?;
    let now = state.clock.now();
    let holder = state.sql.find_account(&Identifier::Email(email.as_str().to_lowercase())).await?;
    let holder = holder.filter(|holder| holder.id != caller.sub && holder.email_verified);
    let change = state.sql.change_account(caller.sub).await?.filter(|change| !change.account.is_closed(now));
    let mut change = change.ok_or(RequestError::NoAccount)?;
    let purpose = TokenPurpose::ChangeEmail;
    let issued = one_time_tokens::issue(state, &change.account, purpose, email, &[]).await?;
    change.set_pending_address(email, now, issued.expires_at).await?;
    let data = match &holder {
        Some(_) => MailData::AddressTaken {
            origin: account_mail::action_origin(origin, now),
            sign_in: state.config.mail.links.sign_in.clone(),
        },
        None => MailData::ConfirmAddress { challenge: account_mail::challenge(state, purpose, &issued) },
    };
    account_mail::enqueue(state, &mut change, email, origin, data).await?;
    let entry = Entry::new(now, AuditEvent::OneTimeToken).account(caller.sub).session(caller.sid);
    change.record(&entry.detail(purpose.as_str()).by(Actor::Account).from(origin.ip)).await?;
    change.commit().await?;
    Ok(())
}

/// The account of a link that confirms a new address.
pub(super) fn account_of(text: &SecretText) -> Option<AccountId> {
    let token = LinkToken::parse(text.expose())?;
    (token.purpose == TokenPurpose::ChangeEmail).then_some(token.account)
}

/// Makes a confirmed address the account's. All sessions end; that of a caller who is signed in is replaced by a new one,
/// whose tokens are returned (I5).
pub(super) async fn apply(
    state: &AppState,
    mut change: AccountChange,
    address: &Email,
    caller: Option<&AccessClaims>,
    accepted: Accepted,
    new_hash: Option<PasswordHash>,
    origin: &RequestOrigin,
) -> Result<Option<Tokens>, VerifyEmailError> {
    let (before, now) = (change.account.clone(), state.clock.now());
    if change.pending_address(now).await?.is_none_or(|pending| pending.email.key() != address.key()) {
        return Err(VerifyEmailError::InvalidToken);
    }
    change.take_address(address, now).await.map_err(|error| match error {
        TakeAddressError::Taken => VerifyEmailError::EmailTaken,
        TakeAddressError::Sql(error) => error.into(),
    })?;
    change.clear_pending_address().await?;
    record(&mut change, AuditEvent::EmailChanged, now, origin.ip).await?;
    notify_former(state, &mut change, &before, address, origin).await?;
    if let Some(hash) = new_hash {
        verify_email::end_former(state, &mut change, &hash, origin).await?;
        change.commit().await?;
        return Ok(None);
    }
    let epoch = change.bump_epoch().await?;
    let reason = Reason::Revoked;
    let tokens = match caller {
        Some(caller) => {
            let settings = &state.config.session;
            let further_claims = further_claims::of_change(state, &mut change).await?;
            let acr = Acr::parse(&caller.acr).unwrap_or_default();
            let longest = policy::longest_replacement(state, &mut change, acr, now).await?;
            let replacement = Replacement {
                id: state.entropy.session_id(),
                account: before.id,
                replaces: caller.sid,
                accepted,
                roles: change.account.roles.clone(),
                further_claims,
                claims_version: change.account.claims_version,
                epoch,
                authentication: None,
                idle_timeout: settings.idle_timeout.min(longest),
                absolute_timeout: longest,
            };
            match state.redis.sessions.replace_all(replacement, reason, now).await? {
                Replace::Replaced { grant, ended } => {
                    record_ended(&mut change, reason, ended, now).await?;
                    Some(token_issuer::issue(state, &grant, now)?)
                }
                Replace::Gone => return Err(VerifyEmailError::SessionEnded),
                Replace::NotAccepted => return Err(VerifyEmailError::CookieNotAccepted),
            }
        }
        None => {
            let ended = state.redis.sessions.revoke_all(before.id, None, Some(epoch), reason, now).await?;
            record_ended(&mut change, reason, ended, now).await?;
            None
        }
    };
    change.commit().await?;
    tracing::info!(account = %before.id, "e-mail address changed by its owner");
    Ok(tokens)
}

/// Tells the owner of the former address, with a link that undoes the change. An address that was not verified belongs to
/// nobody (I13): a link there would give the account to a stranger.
pub(super) async fn notify_former(
    state: &AppState,
    change: &mut AccountChange,
    before: &Account,
    new: &Email,
    origin: &RequestOrigin,
) -> Result<(), ServiceError> {
    if !before.email_verified || before.email.key() == new.key() {
        return Ok(());
    }
    let (purpose, now) = (TokenPurpose::UndoEmailChange, state.clock.now());
    change.add_former_address(&before.email, now, now + state.config.account.undo_window).await?;
    if !account_mail::wants(state, before, Template::AddressChanged) {
        return Ok(());
    }
    let issued = one_time_tokens::issue(state, before, purpose, &before.email, &[]).await?;
    let data = MailData::AddressChanged {
        new_address: new.as_str().to_owned(),
        undo: account_mail::challenge(state, purpose, &issued),
        origin: account_mail::action_origin(origin, now),
    };
    account_mail::enqueue(state, change, &before.email, origin, data).await
}

/// Makes a former address the account's again. The thief who changed it may know the password and have sessions: the password is
/// removed, all sessions end, and a reset link goes to the address.
///
/// # Errors
/// [`UndoError`]
pub async fn undo(state: &AppState, token: &SecretText, origin: &RequestOrigin) -> Result<(), UndoError> {
    limits::recovery(state, origin.ip).await?;
    let purpose = TokenPurpose::UndoEmailChange;
    let refused = || {
        one_time_tokens::record_refusal(state, &Presented::Link(token.clone()), purpose, origin.ip);
        UndoError::InvalidToken
    };
    let link = LinkToken::parse(token.expose()).filter(|link| link.purpose == purpose).ok_or_else(refused)?;
    let account = state.sql.account(link.account).await?.ok_or_else(refused)?;
    let former = state.sql.former_addresses(account.id, state.clock.now()).await?;
    let addresses = former.iter().map(|it| it.email.clone()).collect();
    let found = one_time_tokens::find_link_about(state, account, &link, addresses).await?;
    let (claim, address) = found.ok_or_else(refused)?;
    let change = state.sql.change_account(claim.account.id).await?.ok_or_else(refused)?;
    let Some(taken) = one_time_tokens::take(state, &claim, &change.account, Some(&address)).await? else {
        return Err(UndoError::InvalidToken);
    };
    let since = former.iter().find(|it| it.email == address).map(|it| it.created_at);
    let outcome = apply_undo(state, change, &address, since, origin).await;
    if outcome.is_err() {
        one_time_tokens::restore(state, &claim, &taken).await;
    }
    outcome
}

async fn apply_undo(
    state: &AppState,
    mut change: AccountChange,
    address: &Email,
    since: Option<Timestamp>,
    origin: &RequestOrigin,
) -> Result<(), UndoError> {
    let (id, now) = (change.account.id, state.clock.now());
    change.take_address(address, now).await.map_err(|error| match error {
        TakeAddressError::Taken => UndoError::EmailTaken,
        TakeAddressError::Sql(error) => error.into(),
    })?;
    if let Some(since) = since {
        // later changes were not the owner's either
        change.clear_former_addresses(since).await?;
    }
    record(&mut change, AuditEvent::EmailChangeUndone, now, origin.ip).await?;
    secure(state, &mut change, origin).await?;
    change.commit().await?;
    tracing::info!(account = %id, "change of e-mail address undone by the owner of the former one");
    Ok(())
}

/// Removes the password, ends all sessions, cancels pending changes and sends a reset link to the account's address.
pub(super) async fn secure(
    state: &AppState,
    change: &mut AccountChange,
    origin: &RequestOrigin,
) -> Result<(), ServiceError> {
    let (id, now, reason) = (change.account.id, state.clock.now(), Reason::Revoked);
    change.remove_password(now).await?;
    change.clear_pending_address().await?;
    change.set_deletion(None, now).await?;
    let epoch = change.bump_epoch().await?;
    let purpose = TokenPurpose::ResetPassword;
    let issued = one_time_tokens::issue(state, &change.account, purpose, &change.account.email, &[]).await?;
    let data = MailData::PasswordReset {
        challenge: account_mail::challenge(state, purpose, &issued),
        origin: account_mail::action_origin(origin, now),
    };
    let to = change.account.email.clone();
    account_mail::enqueue(state, change, &to, origin, data).await?;
    let ended = state.redis.sessions.revoke_all(id, None, Some(epoch), reason, now).await?;
    Ok(record_ended(change, reason, ended, now).await?)
}

async fn record(
    change: &mut AccountChange,
    event: AuditEvent,
    now: Timestamp,
    ip: Option<IpAddr>,
) -> Result<(), ServiceError> {
    let entry = Entry::new(now, event).account(change.account.id).by(Actor::Account).from(ip);
    Ok(change.record(&entry).await?)
}
