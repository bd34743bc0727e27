//! Issues an access token to a service client (RFC 6749, section 4.4).

use std::time::Duration;

use crate::{
    crypto::{access_token::AccessToken, client_token::ClientClaims},
    domain::client::{Client, SpaceSeparated},
    service::{error::ServiceError, limits},
    state::AppState,
};

/// Why no token was issued.
#[derive(Debug, thiserror::Error)]
pub enum ClientTokenError {
    /// The requested scopes are malformed, or the client does not have all of them.
    #[error("the client may not have these scopes")]
    InvalidScope,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// The token of a client.
#[derive(Clone, Debug)]
pub struct ClientToken {
    /// The token (RFC 9068).
    pub access_token: AccessToken,
    /// The token's lifetime.
    pub expires_in: Duration,
    /// The token's scopes.
    pub scope: SpaceSeparated,
}

/// Issues a token for the client's audiences, with the requested scopes or, if none are requested, all of its scopes.
///
/// # Errors
/// [`ClientTokenError`]
pub fn issue(
    state: &AppState,
    client: &Client,
    requested_scope: Option<&str>,
) -> Result<ClientToken, ClientTokenError> {
    // A client's requests for tokens and its introspections share a rate limit.
    limits::check_introspection(state, client.id.as_str())?;
    let scope = granted_scope(client, requested_scope)?;
    let now = state.clock.now();
    let expires_in = state.config.token.access_ttl;
    let claims = ClientClaims {
        iss: state.config.issuer.clone(),
        sub: client.id.to_string(),
        aud: client.audiences.items().to_vec(),
        client_id: client.id.to_string(),
        iat: now.as_secs(),
        exp: (now + expires_in).as_secs(),
        jti: state.entropy.uuid().to_string(),
        scope: scope.to_string(),
    };
    let keys = state.keys.current();
    let signer = keys.signer(now).map_err(ServiceError::from)?;
    let access_token = signer.encode_client(&claims).map_err(ServiceError::from)?;
    Ok(ClientToken { access_token, expires_in, scope })
}

fn granted_scope(client: &Client, requested_scope: Option<&str>) -> Result<SpaceSeparated, ClientTokenError> {
    let Some(requested_scope) = requested_scope else { return Ok(client.scopes.clone()) };
    let requested = SpaceSeparated::from_spaced(requested_scope).map_err(|_| ClientTokenError::InvalidScope)?;
    if client.scopes.contains_all(&requested) { Ok(requested) } else { Err(ClientTokenError::InvalidScope) }
}
