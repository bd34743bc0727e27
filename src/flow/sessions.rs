//! A user looks at the sessions of the account, and ends some.

use crate::{
    app::App,
    crypto::access_token::AccessClaims,
    domain::{event::Reason, ids::SessionId, session::Session},
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
pub async fn revoke(app: &App, caller: &AccessClaims, session: SessionId) -> Result<bool, Failure> {
    Ok(app.redis.revoke(caller.sub, session, Reason::Revoked, app.clock.now()).await?)
}

/// Ends all of them, or all but the caller's own; says how many.
///
/// # Errors
/// [`Failure`]
pub async fn revoke_all(app: &App, caller: &AccessClaims, keep_current: bool) -> Result<u64, Failure> {
    let except = keep_current.then_some(caller.sid);
    Ok(app.redis.revoke_all(caller.sub, except, None, Reason::Revoked, app.clock.now()).await?)
}
