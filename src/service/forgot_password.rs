//! Sends the mail for a forgotten password: a link and a code that set a new password.

use std::sync::Arc;

use crate::{
    domain::{
        account::{Account, Email, Identifier},
        audit::{Actor, AuditEntry, AuditEvent},
        mail::MailData,
        one_time_token::TokenPurpose,
    },
    service::{account_mail, background, error::ServiceError, limits, one_time_tokens, request_origin::RequestOrigin},
    state::AppState,
};

/// Sends the mail, if an account has the identifier. The mail goes to the verified secondary address that was typed, or else to the
/// primary address. It is composed after the response, so that neither the response nor its timing reveals whether there is such an
/// account (I12, no account oracle).
///
/// # Errors
/// [`ServiceError`]. The errors are the same for known and unknown accounts.
pub async fn forgot_password(
    state: &Arc<AppState>,
    identifier: &Identifier,
    origin: RequestOrigin,
) -> Result<(), ServiceError> {
    limits::check_self_service(state, origin.ip).await?;
    let account = state.sql.find_account(identifier).await?;
    let identifier = identifier.clone();
    background::run(state, "forgot_password", move |state| {
        // cloned for each attempt: `run` repeats the attempt while a store does not answer
        let (account, identifier, origin) = (account.clone(), identifier.clone(), origin.clone());
        async move {
            // a closed account (disabled, or due for deletion) could not use the link
            let Some(account) = account.filter(|account| !account.is_closed(state.clock.now())) else { return Ok(()) };
            match state.sql.named_email(&account, &identifier).await? {
                Some(to) => send_reset(&state, &account, &to, &origin).await,
                // the secondary address that was typed has been removed meanwhile
                None => Ok(()),
            }
        }
    });
    Ok(())
}

/// Sends the mail, unless the account has reached its limit for mails that unauthenticated clients request.
async fn send_reset(
    state: &AppState,
    account: &Account,
    to: &Email,
    origin: &RequestOrigin,
) -> Result<(), ServiceError> {
    let purpose = TokenPurpose::ResetPassword;
    if !limits::admit_mail(state, purpose, account, to).await? {
        return Ok(());
    }
    // not bound to the browser of the request: the user may open the mail on another device
    let issued = one_time_tokens::issue(state, account, purpose, to, one_time_tokens::NO_SIGN_IN_REQUEST).await?;
    let challenge = account_mail::link_and_code(state, purpose, &issued);
    let now = state.clock.now();
    let data = MailData::PasswordReset { challenge, origin: account_mail::action_origin(origin, now) };
    account_mail::send(state, account, to, origin, data).await?;
    let entry = AuditEntry::new(now, AuditEvent::OneTimeToken).account(account.id).detail(purpose.as_str());
    state.audit.record(entry.actor(Actor::Anyone).address(origin.ip));
    Ok(())
}
