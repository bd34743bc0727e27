//! Revokes a token, and with it its session (RFC 7009).

use std::net::IpAddr;

use crate::{
    crypto::access_token::IssuedToken,
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        client::{Client, ClientId},
        clock::Timestamp,
        event::EndReason,
        ids::{AccountId, SessionId},
    },
    service::{
        authenticate::{VerifyError, verify_issued_token},
        decode_refresh_token::decode_refresh_token,
        error::ServiceError,
    },
    state::AppState,
};

/// Ends the session of a refresh token or an access token. `caller` is the client of the request; `None` is the first-party client,
/// for which possession of the token suffices.
///
/// Does nothing for an invalid token, for a token whose session has ended (RFC 7009, section 2.2) and for the token of a service client.
/// Does nothing either if a service calls without the audience of the sessions' tokens, or if an access token was issued to another app
/// (section 2.1). The result is the same in all cases, so it does not reveal whether a token is genuine.
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
        // A service client without the audience of the sessions' tokens.
        Some(_) => return Ok(()),
    };
    let now = state.clock.now();
    let (account, session) = match decode_refresh_token(state, token).await? {
        // The holder of a refresh token may end the token's session, even the session of an app without the app's credentials. To
        // find out whether an app has the session would take a second round trip (I8: a logout takes one).
        Some(claims) => (claims.account, claims.session),
        None => match verify_issued_token(state, token).await {
            Ok(IssuedToken::Session(verified)) => (verified.sub, verified.sid),
            Ok(IssuedToken::App(_) | IssuedToken::Client(_)) | Err(VerifyError::Refused(_)) => return Ok(()),
            Err(VerifyError::Service(error)) => return Err(error),
        },
    };
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
            Ok(IssuedToken::Client(_)) | Err(VerifyError::Refused(_)) => return Ok(()),
            Err(VerifyError::Service(error)) => return Err(error),
        },
    };
    let now = state.clock.now();
    if is_issued_to_another(state, account, session, &client.id, now).await? {
        return Ok(());
    }
    if state.redis.sessions.revoke(account, session, EndReason::Logout, now).await? {
        let entry = AuditEntry::new(now, AuditEvent::SessionEnded).because(EndReason::Logout.as_str());
        let entry = entry.account(account).session(session).client(client.id.clone());
        state.audit.record(entry.actor(Actor::Account).address(ip));
    }
    Ok(())
}

/// Whether a live session was issued to another client than `app`. False for a session that has ended: to revoke such a session changes
/// nothing, but waits until no node accepts the session (I3: revoked stays revoked).
async fn is_issued_to_another(
    state: &AppState,
    account: AccountId,
    session: SessionId,
    app: &ClientId,
    now: Timestamp,
) -> Result<bool, ServiceError> {
    let found = state.redis.sessions.find(account, session, now).await?;
    let Some(found) = found else { return Ok(false) };
    let owner = found.session.client.as_deref().map(|grant| grant.client_id.as_str());
    Ok(owner != Some(app.as_str()))
}
