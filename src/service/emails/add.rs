//! Adds a secondary address. The address has no effect until its owner uses a link or a code from a mail to it.

use super::{AccountEmail, ChangeEmailsError};
use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        account::Email,
        audit::{Actor, AuditEntry, AuditEvent},
        event::EndReason,
        mail::{AddressChange, MailData},
        one_time_token::TokenPurpose,
        session::AcceptedTransport,
    },
    service::{
        account_mail, change_email,
        factors::change::Caller,
        limits, one_time_tokens,
        recent_authentication::require_recent,
        replace_sessions::{end_sessions, replace_sessions},
        request_origin::RequestOrigin,
        token_issuer::Tokens,
        verify_email::VerifyEmailError,
    },
    state::AppState,
    store::sql::{AccountChange, SecondaryEmail, TakeAddressError},
};

/// Adds an address, and sends a link and a code to it. If another account has verified the address, the mail is a notice to its owner.
/// The result does not reveal which mail was sent (I12: no account oracle). For an address that was added and is not verified yet, sends the
/// mail again.
///
/// # Errors
/// [`ChangeEmailsError`]
pub async fn request(state: &AppState, caller: &Caller<'_>, email: &Email) -> Result<AccountEmail, ChangeEmailsError> {
    let claims = caller.claims;
    let origin = caller.origin;
    require_recent(state, claims).await?;
    limits::check_self_service(state, origin.ip).await?;
    limits::check_account_change(state, claims.sid, origin.ip).await?;
    let now = state.clock.now();
    let purpose = TokenPurpose::AddEmail;
    let is_taken = change_email::is_owned_by_another(state, claims.sub, email).await?;
    let mut change = super::change::lock(state, claims).await?;
    if change.account.email.key() == email.key() {
        return Err(ChangeEmailsError::Exists);
    }
    let emails = change.secondary_emails().await?;
    let secondary = match emails.iter().find(|secondary| secondary.email.key() == email.key()) {
        Some(existing) if existing.verified_at.is_some() => return Err(ChangeEmailsError::Exists),
        Some(existing) => existing.clone(),
        // The primary address counts as well, unless the account has lost it.
        None if emails.len() + usize::from(!change.account.email.as_str().is_empty())
            >= state.config.account.max_emails =>
        {
            return Err(ChangeEmailsError::TooMany);
        }
        None => {
            let new_email = SecondaryEmail {
                id: state.entropy.email_id(now),
                account: change.account.id,
                email: email.clone(),
                verified_at: None,
                created_at: now,
            };
            change.add_secondary_email(&new_email).await?;
            new_email
        }
    };
    // If the address is taken, nobody receives the token. Issuing it keeps both cases equal in their effects and their time (I12).
    let issued =
        one_time_tokens::issue(state, &change.account, purpose, &secondary.email, one_time_tokens::NO_SIGN_IN_REQUEST)
            .await?;
    let data = if is_taken {
        account_mail::address_taken(state, origin)
    } else {
        MailData::VerifyAddress { challenge: account_mail::link_and_code(state, purpose, &issued) }
    };
    account_mail::enqueue(state, &mut change, &secondary.email, origin, data).await?;
    let requested = AuditEntry::new(now, AuditEvent::OneTimeToken).account(claims.sub).session(claims.sid);
    change.record(&requested.detail(purpose.as_str()).actor(Actor::Account).address(origin.ip)).await?;
    change.commit().await?;
    Ok(secondary.into())
}

/// Sends the mail of [`request`] again if `text` is an unverified secondary address of the caller's account. Returns whether it is such an
/// address.
///
/// # Errors
/// [`ChangeEmailsError`]
pub async fn resend_if_unverified(
    state: &AppState,
    caller: &Caller<'_>,
    text: &str,
) -> Result<bool, ChangeEmailsError> {
    let Ok(email) = Email::parse(text) else { return Ok(false) };
    let emails = state.sql.secondary_emails(caller.claims.sub).await?;
    let mut unverified = emails.iter().filter(|secondary| secondary.verified_at.is_none());
    if !unverified.any(|secondary| secondary.email.key() == email.key()) {
        return Ok(false);
    }
    request(state, caller, &email).await?;
    Ok(true)
}

/// Verifies a secondary address whose link or code was used: from now on the account can be found by the address. All sessions end (I5: a
/// change of a verified address ends all sessions). If the caller is signed in, a new session replaces the caller's, and its tokens are
/// returned.
pub(in crate::service) async fn apply(
    state: &AppState,
    mut change: AccountChange,
    address: &Email,
    caller: Option<&AccessClaims>,
    accepted: AcceptedTransport,
    origin: &RequestOrigin,
) -> Result<Option<Tokens>, VerifyEmailError> {
    let id = change.account.id;
    let now = state.clock.now();
    let emails = change.secondary_emails().await?;
    let mut unverified = emails.into_iter().filter(|secondary| secondary.verified_at.is_none());
    let found = unverified.find(|secondary| secondary.email.key() == address.key());
    // The address may have been removed or verified since the link and the code were sent.
    let email = found.ok_or(VerifyEmailError::InvalidToken)?;
    change.verify_secondary_email(&email, now).await.map_err(|error| match error {
        TakeAddressError::Taken => VerifyEmailError::EmailTaken,
        TakeAddressError::Sql(error) => error.into(),
    })?;
    let entry = AuditEntry::new(now, AuditEvent::EmailAdded).account(id).actor(Actor::Account).address(origin.ip);
    change.record(&entry).await?;
    // The notice goes to the primary address only: the owner of the added one knows of the change.
    let also_to = None;
    super::change::notify(state, &mut change, AddressChange::Added, &email.email, also_to, Some(origin)).await?;
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
    tracing::info!(account = %id, "secondary e-mail address of an account verified");
    Ok(tokens)
}
