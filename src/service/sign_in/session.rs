//! The session of a sign-in: starts it, and ends the one that it replaces.

use std::time::Duration;

use crate::{
    domain::{
        account::Account,
        audit::{Actor, AuditEntry, AuditEvent},
        authentication::{Acr, Authentication, AuthenticationMethods},
        clock::Timestamp,
        event::EndReason,
        session::{Grant, SessionOrigin, Transport},
    },
    service::{additional_claims, error::ServiceError},
    state::AppState,
    store::redis::{CreateOutcome, NewSession, SessionBasis},
};

/// A session to start.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionStart<'a> {
    /// How and when the owner has authenticated.
    pub(super) authentication: Authentication,
    /// How the refresh token travels.
    pub(super) transport: Transport,
    /// The device that signs in: its address, user agent and name.
    pub(super) origin: &'a SessionOrigin,
    /// When the session ends at the latest, if that is before `session.absolute_timeout`.
    pub(super) ends_by: Option<Timestamp>,
    /// Why the second factor was skipped, for the audit log.
    pub(super) skipped_factor_reason: Option<&'static str>,
}

/// Starts a session. Returns `None` if the account has changed since its owner authenticated.
pub(super) async fn start(
    state: &AppState,
    account: &Account,
    input: SessionStart<'_>,
) -> Result<Option<Grant>, ServiceError> {
    let SessionStart { authentication, transport, origin, ends_by, skipped_factor_reason } = input;
    let now = state.clock.now();
    let settings = &state.config.session;
    let max_lifetime = ends_by.map_or(Duration::MAX, |at| at.saturating_since(now));
    let session_id = state.entropy.session_id();
    // Redis doesn't store the default: an authentication by password alone, in the second in which the session begins.
    let is_by_password = authentication.methods == AuthenticationMethods::PASSWORD && authentication.acr == Acr::Aal1;
    let is_default = is_by_password && authentication.at.as_secs() == now.as_secs();
    let stored_authentication = if is_default { None } else { Some(authentication) };
    let session = NewSession {
        id: session_id,
        account: account.id,
        roles: account.roles.clone(),
        additional_claims: additional_claims::load(state, account).await?,
        claims_version: account.claims_version,
        epoch: account.epoch,
        transport,
        origin: origin.clone(),
        tag: state.origin_tags.tag(origin.ip, origin.user_agent.as_deref()),
        basis: SessionBasis { authentication: stored_authentication, ..SessionBasis::default() },
        idle_timeout: settings.idle_timeout.min(max_lifetime),
        absolute_timeout: settings.absolute_timeout.min(max_lifetime),
        max_per_account: settings.max_per_account,
    };
    match state.redis.sessions.create(session, now).await? {
        CreateOutcome::Created { grant, evicted } => {
            for evicted_session in evicted {
                let entry = AuditEntry::new(now, AuditEvent::SessionEnded).because(EndReason::Limit.as_str());
                state.audit.record(entry.account(account.id).session(evicted_session).actor(Actor::Service));
            }
            let mut entry = AuditEntry::new(now, AuditEvent::SignIn).account(account.id).session(session_id);
            entry.facts.reason = skipped_factor_reason;
            state.audit.record(entry.actor(Actor::Account).address(origin.ip));
            Ok(Some(grant))
        }
        CreateOutcome::Stale => Ok(None),
    }
}

/// Ends the session that the new one replaces, if the client has sent the refresh token of such a session. A failure does not fail the
/// sign-in.
pub(super) async fn end_replaced(state: &AppState, replaced_token: Option<&str>, origin: &SessionOrigin) {
    let Some(claims) = replaced_token.and_then(|token| state.refresh_tokens.decode(token).ok()) else { return };
    let now = state.clock.now();
    // The feed reports a replaced session as signed out.
    match state.redis.sessions.revoke(claims.account, claims.session, EndReason::Logout, now).await {
        // The session had ended before.
        Ok(false) => {}
        Ok(true) => {
            let entry = AuditEntry::new(now, AuditEvent::SessionEnded).because("replaced");
            let entry = entry.account(claims.account).session(claims.session).actor(Actor::Account);
            state.audit.record(entry.address(origin.ip));
        }
        Err(error) => {
            tracing::warn!(
                account = %claims.account,
                session = %claims.session,
                %error,
                "the session that a login replaces could not be ended and stays live until its idle timeout; \
                 `latchkey session revoke ACCOUNT SESSION` ends it"
            );
        }
    }
}
