//! Makes the two tokens of a session from what the session store granted.

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

/// The authentication context class of a sign-in by password alone: NIST SP 800-63B's first assurance level.
const ACR_PASSWORD: &str = "aal1";
/// The authentication method of a sign-in by password (RFC 8176, section 2).
const AMR_PASSWORD: &str = "pwd";

/// What a sign-in or a refresh answers with.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// For the service's calls and for other services (RFC 9068).
    pub access_token: AccessToken,
    /// How long that is valid.
    pub expires_in: Duration,
    /// For the next refresh.
    pub refresh_token: RefreshToken,
    /// How long that is valid.
    pub refresh_expires_in: Duration,
    /// The session of both.
    pub session: SessionId,
    /// How the refresh token travels.
    pub transport: Transport,
}

/// Makes them. The access token is never valid past its session's absolute end.
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
