//! Signs a user out at the request of an app, which redirects the browser to Latchkey (OpenID Connect RP-Initiated Logout 1.0).

use std::net::IpAddr;

use crate::{
    crypto::id_token::IdTokenHint,
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        event::EndReason,
        ids::{AccountId, SessionId},
    },
    service::{
        authorize::may_redirect,
        browser_session::{self, BrowserSession},
        error::{ServiceError, from_store_errors},
    },
    state::AppState,
};

/// The parameters of a request (section 2).
#[derive(Clone, Debug, Default)]
pub struct EndSession {
    /// An ID token that was issued to the client.
    pub id_token_hint: Option<String>,
    /// The `client_id`.
    pub client_id: Option<String>,
    /// Where the browser goes afterwards: one of the client's registered URIs. A client that no operator has registered also needs the
    /// consent of the browser's user.
    pub post_logout_redirect_uri: Option<String>,
    /// The parameter `state` of the redirect to the client.
    pub state: Option<String>,
    /// Whether the user has confirmed on a page of Latchkey.
    pub is_confirmed: bool,
}

/// The result of a sign-out that an app requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndSessionOutcome {
    /// The user is signed out. The browser goes to this URI of the client; without one, to a page of Latchkey.
    SignedOut(Option<String>),
    /// The user has to confirm, because the request does not prove that it comes from an app of the user (section 2). Without the
    /// confirmation, a page of another site could sign the user out.
    Confirm,
}

/// Why a request is refused. A page shows the error to the user, without a redirect (section 4).
#[derive(Debug, thiserror::Error)]
pub enum EndSessionError {
    /// The hint is not an ID token of this issuer, or was issued to another client than `client_id`.
    #[error("id_token_hint is not an ID token of this issuer and client")]
    Hint,
    /// The client is unknown.
    #[error("the client is unknown")]
    Client,
    /// The URI is not registered for the client, or the request names no client.
    #[error("post_logout_redirect_uri is not registered for the client")]
    RedirectUri,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(EndSessionError: crate::store::redis::RedisError, crate::state::error::StateError);

/// Signs a browser out. Its session ends, and so do the app sessions beneath it, except those with `offline_access`. Without a hint that
/// names the browser's user, the user confirms first.
///
/// # Errors
/// [`EndSessionError`]
pub async fn end_session(
    state: &AppState,
    request: &EndSession,
    browser: Option<&BrowserSession>,
    ip: Option<IpAddr>,
) -> Result<EndSessionOutcome, EndSessionError> {
    let hint = match &request.id_token_hint {
        None => None,
        Some(token) => Some(state.tokens.verify_id_token_hint(token, state.clock.now()).ok_or(EndSessionError::Hint)?),
    };
    let client_id = match (&request.client_id, &hint) {
        (Some(client_id), Some(hint)) if *client_id != hint.aud => return Err(EndSessionError::Hint),
        (Some(client_id), _) => Some(client_id.clone()),
        (None, Some(hint)) => Some(hint.aud.clone()),
        (None, None) => None,
    };
    let redirect = match (&request.post_logout_redirect_uri, client_id) {
        (None, _) => None,
        (Some(_), None) => return Err(EndSessionError::RedirectUri),
        (Some(uri), Some(client_id)) => {
            let client = state.clients.find(&client_id).await?.ok_or(EndSessionError::Client)?.client;
            if !client.app.allows_post_logout_redirect(uri) {
                return Err(EndSessionError::RedirectUri);
            }
            let is_allowed = may_redirect(state, &client, uri, browser).await?;
            is_allowed.then(|| with_state(uri, request.state.as_deref()))
        }
    };
    match (browser, hint) {
        (Some(browser), hint) => {
            let is_from_users_app = match &hint {
                Some(hint) => hint_matches_browser(state, browser, hint).await?,
                None => false,
            };
            if !is_from_users_app && !request.is_confirmed {
                return Ok(EndSessionOutcome::Confirm);
            }
            browser_session::end(state, browser, ip).await?;
        }
        // Without a browser's session, no user can confirm. A form (POST) of an app on another site always arrives so, because the
        // cookie is `SameSite=Lax`. The hint suffices: it ends only the sign-in that its app session belongs to.
        (None, Some(hint)) => end_tree_of_app_session(state, hint.sub, hint.sid, ip).await?,
        (None, None) => {}
    }
    Ok(EndSessionOutcome::SignedOut(redirect))
}

/// Whether an ID token belongs to an app session beneath the browser's session, or to an app session of the same user that outlives the
/// browser's (`offline_access`).
///
/// An app may revoke its tokens before it redirects the browser, so the app session may have ended. The ID token must then be newer
/// than the browser's session: an older one names an ended session ("suspect", section 2), may have leaked, and needs the user's
/// confirmation. Without a browser's session, the ID token of an ended session ends nothing ([`end_tree_of_app_session`]).
async fn hint_matches_browser(
    state: &AppState,
    browser: &BrowserSession,
    hint: &IdTokenHint,
) -> Result<bool, ServiceError> {
    if hint.sub != browser.session.account {
        return Ok(false);
    }
    let found = state.redis.sessions.find(hint.sub, hint.sid, state.clock.now()).await?;
    Ok(match found {
        Some(found) => found.session.parent.is_none_or(|parent| parent == browser.session.id),
        // The app session has ended.
        None => hint.iat >= browser.session.created_at.as_secs(),
    })
}

/// Ends the browser session that an app session belongs to, and all app sessions beneath it. Ends only the app session if the browser
/// session has already ended. An app session without a browser session (`offline_access`) continues.
///
/// Unlike in [`hint_matches_browser`], the age of the ID token does not matter, because the token ends no session of a later sign-in.
/// Section 2 allows an expired ID token if its session is live, and section 6 demands a confirmation only without a valid hint.
async fn end_tree_of_app_session(
    state: &AppState,
    account: AccountId,
    session: SessionId,
    ip: Option<IpAddr>,
) -> Result<(), ServiceError> {
    let now = state.clock.now();
    let Some(found) = state.redis.sessions.find(account, session, now).await? else { return Ok(()) };
    let Some(parent) = found.session.parent else { return Ok(()) };
    let mut ended = state.redis.sessions.revoke_tree(account, parent, EndReason::Logout, now).await?;
    if ended.is_empty() {
        // The browser session had ended before.
        ended = state.redis.sessions.revoke_tree(account, session, EndReason::Logout, now).await?;
    }
    for session in ended {
        let entry = AuditEntry::new(now, AuditEvent::SessionEnded).because(EndReason::Logout.as_str());
        state.audit.record(entry.account(account).session(session).actor(Actor::Account).address(ip));
    }
    Ok(())
}

/// Adds the parameter `state` to a URI.
fn with_state(uri: &str, state: Option<&str>) -> String {
    match (state, url::Url::parse(uri)) {
        (Some(state), Ok(mut url)) => {
            url.query_pairs_mut().append_pair("state", state);
            url.into()
        }
        // no state, or not a URI (a registered one always is)
        _ => uri.to_owned(),
    }
}
