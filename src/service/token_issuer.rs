//! Issues the access token and the refresh token of a session.

use std::time::Duration;

use crate::{
    crypto::{
        access_token::{AccessClaims, AccessToken},
        refresh_token::{RefreshClaims, RefreshToken},
    },
    domain::{
        clock::Timestamp,
        ids::SessionId,
        session::{Grant, Transport},
    },
    service::error::ServiceError,
    state::AppState,
};

/// The authentication context class of a login by password alone: the first assurance level of NIST SP 800-63B.
const ACR_PASSWORD: &str = "aal1";
/// The authentication method of a login by password (RFC 8176, section 2).
const AMR_PASSWORD: &str = "pwd";

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
    /// The session of both tokens.
    pub session: SessionId,
    /// How the refresh token travels.
    pub transport: Transport,
}

/// Issues the tokens of a grant. The access token expires at the session's absolute end at the latest.
pub(super) fn issue(state: &AppState, grant: &Grant, now: Timestamp) -> Result<Tokens, ServiceError> {
    let settings = &state.config.token;
    let exp = (now + settings.access_ttl).min(grant.ends_at);
    let claims = AccessClaims {
        iss: state.config.issuer.clone(),
        sub: grant.account,
        aud: settings.audience.clone(),
        client_id: settings.client_id.clone(),
        iat: now.as_secs(),
        exp: exp.as_secs(),
        jti: state.entropy.uuid().to_string(),
        sid: grant.session,
        auth_time: grant.created_at.as_secs(),
        acr: ACR_PASSWORD.to_owned(),
        amr: vec![AMR_PASSWORD.to_owned()],
        scope: settings.scope.clone(),
        roles: grant.roles.names().to_vec(),
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
        session: grant.session,
        transport: grant.transport,
    })
}
