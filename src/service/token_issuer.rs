//! Issues the access token and the refresh token of a session.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::{
    config::TokenSettings,
    crypto::{
        access_token::{AccessClaims, AccessToken},
        refresh_token::{RefreshClaims, RefreshToken},
    },
    domain::{
        clock::Timestamp,
        ids::{AccountId, SessionId},
        session::{Grant, Transport},
    },
    service::error::ServiceError,
    state::AppState,
};

/// The tokens that a login or a refresh returns.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The access token (RFC 9068).
    pub access_token: AccessToken,
    /// The lifetime of the access token.
    pub expires_in: Duration,
    /// The refresh token.
    pub refresh_token: RefreshToken,
    /// The lifetime of the refresh token.
    pub refresh_expires_in: Duration,
    /// The account.
    pub account: AccountId,
    /// The session of both tokens.
    pub session: SessionId,
    /// How the refresh token travels.
    pub transport: Transport,
    /// The scopes of the access token, separated by spaces.
    pub scope: String,
}

/// An access token of a session, without a refresh token.
#[derive(Clone, Debug)]
pub struct IssuedAccessToken {
    /// The access token (RFC 9068).
    pub access_token: AccessToken,
    /// The token's lifetime.
    pub expires_in: Duration,
    /// The session.
    pub session: SessionId,
}

/// Issues the access token and the refresh token of a session.
pub(super) fn issue(state: &AppState, grant: &Grant, now: Timestamp) -> Result<Tokens, ServiceError> {
    let (access_token, expires_in, scope) = access_token(state, grant, now)?;
    let refresh_token = state.refresh_tokens.encode(&RefreshClaims {
        account: grant.account,
        session: grant.session,
        generation: grant.generation,
        expires_at: grant.expires_at(),
    });
    Ok(Tokens {
        access_token,
        expires_in,
        refresh_token,
        refresh_expires_in: grant.expires_at().saturating_since(now),
        account: grant.account,
        session: grant.session,
        transport: grant.transport,
        scope,
    })
}

/// Issues the access token of a session, without a refresh token.
pub(super) fn issue_access(state: &AppState, grant: &Grant, now: Timestamp) -> Result<IssuedAccessToken, ServiceError> {
    let (access_token, expires_in, _scope) = access_token(state, grant, now)?;
    Ok(IssuedAccessToken { access_token, expires_in, session: grant.session })
}

/// Issues an access token. Returns the token, its lifetime and its scopes. The token expires at the session's absolute end at the
/// latest. If a step-up raised the token's `acr`, the token expires no later than the step-up.
fn access_token(
    state: &AppState,
    grant: &Grant,
    now: Timestamp,
) -> Result<(AccessToken, Duration, String), ServiceError> {
    let settings = &state.config.token;
    let step_up_ttl = state.config.factors.step_up_ttl;
    let authentication = grant.authentication.with_step_up(grant.step_up, step_up_ttl, now);
    let mut expires_at = (now + settings.access_ttl).min(grant.ends_at);
    let is_raised = authentication.acr > grant.authentication.acr;
    if is_raised {
        expires_at = expires_at.min(authentication.at + step_up_ttl);
    }
    let (client_id, scope, aud) = match &grant.client {
        Some(client) => (client.client_id.clone(), client.scope.clone(), client.audiences.clone()),
        None => (settings.client_id.clone(), settings.scope.clone(), vec![settings.audience.clone()]),
    };
    let additional = &grant.additional_claims;
    let claims = AccessClaims {
        iss: state.config.issuer.clone(),
        sub: grant.account,
        aud,
        client_id,
        iat: now.as_secs(),
        exp: expires_at.as_secs(),
        jti: state.entropy.uuid().to_string(),
        sid: grant.session,
        auth_time: authentication.at.as_secs(),
        acr: authentication.acr.as_str().to_owned(),
        amr: authentication.methods.amr(),
        scope,
        roles: grant.roles.names().to_vec(),
        // The settings may have changed since the session stored these claims.
        email_verified: additional.email_verified().filter(|_| settings.email_verified),
        app_metadata: additional.app_metadata().and_then(|members| configured_members(members, settings)),
        session_start: Some(grant.created_at.as_secs()),
        claims_version: Some(grant.claims_version),
    };
    let access_token = state.keys.current().signer(now)?.encode(&claims)?;
    Ok((access_token, expires_at.saturating_since(now), claims.scope))
}

/// The members that `token.app_metadata` now names; `None` if there are none.
fn configured_members(members: &Map<String, Value>, settings: &TokenSettings) -> Option<Box<Map<String, Value>>> {
    let kept = members.iter().filter(|(name, _)| settings.app_metadata.contains(name));
    let kept: Map<_, _> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    (!kept.is_empty()).then(|| Box::new(kept))
}
