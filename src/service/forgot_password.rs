//! Sends a link and a code that set a new password.

use std::sync::Arc;

use crate::{
    domain::{
        account::{Account, Identifier},
        audit::{Actor, AuditEvent, Entry},
        mail::MailData,
        one_time_token::TokenPurpose,
    },
    service::{account_mail, background, error::ServiceError, limits, one_time_tokens, request_origin::RequestOrigin},
    state::AppState,
};

/// Sends the mail, if an account has the identifier. The mail is made after the answer, so that neither the answer nor its
/// time reveals whether there is such an account (I12).
///
/// # Errors
/// [`ServiceError`], for known and unknown accounts alike.
pub async fn forgot_password(
    state: &Arc<AppState>,
    identifier: &Identifier,
    origin: RequestOrigin,
) -> Result<(), ServiceError> {
    limits::recovery(state, origin.ip).await?;
    let account = state.sql.find_account(identifier).await?;
    background::run(state, "forgot_password", move |state| {
        let (account, origin) = (account.clone(), origin.clone());
        async move {
            match account {
                Some(account) if !account.is_closed(state.clock.now()) => send_reset(&state, &account, &origin).await,
                _ => Ok(()),
            }
        }
    });
    Ok(())
}

/// Sends the mail to an account, within the limit of mails that strangers may cause.
pub(super) async fn send_reset(
    state: &AppState,
    account: &Account,
    origin: &RequestOrigin,
) -> Result<(), ServiceError> {
    let purpose = TokenPurpose::ResetPassword;
    if !limits::may_send_mail(state, purpose, account.id).await? {
        return Ok(());
    }
    let issued = one_time_tokens::issue(state, account, purpose, &account.email, &[]).await?;
    let challenge = account_mail::challenge(state, purpose, &issued);
    let now = state.clock.now();
    let data = MailData::PasswordReset { challenge, origin: account_mail::action_origin(origin, now) };
    account_mail::send(state, account, &account.email, origin, data).await?;
    let entry = Entry::new(now, AuditEvent::OneTimeToken).account(account.id).detail(purpose.as_str());
    state.audit.record(entry.by(Actor::Anyone).from(origin.ip));
    Ok(())
}
