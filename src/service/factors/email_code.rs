//! Switches codes by mail on and off as a second factor of an account (`factors.email_code`).

use super::{
    change::{self, Caller, ChangeFactorsError, ChangeSummary, FactorsChanged},
    recovery_codes,
};
use crate::{
    domain::{
        audit::AuditEvent,
        factor::FactorKind,
        mail::{FactorChange, NoticeFactor},
    },
    service::token_issuer::Tokens,
    state::AppState,
};

/// Switches codes by mail on for the caller's account: from now on a sign-in by password requires a code. The account
/// also gets recovery codes, unless it has some.
///
/// # Errors
/// [`ChangeFactorsError`]
pub async fn enable(state: &AppState, caller: &Caller<'_>) -> Result<FactorsChanged, ChangeFactorsError> {
    if !state.config.factors.email_code {
        return Err(ChangeFactorsError::EmailCodeOff);
    }
    let mut change = change::begin(state, caller).await?;
    let now = state.clock.now();
    let factors = change.account.factors;
    if factors.contains(FactorKind::EmailCode) {
        return Err(ChangeFactorsError::EmailCodeOn);
    }
    if !change.account.email_verified {
        return Err(ChangeFactorsError::EmailNotVerified);
    }
    // A code by mail is the second factor of a sign-in by password only.
    if change.account.password_hash.is_none() {
        return Err(ChangeFactorsError::NoPassword);
    }
    change.set_factor(FactorKind::EmailCode, true, now).await?;
    let has_codes = factors.contains(FactorKind::RecoveryCode);
    let recovery_codes = if has_codes { Vec::new() } else { recovery_codes::generate(state, &mut change, now).await? };
    let summary =
        ChangeSummary { event: AuditEvent::FactorAdded, change: FactorChange::Added, factor: NoticeFactor::EmailCode };
    let tokens = change::commit(state, change, caller, summary).await?;
    Ok(FactorsChanged { tokens, recovery_codes })
}

/// Switches codes by mail off for the caller's account, also while `factors.email_code` is off. Removes the recovery codes if no other
/// factor is left. If the account must have a second factor, codes by mail are too weak to be that factor, and can be switched off.
///
/// # Errors
/// [`ChangeFactorsError`]
pub async fn disable(state: &AppState, caller: &Caller<'_>) -> Result<Tokens, ChangeFactorsError> {
    let mut change = change::begin(state, caller).await?;
    let now = state.clock.now();
    if !change.account.factors.contains(FactorKind::EmailCode) {
        return Err(ChangeFactorsError::UnknownFactor);
    }
    change.set_factor(FactorKind::EmailCode, false, now).await?;
    recovery_codes::remove_unless_needed(&mut change, now).await?;
    let summary = ChangeSummary {
        event: AuditEvent::FactorRemoved,
        change: FactorChange::Removed,
        factor: NoticeFactor::EmailCode,
    };
    change::commit(state, change, caller, summary).await
}
