//! A user looks at the sessions of the account, and ends some.

use std::net::IpAddr;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        audit::{Actor, AuditEvent, Entry},
        event::Reason,
        ids::SessionId,
        session::Session,
    },
    service::error::ServiceError,
    state::AppState,
};

/// The live sessions of the caller's account, oldest first.
///
/// # Errors
/// [`ServiceError`]
pub async fn list(state: &AppState, caller: &AccessClaims) -> Result<Vec<Session>, ServiceError> {
    Ok(state.redis.sessions.list(caller.sub, state.clock.now()).await?)
}

/// Ends one of them; says whether there was such a session.
///
/// # Errors
/// [`ServiceError`]
pub async fn revoke(
    state: &AppState,
    caller: &AccessClaims,
    session: SessionId,
    ip: Option<IpAddr>,
) -> Result<bool, ServiceError> {
    let now = state.clock.now();
    let ended = state.redis.sessions.revoke(caller.sub, session, Reason::Revoked, now).await?;
    if ended {
        let entry = Entry::new(now, AuditEvent::SessionEnded).because(Reason::Revoked.as_str());
        state.audit.note(entry.account(caller.sub).session(session).by(Actor::Account).from(ip));
    }
    Ok(ended)
}

/// Ends all of them, or all but the caller's own; says how many.
///
/// # Errors
/// [`ServiceError`]
pub async fn revoke_all(
    state: &AppState,
    caller: &AccessClaims,
    keep_current: bool,
    ip: Option<IpAddr>,
) -> Result<u64, ServiceError> {
    let now = state.clock.now();
    let except = keep_current.then_some(caller.sid);
    let ended = state.redis.sessions.revoke_all(caller.sub, except, None, Reason::Revoked, now).await?;
    if ended > 0 {
        let entry = Entry::new(now, AuditEvent::SessionsEnded).because(Reason::Revoked.as_str()).count(ended);
        state.audit.note(entry.account(caller.sub).by(Actor::Account).from(ip));
    }
    Ok(ended)
}
