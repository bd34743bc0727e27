//! A user signs out: the session is over, everywhere, once this has answered (I3).

use std::net::IpAddr;

use crate::{
    domain::{
        audit::{Actor, AuditEvent, Entry},
        event::Reason,
        ids::{AccountId, SessionId},
    },
    service::error::ServiceError,
    state::AppState,
};

/// Which session to end.
#[derive(Clone, Debug)]
pub enum Logout {
    /// That of a refresh token.
    RefreshToken(String),
    /// That of an access token which has been verified.
    Session(AccountId, SessionId),
}

/// Why a sign-out was refused.
#[derive(Debug, thiserror::Error)]
pub enum LogoutError {
    /// The refresh token isn't one of ours.
    #[error("the refresh token is not valid")]
    InvalidToken,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Ends a session. Ending one that is over already is no error, so that this can be repeated.
///
/// # Errors
/// [`LogoutError`]
pub async fn logout(state: &AppState, input: Logout, ip: Option<IpAddr>) -> Result<(), LogoutError> {
    let (account, session) = match input {
        Logout::Session(account, session) => (account, session),
        Logout::RefreshToken(token) => {
            let claims = state.refresh_tokens.decode(&token).map_err(|_| LogoutError::InvalidToken)?;
            (claims.account, claims.session)
        }
    };
    let now = state.clock.now();
    if state.redis.sessions.revoke(account, session, Reason::Logout, now).await.map_err(ServiceError::from)? {
        let entry = Entry::new(now, AuditEvent::SessionEnded).because(Reason::Logout.as_str());
        state.audit.note(entry.account(account).session(session).by(Actor::Account).from(ip));
    }
    Ok(())
}
