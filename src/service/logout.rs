//! Signs a user out: ends the session of each genuine credential on every node before the response is sent (I3).

use std::net::IpAddr;

use futures_util::future::join_all;

use crate::{
    crypto::access_token::{IssuedToken, TokenError},
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        event::EndReason,
        ids::{AccountId, SessionId},
    },
    service::{
        authenticate::{self, VerifyError},
        decode_refresh_token::decode_refresh_token,
        error::{ServiceError, from_store_errors},
    },
    state::AppState,
};

/// The credentials that a sign-out presents. Each may be missing, expired or invalid.
#[derive(Clone, Default)]
pub struct LogoutInput {
    /// The access token of `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// The refresh token in the request's body.
    pub body_token: Option<String>,
    /// The refresh token in the session cookie.
    pub cookie: Option<String>,
    /// The client's address.
    pub ip: Option<IpAddr>,
}

/// The result of a sign-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogoutOutcome {
    /// The number of credentials presented; at least one.
    pub presented: usize,
    /// The number of credentials that name a session of this service. They may have expired, and their sessions may have ended before.
    pub genuine: usize,
    /// The number of sessions that ended.
    pub ended: usize,
}

/// Why a sign-out failed.
#[derive(Debug, thiserror::Error)]
pub enum LogoutError {
    /// No credential was presented.
    #[error("no access token, refresh token or session cookie was presented")]
    NothingPresented,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(LogoutError);

/// Ends the session that each genuine credential in `input` names, expired access tokens included. A session that has already
/// ended is not an error, so that a sign-out can be repeated. An invalid credential does not keep the others from ending their
/// sessions.
///
/// # Errors
/// [`LogoutError`]. If Redis does not answer for one of several sessions, the others still end.
pub async fn logout(state: &AppState, input: LogoutInput) -> Result<LogoutOutcome, LogoutError> {
    let LogoutInput { bearer, body_token, cookie, ip } = input;
    let mut presented = 0;
    let mut sessions = Vec::new();
    let mut failure: Option<LogoutError> = None;
    if let Some(token) = bearer {
        presented += 1;
        match session_of_access_token(state, &token).await {
            Ok(session) => sessions.extend(session),
            Err(error) => failure = Some(error.into()),
        }
    }
    for token in [body_token, cookie].into_iter().flatten() {
        presented += 1;
        match decode_refresh_token(state, &token).await {
            Ok(Some(claims)) => sessions.push((claims.account, claims.session)),
            Ok(None) => {} // an invalid token
            Err(error) => failure = Some(error.into()),
        }
    }
    if presented == 0 {
        return Err(LogoutError::NothingPresented);
    }
    let genuine = sessions.len();
    // several credentials may belong to one session
    sessions.sort_unstable();
    sessions.dedup();
    let endings = sessions.into_iter().map(|(account, session)| end_session(state, account, session, ip));
    let mut ended = 0;
    for outcome in join_all(endings).await {
        match outcome {
            Ok(true) => ended += 1,
            Ok(false) => {}
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(LogoutOutcome { presented, genuine, ended }),
    }
}

/// Ends a session. Returns whether it was live.
async fn end_session(
    state: &AppState,
    account: AccountId,
    session: SessionId,
    ip: Option<IpAddr>,
) -> Result<bool, LogoutError> {
    let now = state.clock.now();
    let ended = state.redis.sessions.revoke(account, session, EndReason::Logout, now).await?;
    if ended {
        let entry = AuditEntry::new(now, AuditEvent::SessionEnded).because(EndReason::Logout.as_str());
        state.audit.record(entry.account(account).session(session).actor(Actor::Account).address(ip));
    }
    Ok(ended)
}

/// The account and the session of a first-party access token, expired or not. `None` for an invalid token, for a service client's own
/// token, which has no session, and for a token for other audiences, with which a resource server could end the session.
///
/// # Errors
/// [`ServiceError`] if the token may be valid on other nodes.
async fn session_of_access_token(
    state: &AppState,
    token: &str,
) -> Result<Option<(AccountId, SessionId)>, ServiceError> {
    let verified = match authenticate::verify_issued_token(state, token).await {
        Ok(verified) => Ok(verified),
        Err(VerifyError::Refused(TokenError::Expired)) => state.tokens.verify_ignoring_times(token, state.clock.now()),
        Err(VerifyError::Refused(error)) => Err(error),
        Err(VerifyError::Service(error)) => return Err(error),
    };
    let claims = verified.and_then(IssuedToken::into_session).ok();
    Ok(claims.map(|claims| (claims.sub, claims.sid)))
}
