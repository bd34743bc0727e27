//! Removes the factors that an attacker with a stolen session may have added, when the owner reports an action as not theirs.
//!
//! With a passkey of their own, an attacker could still sign in after the password was reset. Any factor of the attacker could lock the owner
//! out. Earlier factors stay: access to the owner's mailbox must not bypass them (I14).

use std::net::IpAddr;

use crate::{
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        clock::Timestamp,
        factor::FactorKind,
    },
    service::error::ServiceError,
    store::sql::AccountChange,
};

/// Removes the passkeys, authenticator apps and recovery codes that were added at `since` or later, as part of a change. Also removes older
/// recovery codes if no factor is left that they could replace.
pub(in crate::service) async fn remove_since(
    change: &mut AccountChange,
    since: Timestamp,
    now: Timestamp,
    ip: Option<IpAddr>,
) -> Result<(), ServiceError> {
    // the kinds for the audit log: one entry for each passkey, and one for all apps
    let mut removed = Vec::new();
    for passkey in change.passkeys().await? {
        if passkey.created_at >= since {
            change.remove_passkey(passkey.id, now).await?;
            removed.push(FactorKind::Passkey);
        }
    }
    let apps = change.totp_factors().await?;
    let (suspects, kept): (Vec<_>, Vec<_>) = apps.into_iter().partition(|app| app.created_at >= since);
    for app in &suspects {
        change.remove_totp(app.id).await?;
    }
    // An app that is not confirmed is not a factor yet.
    if suspects.iter().any(|app| app.confirmed_at.is_some()) {
        let keeps_an_app = kept.iter().any(|app| app.confirmed_at.is_some());
        change.set_factor(FactorKind::Totp, keeps_an_app, now).await?;
        removed.push(FactorKind::Totp);
    }
    let made_at = change.recovery_codes_made_at().await?;
    // `change.account.factors` no longer contains the factors that were removed above.
    if made_at.is_some_and(|at| at >= since || !change.account.factors.has_any()) {
        let (no_key, no_digests) = (&[], &[]);
        change.set_recovery_codes(no_key, no_digests, now).await?;
        change.set_factor(FactorKind::RecoveryCode, false, now).await?;
        removed.push(FactorKind::RecoveryCode);
    }
    for kind in removed {
        let entry = AuditEntry::new(now, AuditEvent::FactorRemoved).account(change.account.id).detail(kind.as_str());
        let reason = "suspect";
        change.record(&entry.because(reason).actor(Actor::Account).address(ip)).await?;
    }
    Ok(())
}
