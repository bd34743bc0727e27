//! Introspects a token for a service client (RFC 7662).

use std::sync::{Arc, Weak};

use crate::{
    crypto::{
        access_token::{IssuedToken, VerifiedToken},
        client_secret,
        client_token::ClientClaims,
        refresh_token::{self, RefreshClaims},
    },
    domain::{
        authentication::Authentication,
        client::{Client, ClientId, ClientSecretHash},
        clock::Timestamp,
        secret::SecretText,
    },
    service::{
        authenticate::{VerifyError, check_session, verify_issued_token},
        decode_refresh_token::decode_refresh_token,
        error::ServiceError,
        limits,
    },
    state::AppState,
    store::redis::RefreshStatus,
};

/// The result of an introspection.
#[derive(Clone, Debug)]
pub enum Introspection {
    /// The token is invalid or expired, its session has ended, its account's claims have changed, or it is for none of the
    /// client's audiences; the client can't tell which.
    Inactive,
    /// The access token of a live session, and the user's current authentication if the token names an older one.
    Session(Arc<VerifiedToken>, Option<Authentication>),
    /// The access token of an app's live session, for a resource (RFC 8707), and the user's current authentication if the token names
    /// an older one.
    App(Arc<VerifiedToken>, Option<Authentication>),
    /// The access token of an enabled service client.
    Client(Arc<VerifiedToken<ClientClaims>>),
    /// A refresh token that a refresh would accept now.
    Refresh(RefreshClaims, RefreshStatus),
}

/// Introspects a token. Only tokens for one of the caller's audiences are active (RFC 7662, section 4).
///
/// # Errors
/// [`ServiceError`]
pub async fn introspect(state: &AppState, caller: &Client, token: &str) -> Result<Introspection, ServiceError> {
    limits::check_introspection(state, caller.id.as_str())?;
    // apps are clients, too, but introspect nothing
    if !caller.is_service() {
        return Ok(Introspection::Inactive);
    }
    let now = state.clock.now();
    let is_for = |aud: &[String]| aud.iter().any(|audience| caller.audiences.contains(audience));
    // all tokens of sessions that belong to no app have this audience
    let may_introspect_sessions = caller.audiences.contains(&state.config.token.audience);
    if token.starts_with(refresh_token::PREFIX) {
        // first: this client must not get the error of a decoding that lacks the secret of another node
        if !may_introspect_sessions {
            return Ok(Introspection::Inactive);
        }
        let Some(claims) = decode_refresh_token(state, token).await? else { return Ok(Introspection::Inactive) };
        let RefreshClaims { account, session, generation, .. } = claims;
        let rule = state.config.session.repeat_rule();
        let status = state.redis.sessions.refresh_status(account, session, generation, &rule, now).await?;
        return Ok(status.map_or(Introspection::Inactive, |status| Introspection::Refresh(claims, status)));
    }
    match verify_issued_token(state, token).await {
        // The caller is one of the resources of the app's token.
        Ok(IssuedToken::App(verified)) if is_for(&verified.aud) => {
            let session = session_state(state, &verified, now).await?;
            Ok(match session {
                SessionState::Ended => Introspection::Inactive,
                SessionState::Live { newer } => Introspection::App(verified, newer),
            })
        }
        Ok(IssuedToken::Session(verified)) if may_introspect_sessions => {
            let session = session_state(state, &verified, now).await?;
            Ok(match session {
                SessionState::Ended => Introspection::Inactive,
                SessionState::Live { newer } => Introspection::Session(verified, newer),
            })
        }
        Ok(IssuedToken::Client(verified)) if is_for(&verified.aud) => {
            let enabled = state.clients.find(&verified.client_id).await?.is_some();
            Ok(if enabled { Introspection::Client(verified) } else { Introspection::Inactive })
        }
        Err(VerifyError::Service(error)) => Err(error),
        Ok(_) | Err(VerifyError::Refused(_)) => Ok(Introspection::Inactive),
    }
}

/// The state of the session of an access token.
enum SessionState {
    /// The session has ended, or does not have the token's claims any more.
    Ended,
    /// The session is live.
    Live {
        /// The user's current authentication, if the token may name an older one.
        newer: Option<Authentication>,
    },
}

/// Looks up the session of a verified token.
async fn session_state(
    state: &AppState,
    verified: &VerifiedToken,
    now: Timestamp,
) -> Result<SessionState, ServiceError> {
    let live = state.redis.sessions.liveness(verified.sub, verified.sid, now).await?;
    if check_session(verified, live).is_err() {
        return Ok(SessionState::Ended);
    }
    let is_stepped_up = live.is_some_and(|live| live.stepped_up);
    if !is_stepped_up {
        return Ok(SessionState::Live { newer: None });
    }
    // The session has been stepped up, perhaps after the token was issued. If it is not found, it has ended since the lookup above.
    let Some(found) = state.redis.sessions.sign_in_and_step_up(verified.sub, verified.sid).await? else {
        return Ok(SessionState::Ended);
    };
    let current = found.sign_in.with_step_up(found.step_up, state.config.factors.step_up_ttl, now);
    Ok(SessionState::Live { newer: Some(current) })
}

/// The decision that a service client may introspect a session's access token. The introspection cache keeps it for identical
/// requests, and [`revalidate`] rechecks it for each.
#[derive(Debug)]
pub struct CachedDecision {
    client: ClientId,
    secret: ClientSecretHash,
    /// The token. The decision expires when the verified token is evicted from its cache.
    token: Weak<VerifiedToken>,
}

impl CachedDecision {
    /// The decision that `caller`, authenticated by `secret`, may introspect `token`.
    pub fn new(caller: &Client, secret: &SecretText, token: &Arc<VerifiedToken>) -> Self {
        let secret = client_secret::hash(secret.expose());
        Self { client: caller.id.clone(), secret, token: Arc::downgrade(token) }
    }
}

/// Whether a cached decision still holds. The client must be enabled with the same secret and audience. The token and its key must be
/// valid. The session must be cached as live with the claims of the token. It must not be stepped up, because a response then contains the
/// current authentication, which only Redis has. If the decision does not hold, the endpoint calls [`introspect`], which counts the request.
///
/// # Errors
/// [`ServiceError`] if the client exceeds its rate limit.
pub fn revalidate(state: &AppState, decision: &CachedDecision) -> Result<bool, ServiceError> {
    let CachedDecision { client, secret, token } = decision;
    let Some(token) = token.upgrade() else { return Ok(false) };
    let now = state.clock.now();
    let may_introspect = state.clients.is_enabled_and(client.as_str(), |caller| {
        caller.has_secret(secret, now) && caller.audiences.contains(&state.config.token.audience)
    });
    let holds = may_introspect
        && state.tokens.revalidate(&token, now)
        && state
            .redis
            .sessions
            .cached_liveness(token.sub, token.sid, now)
            .is_some_and(|live| !live.stepped_up && !token.are_outdated_by(&live.claims));
    if holds {
        limits::check_introspection(state, client.as_str())?;
        // lookups in these two caches would have counted these hits
        state.tokens.metrics().hits.inc();
        state.redis.sessions.count_cache_hit();
    }
    Ok(holds)
}
