//! Whether a session was authenticated recently and strongly enough for a sensitive change (RFC 9470).

use std::time::Duration;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{account::Account, authentication::Acr},
    service::error::ServiceError,
    state::AppState,
};

/// The user must authenticate again: `POST /v1/me/reauthenticate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the last authentication of the session is too long ago, or too weak")]
pub struct InsufficientAuthentication {
    /// The level that is needed; `None` if the lowest level is enough.
    pub acr: Option<Acr>,
    /// The age up to which an authentication is accepted; `None` if every age is.
    pub max_age: Option<Duration>,
}

/// Checks that the caller authenticated at most `session.recent` ago, and at `aal2` if the account has an authenticator app or a
/// passkey. Every sensitive change of the account calls this.
///
/// # Errors
/// [`ServiceError::InsufficientAuthentication`], [`ServiceError`]
pub async fn require_recent(state: &AppState, caller: &AccessClaims) -> Result<(), ServiceError> {
    // For a deleted account the lowest level is enough here, because the change itself then fails.
    let account = state.sql.account(caller.sub).await?;
    let acr = account.as_ref().map_or(Acr::Aal1, required_acr);
    Ok(check(state, caller, Some(acr), Some(state.config.session.recent))?)
}

/// Like [`require_recent`], for a change whose caller also sends the current password. Without an authenticator app and a passkey,
/// the password alone is a recent authentication.
///
/// # Errors
/// [`ServiceError::InsufficientAuthentication`]
pub(super) fn require_recent_besides_password(
    state: &AppState,
    caller: &AccessClaims,
    account: &Account,
) -> Result<(), ServiceError> {
    match required_acr(account) {
        Acr::Aal1 => Ok(()),
        acr => Ok(check(state, caller, Some(acr), Some(state.config.session.recent))?),
    }
}

/// The level that sensitive changes of an account need.
pub(super) const fn required_acr(account: &Account) -> Acr {
    if account.factors.has_aal2_factor() { Acr::Aal2 } else { Acr::Aal1 }
}

/// Checks the level and the age of the authentication that an access token names. `None` stands for any level or any age.
///
/// # Errors
/// [`InsufficientAuthentication`] with both requirements, even if one of them is met.
pub fn check(
    state: &AppState,
    caller: &AccessClaims,
    acr: Option<Acr>,
    max_age: Option<Duration>,
) -> Result<(), InsufficientAuthentication> {
    let caller_acr = Acr::parse(&caller.acr).unwrap_or(Acr::Aal1);
    let is_strong_enough = acr.is_none_or(|needed| caller_acr >= needed);
    let age_secs = state.clock.now().as_secs().saturating_sub(caller.auth_time);
    let is_recent = max_age.is_none_or(|max_age| age_secs <= i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX));
    if is_strong_enough && is_recent {
        return Ok(());
    }
    // The lowest level is not reported, because every session has it.
    Err(InsufficientAuthentication { acr: acr.filter(|acr| *acr > Acr::Aal1), max_age })
}
