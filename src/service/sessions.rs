//! Lists and ends the sessions of an account, for its owner and for operators.

use std::net::IpAddr;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        event::EndReason,
        ids::{AccountId, SessionId},
        session::Session,
    },
    service::{error::ServiceError, recent_authentication::require_recent},
    state::AppState,
    store::redis::AccountSessions,
};

/// The reason that the audit log states when an operator has ended sessions.
const BY_OPERATOR: &str = "operator";

/// The live sessions of the caller's account, oldest first.
///
/// # Errors
/// [`ServiceError`]
pub async fn list(state: &AppState, caller: &AccessClaims) -> Result<Vec<Session>, ServiceError> {
    list_for_operator(state, caller.sub).await
}

/// The live sessions of an account, oldest first, for an operator.
///
/// # Errors
/// [`ServiceError`]
pub async fn list_for_operator(state: &AppState, account: AccountId) -> Result<Vec<Session>, ServiceError> {
    Ok(state.redis.sessions.list(account, state.clock.now()).await?)
}

/// Ends a session of the caller's account, and if it is a browser's session, those of the apps that the browser has signed in to. Returns
/// whether there was such a session. To end another session than its own, the caller needs a recent authentication (ASVS 7.5.2).
///
/// # Errors
/// [`ServiceError`]
pub async fn revoke(
    state: &AppState,
    caller: &AccessClaims,
    session: SessionId,
    ip: Option<IpAddr>,
) -> Result<bool, ServiceError> {
    if session != caller.sid {
        require_recent(state, caller).await?;
    }
    let entry = AuditEntry::new(state.clock.now(), AuditEvent::SessionEnded).because(EndReason::Revoked.as_str());
    let entry = entry.actor(Actor::Account).address(ip);
    end(state, caller.sub, session, entry).await
}

/// Ends all sessions of the caller's account, its own included. Returns the number of sessions ended. Needs a recent authentication
/// (ASVS 7.5.2).
///
/// # Errors
/// [`ServiceError`]
pub async fn revoke_all(state: &AppState, caller: &AccessClaims, ip: Option<IpAddr>) -> Result<u64, ServiceError> {
    require_recent(state, caller).await?;
    end_all(state, AccountSessions::all(caller.sub), owner_entry(state, ip)).await
}

/// Ends all sessions of the caller's account but its own. Returns the number of sessions ended. Needs a recent authentication (ASVS
/// 7.5.2).
///
/// # Errors
/// [`ServiceError`]
pub async fn revoke_others(state: &AppState, caller: &AccessClaims, ip: Option<IpAddr>) -> Result<u64, ServiceError> {
    require_recent(state, caller).await?;
    end_all(state, AccountSessions::all(caller.sub).except(caller.sid), owner_entry(state, ip)).await
}

/// The audit entry of an owner who ends several sessions.
fn owner_entry(state: &AppState, ip: Option<IpAddr>) -> AuditEntry {
    let entry = AuditEntry::new(state.clock.now(), AuditEvent::SessionsEnded).because(EndReason::Revoked.as_str());
    entry.actor(Actor::Account).address(ip)
}

/// Ends a session of an account for an operator. Returns whether there was such a session.
///
/// # Errors
/// [`ServiceError`]
pub async fn revoke_by_operator(
    state: &AppState,
    account: AccountId,
    session: SessionId,
) -> Result<bool, ServiceError> {
    let entry = AuditEntry::new(state.clock.now(), AuditEvent::SessionEnded).because(BY_OPERATOR);
    end(state, account, session, entry).await
}

/// Ends all sessions of an account for an operator. Returns the number of sessions ended.
///
/// # Errors
/// [`ServiceError`]
pub async fn revoke_all_by_operator(state: &AppState, account: AccountId) -> Result<u64, ServiceError> {
    let entry = AuditEntry::new(state.clock.now(), AuditEvent::SessionsEnded).because(BY_OPERATOR);
    end_all(state, AccountSessions::all(account), entry).await
}

/// Ends a session, and the app sessions beneath it if it is a browser's. Writes `entry` to the audit log for each. Returns whether there was
/// such a session.
async fn end(
    state: &AppState,
    account: AccountId,
    session: SessionId,
    entry: AuditEntry,
) -> Result<bool, ServiceError> {
    let ended = state.redis.sessions.revoke_tree(account, session, EndReason::Revoked, entry.at).await?;
    for ended_session in &ended {
        state.audit.record(entry.clone().account(account).session(*ended_session));
    }
    Ok(!ended.is_empty())
}

/// Ends sessions of an account. Writes `entry` to the audit log, with their number, unless none has ended.
async fn end_all(state: &AppState, sessions: AccountSessions, entry: AuditEntry) -> Result<u64, ServiceError> {
    let ended = state.redis.sessions.revoke_all(sessions, EndReason::Revoked, entry.at).await?;
    if ended > 0 {
        state.audit.record(entry.account(sessions.account).count(ended));
    }
    Ok(ended)
}
