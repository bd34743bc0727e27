//! Sets a new password with a link or a code from a mail, for an account whose owner has lost the password or never had one.

use crate::{
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        event::EndReason,
        mail::{MailData, Template},
        one_time_token::TokenPurpose,
        secret::PasswordHash,
    },
    password::{NewPassword, PasswordError, WeakPassword},
    service::{
        account_mail,
        accounts::record_ended,
        error::{ServiceError, from_store_errors},
        limits,
        one_time_tokens::{self, Claim, PresentedToken},
        register::password_context,
        request_origin::RequestOrigin,
    },
    state::AppState,
    store::{
        redis::AccountSessions,
        sql::{AccountChange, TakeAddressError},
    },
};

/// Why a password was not reset.
#[derive(Debug, thiserror::Error)]
pub enum ResetPasswordError {
    /// The link or the code does not work: it was used, has expired, or the account has changed since. The same error is
    /// returned if the account does not exist (I12: no answer tells which accounts exist).
    #[error("the link or the code does not work any more")]
    InvalidToken,
    /// The new password does not satisfy the policy.
    #[error(transparent)]
    WeakPassword(WeakPassword),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(ResetPasswordError);

/// The purposes of the tokens that set a password.
const PURPOSES: [TokenPurpose; 2] = [TokenPurpose::ResetPassword, TokenPurpose::Invitation];

/// Sets the password and ends all sessions. The reader of the mail owns the address, so the address is verified. If it was not verified
/// before, another person may have set up the account: every earlier password, session, factor, link, consent, secondary address and change
/// of address then stops working (I13: nothing of that person survives).
///
/// # Errors
/// [`ResetPasswordError`]. On an error nothing has changed, except that the account's sessions may have ended if the database failed to
/// commit.
pub async fn reset_password(
    state: &AppState,
    presented: &PresentedToken,
    new: NewPassword,
    origin: &RequestOrigin,
) -> Result<(), ResetPasswordError> {
    // Holds a place in the hashing queue until the end: if the queue is full, the request is refused before its other work.
    let _reservation = state.passwords.reserve().map_err(ServiceError::from)?;
    limits::check_self_service(state, origin.ip).await?;
    let Some(claim) = one_time_tokens::find(state, presented, &PURPOSES, one_time_tokens::NO_SIGN_IN_REQUEST).await?
    else {
        one_time_tokens::record_refusal(state, presented, TokenPurpose::ResetPassword, origin.ip);
        return Err(ResetPasswordError::InvalidToken);
    };
    let context = password_context(&claim.account.email, claim.account.username.as_ref());
    let hash = state.passwords.hash_new(new, context).await.map_err(|error| match error {
        PasswordError::Weak(weak) => ResetPasswordError::WeakPassword(weak),
        other => ResetPasswordError::Service(other.into()),
    })?;
    let change = state.sql.change_account(claim.account.id).await?;
    // The account may have been disabled or deleted meanwhile.
    let change = change.filter(|change| !change.account.is_closed(state.clock.now()));
    let change = change.ok_or(ResetPasswordError::InvalidToken)?;
    let Some(token) = one_time_tokens::take(state, &claim, &change.account).await? else {
        return Err(ResetPasswordError::InvalidToken);
    };
    let outcome = apply(state, change, &claim, &hash, origin).await;
    if outcome.is_err() {
        one_time_tokens::restore(state, &claim, &token).await;
    }
    outcome
}

/// Sets the password of a locked account whose link or code was consumed, and commits the change.
async fn apply(
    state: &AppState,
    mut change: AccountChange,
    claim: &Claim,
    hash: &PasswordHash,
    origin: &RequestOrigin,
) -> Result<(), ResetPasswordError> {
    let (id, now) = (change.account.id, state.clock.now());
    // An account with an unverified primary address, or none, belonged to nobody (I13). With `about`, the mail went to a verified secondary
    // address, and proves nothing about the primary one.
    let belonged_to_nobody = claim.about.is_none() && !change.account.email_verified;
    change.set_password(hash, now).await?;
    change.clear_pending_address().await?;
    let entry = AuditEntry::new(now, AuditEvent::PasswordChange).account(id).because(claim.purpose.as_str());
    change.record(&entry.actor(Actor::Account).address(origin.ip)).await?;
    if belonged_to_nobody {
        // An account that has lost its address gets the link from an operator or an app, not by mail.
        if change.account.primary_email().is_some() {
            change.verify_email(now).await.map_err(|error| match error {
                TakeAddressError::Taken => ResetPasswordError::InvalidToken,
                TakeAddressError::Sql(error) => error.into(),
            })?;
            let entry = AuditEntry::new(now, AuditEvent::EmailVerified).account(id).because(claim.purpose.as_str());
            change.record(&entry.actor(Actor::Account).address(origin.ip)).await?;
        }
        change.clear_factors(now).await?;
        change.clear_secondary_emails().await?;
        change.clear_former_addresses().await?;
        change.withdraw_consents(now, origin.ip).await?;
    }
    // The mailbox was enough to set the password, so a code by mail would not be a second factor (I14: factors can't be bypassed).
    change.suspend_email_code().await?;
    let epoch = change.bump_epoch().await?;
    // If the account belonged to nobody, there is no owner to notify.
    let notified = if change.account.email_verified { Some(change.account.email.clone()) } else { claim.about.clone() };
    if !belonged_to_nobody
        && let Some(to) = notified.filter(|_| !state.config.mail.notices_off.contains(&Template::PasswordChanged))
    {
        let notice = account_mail::notice(state, &change.account, origin, now).await?;
        account_mail::enqueue(state, &mut change, &to, origin, MailData::PasswordChanged { notice }).await?;
    }
    // The sessions end before the commit. Otherwise they would outlive the former password if the node stopped in between.
    let ended = state
        .redis
        .sessions
        .revoke_all(AccountSessions::all(id).with_epoch(epoch), EndReason::PasswordChanged, now)
        .await?;
    record_ended(&mut change, EndReason::PasswordChanged, ended, now).await?;
    // A thief of the former password may have signed in from a device or a network that the account recognizes.
    limits::forget_devices(state, id).await?;
    change.commit().await?;
    tracing::info!(
        account = %id,
        sessions_ended = ended,
        purpose = claim.purpose.as_str(),
        "the password of an account was set with a link or a code from a mail: its sessions have ended"
    );
    Ok(())
}
