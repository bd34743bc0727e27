//! Lets an operator, an admin or a service client remove all factors of an account whose owner has lost them.

use crate::{
    domain::{
        account::Account,
        audit::{AuditEntry, AuditEvent},
        clock::Timestamp,
        event::EndReason,
        factor::{FactorKind, Factors},
        mail::{FactorChange, MailData, NoticeFactor, Template},
    },
    service::{
        account_mail, accounts::record_ended, error::ServiceError, initiator::Initiator, request_origin::RequestOrigin,
    },
    state::AppState,
    store::redis::AccountSessions,
};

/// Removes all factors and recovery codes of an account, and ends its sessions. Returns false if the account does not exist. If the
/// account must have a second factor, its owner must set one up at the next sign-in, without a grace period.
///
/// # Errors
/// [`ServiceError`]
pub async fn reset(
    state: &AppState,
    account: &Account,
    initiator: &Initiator,
    origin: &RequestOrigin,
) -> Result<bool, ServiceError> {
    let now = state.clock.now();
    let Some(mut change) = state.sql.change_account(account.id).await? else { return Ok(false) };
    let former_factors = change.account.factors;
    change.clear_factors(now).await?;
    // The grace period counts from this time. It began in 1970, so it has expired.
    change.set_factor_required(Some(Timestamp::from_millis(0))).await?;
    let mut entry = AuditEntry::new(now, AuditEvent::FactorsReset).account(account.id);
    entry.facts.actor = initiator.actor();
    change.record(&entry.address(origin.ip)).await?;
    if former_factors != Factors::NONE && account_mail::should_notify(state, &change.account, Template::FactorChanged) {
        let notice = account_mail::operator_notice(now);
        // The notice names one of the removed factors.
        let factor = if former_factors.contains(FactorKind::Totp) {
            NoticeFactor::Totp
        } else if former_factors.contains(FactorKind::Passkey) {
            NoticeFactor::Passkey
        } else {
            NoticeFactor::EmailCode
        };
        let data = MailData::FactorChanged { change: FactorChange::Removed, factor, notice };
        let to = change.account.email.clone();
        // `origin` is the initiator's, and must not choose the language of the owner's mail.
        account_mail::enqueue(state, &mut change, &to, &RequestOrigin::default(), data).await?;
    }
    // The sessions end before the commit: if the commit fails, they have ended needlessly, but none outlives the reset.
    let epoch = change.bump_epoch().await?;
    let ended = state
        .redis
        .sessions
        .revoke_all(AccountSessions::all(account.id).with_epoch(epoch), EndReason::FactorsChanged, now)
        .await?;
    record_ended(&mut change, EndReason::FactorsChanged, ended, now).await?;
    change.commit().await?;
    tracing::info!(
        account = %account.id,
        sessions_ended = ended,
        "an admin, a client or an operator has reset the account's second factors, and its sessions ended; the audit log names the actor"
    );
    Ok(true)
}
