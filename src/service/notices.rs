//! Sends notices of events that the owner of an account may not have caused, such as a sign-in from a new device or reuse of a refresh
//! token. A notice that can't be sent does not fail the request.
//!
//! Each function boxes its future, so that the futures of the callers stay small. The allocation does not matter: notices are rare.

use std::net::IpAddr;

use crate::{
    domain::{
        account::Account,
        ids::AccountId,
        mail::{MailData, Template},
    },
    service::{account_mail, error::ServiceError, factors::recovery_codes::LOW_COUNT, request_origin::RequestOrigin},
    state::AppState,
};

/// Notifies the owner of a sign-in from a new device and network.
pub(super) async fn new_device(state: &AppState, account: &Account, origin: &RequestOrigin) {
    let sent = Box::pin(async {
        if account_mail::should_notify(state, account, Template::NewDevice) {
            let notice = account_mail::notice(state, account, origin, state.clock.now()).await?;
            account_mail::send(state, account, &account.email, origin, MailData::NewDevice { notice }).await?;
        }
        Ok::<_, ServiceError>(())
    });
    if let Err(error) = sent.await {
        tracing::warn!(
            %error,
            account = %account.id,
            "someone signed in from a new device, and the notice could not be queued: the owner gets none. If the sign-in looks suspicious \
             (`latchkey audit --account ID`), inform the owner"
        );
    }
}

/// Notifies the owner that a recovery code was used, with a second mail if at most [`LOW_COUNT`] codes remain.
pub(super) async fn recovery_code_used(state: &AppState, account: &Account, origin: &RequestOrigin, remaining: u32) {
    let sent = Box::pin(async {
        if account_mail::should_notify(state, account, Template::RecoveryCodeUsed) {
            let notice = account_mail::notice(state, account, origin, state.clock.now()).await?;
            let data = MailData::RecoveryCodeUsed { remaining, notice };
            account_mail::send(state, account, &account.email, origin, data).await?;
        }
        // a reminder and not a notice, so without the link "this wasn't me"
        if remaining <= LOW_COUNT && account_mail::should_notify(state, account, Template::RecoveryCodesLow) {
            let data = MailData::RecoveryCodesLow { remaining };
            account_mail::send(state, account, &account.email, origin, data).await?;
        }
        Ok::<_, ServiceError>(())
    });
    if let Err(error) = sent.await {
        tracing::warn!(
            %error,
            account = %account.id,
            "a recovery code was used, and the notice could not be queued: the owner gets none. If the sign-in looks suspicious \
             (`latchkey audit --account ID`), inform the owner"
        );
    }
}

/// Notifies the owner that a session was ended because of the reuse of a refresh token (I2: reuse ends the session).
pub(super) async fn session_reuse(state: &AppState, account: AccountId, ip: Option<IpAddr>) {
    let sent = Box::pin(async {
        // the account may have been deleted meanwhile
        let Some(account) = state.sql.account(account).await? else { return Ok(()) };
        if account_mail::should_notify(state, &account, Template::SessionReuse) {
            let origin = RequestOrigin { ip, ..RequestOrigin::default() };
            let notice = account_mail::notice(state, &account, &origin, state.clock.now()).await?;
            account_mail::send(state, &account, &account.email, &origin, MailData::SessionReuse { notice }).await?;
        }
        Ok::<_, ServiceError>(())
    });
    if let Err(error) = sent.await {
        tracing::warn!(
            %error,
            %account,
            "a session was ended because its refresh token was reused and may be stolen, and the notice could not be queued: the owner gets \
             none. Inform the owner"
        );
    }
}

/// Notifies the owner that a passkey was refused because its signature counter did not grow: the passkey may have been copied.
pub(super) async fn passkey_copied(state: &AppState, account: &Account, origin: &RequestOrigin) {
    let sent = Box::pin(async {
        if account_mail::should_notify(state, account, Template::PasskeyCopied) {
            let notice = account_mail::notice(state, account, origin, state.clock.now()).await?;
            account_mail::send(state, account, &account.email, origin, MailData::PasskeyCopied { notice }).await?;
        }
        Ok::<_, ServiceError>(())
    });
    if let Err(error) = sent.await {
        tracing::warn!(
            %error,
            account = %account.id,
            "a passkey was refused because it may have been copied, and the notice could not be queued: the owner gets none. Tell the owner to \
             remove the passkey (`latchkey audit --account ID --event passkey_refused` names it)"
        );
    }
}
