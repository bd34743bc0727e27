//! A service client gets an access token of its own (RFC 6749, section 4.4).

use std::time::Duration;

use crate::{
    crypto::{access_token::AccessToken, client_token::ClientClaims},
    domain::client::{Client, SpaceSeparated},
    service::{error::ServiceError, limits},
    state::AppState,
};

/// Why a client gets no token.
#[derive(Debug, thiserror::Error)]
pub enum ClientTokenError {
    /// It asks for scopes that it doesn't have, or that can't be scopes.
    #[error("the client may not have these scopes")]
    InvalidScope,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// A client's token.
#[derive(Clone, Debug)]
pub struct ClientToken {
    /// The token (RFC 9068).
    pub access_token: AccessToken,
    /// How long it is valid.
    pub expires_in: Duration,
    /// What it may be used for.
    pub scope: SpaceSeparated,
}

/// Makes a token for a client's own audiences, with the scopes it asks for, or all of its own if it asks for none.
///
/// # Errors
/// [`ClientTokenError`]
pub fn issue(state: &AppState, client: &Client, scope: Option<&str>) -> Result<ClientToken, ClientTokenError> {
    limits::introspection(state, client.id.as_str())?;
    let scope = match scope {
        None => client.scopes.clone(),
        Some(asked) => {
            let asked = SpaceSeparated::from_spaced(asked).map_err(|_| ClientTokenError::InvalidScope)?;
            if !client.scopes.contains_all(&asked) {
                return Err(ClientTokenError::InvalidScope);
            }
            asked
        }
    };
    let now = state.clock.now();
    let expires_in = state.config.token.access_ttl;
    let claims = ClientClaims {
        iss: state.config.issuer.clone(),
        sub: client.id.to_string(),
        aud: client.audiences.words().to_vec(),
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
