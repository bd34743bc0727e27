//! The browser's session: a session of the account on Latchkey's own pages (single sign-on). The cookie `__Host-latchkey-browser` names
//! the session, which has no tokens. The sessions of apps that the browser signs in to are beneath it: they end with it in one atomic step,
//! unless `offline_access` was granted.
//!
//! A page reads the browser's session with the extractor `http::extract::browser_session::Browser`. To start one, the page runs `sign_in`
//! with [`Transport::Browser`](crate::domain::session::Transport). With the account and the new session from the outcome, it then
//!
//! 1. calls [`renew`] if the browser had a session before. The app sessions beneath that one move to the new session if the account is
//!    the same, and end otherwise.
//! 2. sets the cookie with [`cookie_value`] and `http::cookie::set_browser`. Each sign-in has a new session id (against session fixation).
//!
//! To sign out, the page calls [`end`] and sends `http::cookie::clear_browser`. A use case that takes the claims of its caller gets
//! [`BrowserSession::caller`].

use std::{net::IpAddr, time::Duration};

use crate::{
    crypto::{access_token::AccessClaims, browser_token::BrowserToken},
    domain::{
        account::{ClaimsVersion, Roles},
        audit::{Actor, AuditEntry, AuditEvent},
        event::EndReason,
        ids::{AccountId, SessionId},
        session::{Session, SessionOrigin, Transport},
    },
    service::{error::ServiceError, sign_in::policy},
    state::AppState,
    store::redis::{FoundSession, LastUseOrigin},
};

/// The shortest interval at which requests extend the idle timeout of a browser's session.
const TOUCH_INTERVAL: Duration = Duration::from_mins(1);

/// A live browser's session, read from Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowserSession {
    /// The session: its account, id, times and authentication.
    pub session: Session,
    /// The account's roles.
    pub roles: Roles,
    /// The version of the account's claims.
    pub claims_version: ClaimsVersion,
}

impl BrowserSession {
    /// The claims of the browser's user, for use cases that take the claims of an access token. No token is issued.
    pub fn caller(&self, state: &AppState) -> AccessClaims {
        let session = &self.session;
        let settings = &state.config.token;
        let now = state.clock.now();
        let step_up_ttl = state.config.factors.step_up_ttl;
        let authentication = session.authentication.with_step_up(session.step_up, step_up_ttl, now);
        AccessClaims {
            iss: state.config.issuer.clone(),
            sub: session.account,
            aud: vec![settings.audience.clone()],
            client_id: settings.client_id.clone(),
            iat: now.as_secs(),
            exp: session.expires_at().as_secs(),
            jti: String::new(), // no token has these claims
            sid: session.id,
            auth_time: authentication.at.as_secs(),
            acr: authentication.acr.as_str().to_owned(),
            amr: authentication.methods.amr(),
            scope: settings.scope.clone(),
            roles: self.roles.names().to_vec(),
            email_verified: None,
            app_metadata: None,
            session_start: Some(session.created_at.as_secs()),
            claims_version: Some(self.claims_version),
        }
    }
}

/// Loads the live session that a cookie names, and extends its idle timeout. Ends the session if the account now needs a second factor that
/// the sign-in lacked. Returns `None` in this case, and if the cookie is forged or the session had ended before.
///
/// # Errors
/// [`ServiceError`]
pub async fn load(
    state: &AppState,
    cookie: &str,
    origin: &SessionOrigin,
) -> Result<Option<BrowserSession>, ServiceError> {
    let Some((account, id)) = state.browser_tokens.decode(cookie) else { return Ok(None) };
    let now = state.clock.now();
    let found = state.redis.sessions.find(account, id, now).await?;
    let Some(FoundSession { session, roles, claims_version }) = found else { return Ok(None) };
    if session.transport != Transport::Browser {
        return Ok(None);
    }
    let browser = BrowserSession { session, roles, claims_version };
    let session = &browser.session;
    let acr = session.authentication.acr;
    // The setting `factors.required` or the roles may have changed after the sign-in.
    if policy::lacks_factor(&state.config.factors, acr, &browser.roles, session.created_at, now) {
        end_with_reason(state, &browser, EndReason::FactorRequired, Actor::Service, origin.ip).await?;
        return Ok(None);
    }
    if now.saturating_since(session.last_used_at) >= TOUCH_INTERVAL {
        let tag = state.origin_tags.tag(origin.ip, origin.user_agent.as_deref());
        let used_by = LastUseOrigin { tag, ip: origin.ip };
        let idle_timeout = state.config.session.idle_timeout;
        let is_live = state.redis.sessions.touch(account, id, used_by, idle_timeout, now).await?;
        if !is_live {
            return Ok(None);
        }
    }
    Ok(Some(browser))
}

/// The value of the cookie that names a session.
pub fn cookie_value(state: &AppState, account: AccountId, session: SessionId) -> BrowserToken {
    state.browser_tokens.encode(account, session)
}

/// Replaces the browser's former session with the session of a new sign-in. The former session ends. The app sessions beneath it move to
/// the new session if the account is the same, and end otherwise.
///
/// # Errors
/// [`ServiceError`]. The former session may still be live.
pub async fn renew(
    state: &AppState,
    former: &BrowserSession,
    account: AccountId,
    new_session: SessionId,
    ip: Option<IpAddr>,
) -> Result<(), ServiceError> {
    let former = &former.session;
    let now = state.clock.now();
    if former.id == new_session {
        return Ok(());
    }
    let reason = EndReason::Logout;
    // Only sessions that were live until now: the audit log already has the end of the others.
    let ended = if former.account == account {
        state.redis.sessions.adopt(account, former.id, new_session, reason, now).await?
    } else {
        state.redis.sessions.revoke_tree(former.account, former.id, reason, now).await?
    };
    for ended_session in ended {
        let entry = AuditEntry::new(now, AuditEvent::SessionEnded);
        let entry = if ended_session == former.id {
            entry.because("replaced").detail(new_session.to_string())
        } else {
            entry.because(reason.as_str())
        };
        state.audit.record(entry.account(former.account).session(ended_session).actor(Actor::Account).address(ip));
    }
    Ok(())
}

/// Ends a browser's session and the app sessions beneath it. By its return, every node refuses them (I3: revoked stays revoked). Returns
/// the number of sessions ended.
///
/// # Errors
/// [`ServiceError`]
pub async fn end(state: &AppState, browser: &BrowserSession, ip: Option<IpAddr>) -> Result<usize, ServiceError> {
    end_with_reason(state, browser, EndReason::Logout, Actor::Account, ip).await
}

/// Ends a browser's session and the app sessions beneath it for `reason`. Returns the number of sessions ended.
async fn end_with_reason(
    state: &AppState,
    browser: &BrowserSession,
    reason: EndReason,
    actor: Actor,
    ip: Option<IpAddr>,
) -> Result<usize, ServiceError> {
    let now = state.clock.now();
    let account = browser.session.account;
    let ended = state.redis.sessions.revoke_tree(account, browser.session.id, reason, now).await?;
    for session in &ended {
        let entry = AuditEntry::new(now, AuditEvent::SessionEnded).because(reason.as_str());
        state.audit.record(entry.account(account).session(*session).actor(actor.clone()).address(ip));
    }
    Ok(ended.len())
}
