//! A token is given back: its session ends (RFC 7009).

use std::net::IpAddr;

use crate::{
    crypto::access_token::Verified,
    domain::{
        audit::{Actor, AuditEvent, Entry},
        client::Client,
        event::Reason,
    },
    service::{
        authenticate::{self, AuthenticateError},
        error::ServiceError,
    },
    state::AppState,
};

/// Why a token wasn't revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeTokenError {
    /// It is for none of the client's audiences.
    #[error("the token is none of the client's business")]
    NotYours,
    /// A service client's own access token: it stands for no session, and expires within minutes.
    #[error("a service client's own access token can't be revoked")]
    Unsupported,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Ends the session of a refresh token or an access token. Whoever holds a token may give it back, as a sign-out does; a
/// service client (`caller`) may end the sessions whose tokens are for one of its audiences. A token that isn't valid, or
/// whose session is over, is no error (RFC 7009, section 2.2).
///
/// # Errors
/// [`RevokeTokenError`]
pub async fn revoke_token(
    state: &AppState,
    caller: Option<&Client>,
    token: &str,
    ip: Option<IpAddr>,
) -> Result<(), RevokeTokenError> {
    let (account, session) = match state.refresh_tokens.decode(token) {
        Ok(claims) => (claims.account, claims.session),
        Err(_) => match authenticate::verify_issued(state, token).await {
            Ok(Verified::Session(verified)) => (verified.sub, verified.sid),
            Ok(Verified::Client(_)) => return Err(RevokeTokenError::Unsupported),
            Err(AuthenticateError::InvalidToken) => return Ok(()),
            Err(AuthenticateError::Service(failure)) => return Err(failure.into()),
        },
    };
    let reason = match caller {
        None => Reason::Logout,
        Some(client) if client.audiences.contains(&state.config.token.audience) => Reason::Revoked,
        Some(_) => return Err(RevokeTokenError::NotYours),
    };
    let now = state.clock.now();
    if state.redis.sessions.revoke(account, session, reason, now).await.map_err(ServiceError::from)? {
        let actor = caller.map_or(Actor::Account, |client| Actor::Client(client.id.clone()));
        let entry = Entry::new(now, AuditEvent::SessionEnded).because(reason.as_str());
        state.audit.record(entry.account(account).session(session).by(actor).from(ip));
    }
    Ok(())
}
