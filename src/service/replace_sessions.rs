//! Ends the sessions of an account whose owner changes its addresses, its password or its factors, and starts a new one in the place of the
//! owner's (I5).

use std::net::IpAddr;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        audit::{Actor, AuditEvent, Entry},
        authentication::{Acr, Authentication},
        clock::Timestamp,
        event::Reason,
        session::Accepted,
    },
    service::{
        accounts::record_ended,
        additional_claims,
        error::{ServiceError, from_store_errors},
        sign_in::policy,
        token_issuer::{self, Tokens},
    },
    state::AppState,
    store::{
        redis::{Replace, Replacement},
        sql::AccountChange,
    },
};

/// Why the sessions were not replaced.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplaceSessionsError {
    /// The caller's session has ended.
    #[error("the session has ended")]
    SessionEnded,
    /// Only bearer sessions were accepted, and the caller's is a cookie session.
    #[error("the session's refresh token is in a cookie, which a page of another site must not set")]
    CookieNotAccepted,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(ReplaceSessionsError);

/// Ends all sessions of a locked account and increments its epoch. Returns the tokens of the session that takes the place of the
/// caller's, with its authentication. The replaced sessions ended for `reason`. If that fails, the change is dropped with the
/// transaction.
///
/// # Errors
/// [`ReplaceSessionsError`]
pub(super) async fn replace_sessions(
    state: &AppState,
    change: &mut AccountChange,
    caller: &AccessClaims,
    accepted: Accepted,
    reason: Reason,
    ip: Option<IpAddr>,
) -> Result<Tokens, ReplaceSessionsError> {
    replace_sessions_with(state, change, caller, accepted, reason, ip, None).await
}

/// Does what [`replace_sessions`] does. The new session has this authentication; with `None`, the one of the caller's session. A session
/// that lacks the second factor that the account must have ends with the grace period, as the replaced one does (I14).
///
/// # Errors
/// [`ReplaceSessionsError`]
pub(super) async fn replace_sessions_with(
    state: &AppState,
    change: &mut AccountChange,
    caller: &AccessClaims,
    accepted: Accepted,
    reason: Reason,
    ip: Option<IpAddr>,
    authentication: Option<Authentication>,
) -> Result<Tokens, ReplaceSessionsError> {
    let (now, settings) = (state.clock.now(), &state.config.session);
    let authentication =
        authentication.or_else(|| (reason != Reason::PasswordChanged).then(|| plain(caller)).flatten());
    let epoch = change.bump_epoch().await?;
    let additional_claims = additional_claims::load_in_change(state, change).await?;
    let acr = authentication.map_or_else(|| Acr::parse(&caller.acr).unwrap_or_default(), |new| new.acr);
    let longest = policy::longest_replacement(state, change, acr, now).await?;
    let replacement = Replacement {
        id: state.entropy.session_id(),
        account: change.account.id,
        replaces: caller.sid,
        accepted,
        roles: change.account.roles.clone(),
        additional_claims,
        claims_version: change.account.claims_version,
        epoch,
        authentication,
        idle_timeout: settings.idle_timeout.min(longest),
        absolute_timeout: longest,
    };
    let (grant, ended) = match state.redis.sessions.replace_all(replacement, reason, now).await? {
        Replace::Replaced { grant, ended } => (grant, ended),
        Replace::Gone => return Err(ReplaceSessionsError::SessionEnded),
        Replace::NotAccepted => return Err(ReplaceSessionsError::CookieNotAccepted),
    };
    let replaced = Entry::new(now, AuditEvent::SessionEnded).because("replaced").detail(grant.session.to_string());
    change.record(&replaced.account(change.account.id).session(caller.sid).by(Actor::Account).from(ip)).await?;
    record_ended(change, reason, ended, now).await?;
    Ok(token_issuer::issue(state, &grant, now)?)
}

/// The authentication of a session that began with a password alone. Such a session stores none: it authenticated when it began. Its
/// replacement begins now, and only a change of the password, which verifies the former one, is a new authentication.
fn plain(caller: &AccessClaims) -> Option<Authentication> {
    let is_plain = caller.amr == ["pwd"] && Acr::parse(&caller.acr) == Some(Acr::Aal1);
    is_plain.then(|| Authentication::by_password(Timestamp::from_millis(caller.auth_time.saturating_mul(1000))))
}

/// Ends all sessions of a locked account and increments its epoch, for an owner who is not signed in. Returns the number of sessions
/// that ended.
///
/// # Errors
/// [`ServiceError`]
pub(super) async fn end_sessions(state: &AppState, change: &mut AccountChange) -> Result<u64, ServiceError> {
    let (id, now, reason) = (change.account.id, state.clock.now(), Reason::Revoked);
    let epoch = change.bump_epoch().await?;
    let ended = state.redis.sessions.revoke_all(id, None, Some(epoch), reason, now).await?;
    record_ended(change, reason, ended, now).await?;
    Ok(ended)
}
