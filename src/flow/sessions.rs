//! A user looks at the sessions of the account, and ends some.

use std::net::IpAddr;

use crate::{
    app::App,
    crypto::access_token::AccessClaims,
    domain::{
        audit::{Actor, AuditEvent, Entry},
        event::Reason,
        ids::SessionId,
        session::Session,
    },
    flow::error::Failure,
};

/// The live sessions of the caller's account, oldest first.
///
/// # Errors
/// [`Failure`]
pub async fn list(app: &App, caller: &AccessClaims) -> Result<Vec<Session>, Failure> {
    Ok(app.redis.list(caller.sub, app.clock.now()).await?)
}

/// Ends one of them; says whether there was such a session.
///
/// # Errors
/// [`Failure`]
pub async fn revoke(app: &App, caller: &AccessClaims, session: SessionId, ip: Option<IpAddr>) -> Result<bool, Failure> {
    let now = app.clock.now();
    let ended = app.redis.revoke(caller.sub, session, Reason::Revoked, now).await?;
    if ended {
        let entry = Entry::new(now, AuditEvent::SessionEnded).because(Reason::Revoked.as_str());
        app.audit.note(entry.account(caller.sub).session(session).by(Actor::Account).from(ip));
    }
    Ok(ended)
}

/// Ends all of them, or all but the caller's own; says how many.
///
/// # Errors
/// [`Failure`]
pub async fn revoke_all(
    app: &App,
    caller: &AccessClaims,
    keep_current: bool,
    ip: Option<IpAddr>,
) -> Result<u64, Failure> {
    let now = app.clock.now();
    let except = keep_current.then_some(caller.sid);
    let ended = app.redis.revoke_all(caller.sub, except, None, Reason::Revoked, now).await?;
    if ended > 0 {
        let entry = Entry::new(now, AuditEvent::SessionsEnded).because(Reason::Revoked.as_str()).count(ended);
        app.audit.note(entry.account(caller.sub).by(Actor::Account).from(ip));
    }
    Ok(ended)
}
