//! Revokes a token, and with it its session (RFC 7009).

use std::net::IpAddr;

use crate::{
    crypto::access_token::IssuedToken,
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        client::Client,
        event::EndReason,
    },
    service::{authenticate::verify_issued_token, decode_refresh_token::decode_refresh_token, error::ServiceError},
    state::AppState,
};

/// Ends the session of a refresh token or an access token. `caller` is the client of the request; `None` is the first-party client,
/// for which possession of the token suffices.
///
/// Does nothing for an invalid token and for a token whose session has ended (RFC 7009, section 2.2). Does nothing for the token of a
/// service client, nor for a token that is for none of the calling client's audiences. The result is the same in all cases, so it does not
/// reveal whether a token is genuine.
///
/// # Errors
/// [`ServiceError`]
pub async fn revoke_token(
    state: &AppState,
    caller: Option<&Client>,
    token: &str,
    ip: Option<IpAddr>,
) -> Result<(), ServiceError> {
    let (reason, actor) = match caller {
        None => (EndReason::Logout, Actor::Account),
        Some(client) if !client.is_service() => return revoke_own(state, client, token, ip).await,
        Some(client) if client.audiences.contains(&state.config.token.audience) => {
            (EndReason::Revoked, Actor::Client(client.id.clone()))
        }
        Some(_) => return Ok(()),
    };
    let (account, session) = match decode_refresh_token(state, token).await? {
        Some(claims) => (claims.account, claims.session),
        None => match verify_issued_token(state, token).await {
            Ok(IssuedToken::Session(verified)) => (verified.sub, verified.sid),
            Ok(IssuedToken::App(_) | IssuedToken::Client(_)) | Err(_) => return Ok(()),
        },
    };
    let now = state.clock.now();
    if state.redis.sessions.revoke(account, session, reason, now).await? {
        let entry = AuditEntry::new(now, AuditEvent::SessionEnded).because(reason.as_str());
        state.audit.record(entry.account(account).session(session).actor(actor).address(ip));
    }
    Ok(())
}

/// Ends the session of an app's own token (RFC 7009, section 2.1: a token that was issued to another client is refused).
async fn revoke_own(state: &AppState, client: &Client, token: &str, ip: Option<IpAddr>) -> Result<(), ServiceError> {
    let (account, session) = match decode_refresh_token(state, token).await? {
        Some(claims) => (claims.account, claims.session),
        None => match verify_issued_token(state, token).await {
            Ok(IssuedToken::Session(verified) | IssuedToken::App(verified)) => (verified.sub, verified.sid),
            Ok(IssuedToken::Client(_)) | Err(_) => return Ok(()),
        },
    };
    let now = state.clock.now();
    let found = state.redis.sessions.find(account, session, now).await?;
    let is_own =
        found.is_some_and(|found| found.session.client.is_some_and(|grant| grant.client_id == client.id.as_str()));
    if is_own && state.redis.sessions.revoke(account, session, EndReason::Logout, now).await? {
        let entry = AuditEntry::new(now, AuditEvent::SessionEnded).because(EndReason::Logout.as_str());
        let entry = entry.account(account).session(session).client(client.id.clone());
        state.audit.record(entry.actor(Actor::Account).address(ip));
    }
    Ok(())
}
