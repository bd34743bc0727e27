//! Ends the sessions of an account whose owner changes its addresses, password or factors, and starts a new session in place of the
//! owner's (I5: credential changes end sessions).

use std::net::IpAddr;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        authentication::{Acr, Authentication},
        clock::Timestamp,
        event::EndReason,
        session::AcceptedTransport,
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
        redis::{AccountSessions, ReplaceOutcome, Replacement},
        sql::AccountChange,
    },
};

/// Why the sessions were not replaced.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplaceSessionsError {
    /// The caller's session has ended.
    #[error("the session has ended")]
    SessionEnded,
    /// The caller's session is a cookie session, and the request accepts only tokens in bodies.
    #[error("the session's refresh token is in a cookie, which a page of another site must not set")]
    CookieNotAccepted,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(ReplaceSessionsError);

/// Ends all sessions of the account of `change`, whose row is locked, and increments its epoch. Returns the tokens of
/// the session that replaces the caller's. On an error the caller drops the change with its transaction.
///
/// The new session keeps the authentication of the caller's session, with one exception: after a change of the password, a session that
/// began with a password alone counts as authenticated again, because the change has verified the former password.
///
/// # Errors
/// [`ReplaceSessionsError`]
pub(super) async fn replace_sessions(
    state: &AppState,
    change: &mut AccountChange,
    caller: &AccessClaims,
    accepted: AcceptedTransport,
    reason: EndReason,
    ip: Option<IpAddr>,
) -> Result<Tokens, ReplaceSessionsError> {
    let kept_authentication = None;
    replace_sessions_with(state, change, caller, accepted, reason, ip, kept_authentication).await
}

/// Like [`replace_sessions`], but the new session has this `authentication`, unless that is `None`.
///
/// If the account must have a second factor and the session lacks it, the new session ends with the grace period, as the old one would
/// (I14: factors cannot be bypassed).
///
/// # Errors
/// [`ReplaceSessionsError`]
pub(super) async fn replace_sessions_with(
    state: &AppState,
    change: &mut AccountChange,
    caller: &AccessClaims,
    accepted: AcceptedTransport,
    reason: EndReason,
    ip: Option<IpAddr>,
    authentication: Option<Authentication>,
) -> Result<Tokens, ReplaceSessionsError> {
    let (now, settings) = (state.clock.now(), &state.config.session);
    let authentication = match authentication {
        Some(authentication) => Some(authentication),
        // The exception of `replace_sessions`: with `None`, the new session counts as authenticated when it begins.
        None if reason == EndReason::PasswordChanged => None,
        None => password_only_authentication(caller),
    };
    let epoch = change.bump_epoch().await?;
    let additional_claims = additional_claims::load_in_change(state, change).await?;
    let acr = match &authentication {
        Some(authentication) => authentication.acr,
        None => Acr::parse(&caller.acr).unwrap_or(Acr::Aal1),
    };
    let lifetime = policy::longest_replacement(state, change, acr, now).await?;
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
        idle_timeout: settings.idle_timeout.min(lifetime),
        absolute_timeout: lifetime,
    };
    let (grant, ended) = match state.redis.sessions.replace_all(replacement, reason, now).await? {
        ReplaceOutcome::Replaced { grant, ended } => (grant, ended),
        ReplaceOutcome::Gone => return Err(ReplaceSessionsError::SessionEnded),
        ReplaceOutcome::NotAccepted => return Err(ReplaceSessionsError::CookieNotAccepted),
    };
    // The caller's session has an entry of its own, which names its successor.
    let replaced = AuditEntry::new(now, AuditEvent::SessionEnded).because("replaced").detail(grant.session.to_string());
    change.record(&replaced.account(change.account.id).session(caller.sid).actor(Actor::Account).address(ip)).await?;
    record_ended(change, reason, ended, now).await?;
    Ok(token_issuer::issue(state, &grant, now)?)
}

/// The authentication of a caller who has used a password alone, at `aal1`; `None` for another session.
///
/// Redis stores no authentication for such a session: it counts as authenticated when it began. The session that replaces it begins later,
/// so its authentication must be stored.
fn password_only_authentication(caller: &AccessClaims) -> Option<Authentication> {
    let is_password_only = caller.amr == ["pwd"] && Acr::parse(&caller.acr) == Some(Acr::Aal1);
    is_password_only.then(|| Authentication::by_password(Timestamp::from_millis(caller.auth_time.saturating_mul(1000))))
}

/// Ends all sessions of the account of `change` and increments its epoch, for an owner who is not signed in. Returns the number of sessions
/// that ended.
///
/// # Errors
/// [`ServiceError`]
pub(super) async fn end_sessions(state: &AppState, change: &mut AccountChange) -> Result<u64, ServiceError> {
    let (id, now, reason) = (change.account.id, state.clock.now(), EndReason::Revoked);
    let epoch = change.bump_epoch().await?;
    let ended = state.redis.sessions.revoke_all(AccountSessions::all(id).with_epoch(epoch), reason, now).await?;
    record_ended(change, reason, ended, now).await?;
    Ok(ended)
}
