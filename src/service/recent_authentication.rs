//! Whether a session was authenticated recently enough for a sensitive change (RFC 9470).

use std::time::Duration;

use crate::{crypto::access_token::AccessClaims, state::AppState};

/// The session must authenticate again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the last authentication of the session is too long ago")]
pub struct TooLongAgo {
    /// The age up to which an authentication is accepted (`account.recent_authentication`).
    pub max_age: Duration,
}

/// Checks that the caller's last authentication is at most `account.recent_authentication` ago.
///
/// # Errors
/// [`TooLongAgo`]
pub fn require_recent(state: &AppState, caller: &AccessClaims) -> Result<(), TooLongAgo> {
    let max_age = state.config.account.recent_authentication;
    let age = state.clock.now().as_secs().saturating_sub(caller.auth_time);
    let limit = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
    if age <= limit { Ok(()) } else { Err(TooLongAgo { max_age }) }
}
