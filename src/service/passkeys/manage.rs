//! Lists, renames and removes the passkeys of the caller's account.

use std::net::IpAddr;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        audit::{Actor, AuditEvent, Entry},
        ids::PasskeyId,
        mail::{FactorChange, FactorKind},
        passkey::{Passkey, PasskeyName},
    },
    service::{
        error::{ServiceError, from_store_errors},
        factor_change::{self, FactorChangeError, FactorChanger},
        limits,
        recent_authentication::require_recent,
        token_issuer::Tokens,
    },
    state::AppState,
};

/// Why a passkey was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ManagePasskeyError {
    /// The account has no such passkey.
    #[error("the account has no such passkey")]
    Unknown,
    /// The change could not be finished.
    #[error(transparent)]
    Change(#[from] FactorChangeError),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(ManagePasskeyError);

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
/// [`ManagePasskeyError`]
pub async fn rename(
    state: &AppState,
    caller: &AccessClaims,
    id: PasskeyId,
    name: &PasskeyName,
    ip: Option<IpAddr>,
) -> Result<Passkey, ManagePasskeyError> {
    limits::passkey(state, ip).await?;
    let renamed = state.sql.rename_passkey(caller.sub, id, name).await?.ok_or(ManagePasskeyError::Unknown)?;
    let entry = Entry::new(state.clock.now(), AuditEvent::PasskeyRenamed).account(caller.sub).session(caller.sid);
    state.audit.record(entry.detail(id.to_string()).by(Actor::Account).from(ip));
    Ok(renamed)
}

/// Removes a passkey and ends all other sessions of the account. Returns the tokens of the session that takes the place of the
/// caller's.
///
/// # Errors
/// [`ManagePasskeyError`]
pub async fn remove(state: &AppState, by: FactorChanger<'_>, id: PasskeyId) -> Result<Tokens, ManagePasskeyError> {
    require_recent(state, by.caller).await?;
    limits::passkey(state, by.origin.ip).await?;
    let change = state.sql.change_account(by.caller.sub).await?;
    let mut change = change.ok_or(ManagePasskeyError::Unknown)?;
    if !change.remove_passkey(id).await? {
        return Err(ManagePasskeyError::Unknown);
    }
    let entry = Entry::new(state.clock.now(), AuditEvent::PasskeyRemoved).detail(id.to_string());
    Ok(factor_change::finish(state, change, by, entry, (FactorKind::Passkey, FactorChange::Removed)).await?)
}
