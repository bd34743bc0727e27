//! Lists, renames and removes the passkeys of the caller's account.

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        audit::AuditEvent,
        ids::PasskeyId,
        mail::{FactorChange, NoticeFactor},
        passkey::{Passkey, PasskeyName},
    },
    service::{
        error::ServiceError,
        factors::{
            change::{self, Caller, ChangeFactorsError, ChangeSummary},
            recovery_codes,
        },
        limits,
        token_issuer::Tokens,
    },
    state::AppState,
};

/// The passkeys of the caller's account, oldest first.
///
/// # Errors
/// [`ServiceError`]
pub async fn list(state: &AppState, caller: &AccessClaims) -> Result<Vec<Passkey>, ServiceError> {
    Ok(state.sql.passkeys(caller.sub).await?)
}

/// Renames a passkey.
///
/// # Errors
/// [`ChangeFactorsError`]
pub async fn rename(
    state: &AppState,
    caller: &Caller<'_>,
    id: PasskeyId,
    name: &PasskeyName,
) -> Result<Passkey, ChangeFactorsError> {
    limits::check_passkey(state, caller.origin.ip).await?;
    let mut change = change::begin(state, caller).await?;
    let renamed = change.rename_passkey(id, name).await?.ok_or(ChangeFactorsError::UnknownFactor)?;
    // commits the transaction only: `change::commit` would also end the sessions
    change.commit().await?;
    Ok(renamed)
}

/// Removes a passkey and ends all sessions of the account. If no other factor is left, also removes the recovery codes. Returns the
/// tokens of the session that replaces the caller's.
///
/// # Errors
/// [`ChangeFactorsError`]
pub async fn remove(state: &AppState, caller: &Caller<'_>, id: PasskeyId) -> Result<Tokens, ChangeFactorsError> {
    limits::check_passkey(state, caller.origin.ip).await?;
    let mut change = change::begin(state, caller).await?;
    let now = state.clock.now();
    if !change.remove_passkey(id, now).await? {
        return Err(ChangeFactorsError::UnknownFactor);
    }
    if !change.account.factors.has_aal2_factor() {
        if state.config.factors.required.applies_to(&change.account.roles) {
            // the transaction is not committed, so the passkey stays
            return Err(ChangeFactorsError::FactorRequired);
        }
        recovery_codes::remove_unless_needed(&mut change, now).await?;
    }
    let (event, factor) = (AuditEvent::FactorRemoved, NoticeFactor::Passkey);
    let summary = ChangeSummary { event, change: FactorChange::Removed, factor };
    change::commit(state, change, caller, summary).await
}
