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

/// Issues the tokens of a grant. The access token expires at the session's absolute end at the latest.
pub(super) fn issue(state: &AppState, grant: &Grant, now: Timestamp) -> Result<Tokens, ServiceError> {
    let settings = &state.config.token;
    let exp = (now + settings.access_ttl).min(grant.ends_at);
    let (client_id, scope, aud) = match &grant.client {
        Some(client) => (client.client_id.clone(), client.scope.clone(), client.audiences.clone()),
        None => (settings.client_id.clone(), settings.scope.clone(), vec![settings.audience.clone()]),
    };
    let further = &grant.further_claims;
    let claims = AccessClaims {
        iss: state.config.issuer.clone(),
        sub: grant.account,
        aud,
        client_id,
        iat: now.as_secs(),
        exp: exp.as_secs(),
        jti: state.entropy.uuid().to_string(),
        sid: grant.session,
        auth_time: grant.authentication.at.as_secs(),
        acr: grant.authentication.acr.as_str().to_owned(),
        amr: grant.authentication.methods.amr(),
        scope,
        roles: grant.roles.names().to_vec(),
        email_verified: further.email_verified().filter(|_| settings.email_verified),
        app_metadata: further.app_metadata().and_then(|members| configured(members, settings)),
        session_start: Some(grant.created_at.as_secs()),
        claims_version: Some(grant.claims_version),
    };
    let access_token = state.keys.current().signer(now)?.encode(&claims)?;
    let refresh_token = state.refresh_tokens.encode(&RefreshClaims {
        account: grant.account,
        session: grant.session,
        generation: grant.generation,
        expires_at: grant.expires_at(),
    });
    Ok(Tokens {
        access_token,
        expires_in: exp.saturating_since(now),
        refresh_token,
        refresh_expires_in: grant.expires_at().saturating_since(now),
        account: grant.account,
        session: grant.session,
        transport: grant.transport,
        scope: claims.scope,
    })
}

/// The members that the configuration still asks for: it may have changed since the session's account got them.
fn configured(members: &Map<String, Value>, settings: &TokenSettings) -> Option<Box<Map<String, Value>>> {
    let kept = members.iter().filter(|(name, _)| settings.app_metadata.contains(name));
    let kept: Map<_, _> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    (!kept.is_empty()).then(|| Box::new(kept))
}
