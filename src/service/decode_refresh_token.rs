//! Decodes a presented refresh token. Distinguishes an invalid token from one under a secret that only other nodes may have.

use super::peer_keys::require_keys_of_peers;
use crate::{
    crypto::refresh_token::{RefreshClaims, RefreshTokenError},
    service::error::ServiceError,
    state::AppState,
};

/// Decodes a refresh token; `None` if it is invalid.
///
/// While the secret is changed node by node, a node with the old secret can't verify tokens under the new one. For such a token, it
/// returns an error that asks for a retry: otherwise the user would have to sign in again. Forged tokens get the same error. Malformed
/// tokens are always invalid.
///
/// # Errors
/// [`ServiceError::Unavailable`] while another node uses, or may use, a secret that this node does not have.
pub(super) async fn decode_refresh_token(state: &AppState, token: &str) -> Result<Option<RefreshClaims>, ServiceError> {
    match state.refresh_tokens.decode(token) {
        Ok(claims) => Ok(Some(claims)),
        Err(RefreshTokenError::UnknownKey) => {
            // Boxed: this path is rare, and its future would enlarge the future of every refresh.
            Box::pin(require_keys_of_peers(state)).await?;
            Ok(None)
        }
        Err(_) => Ok(None),
    }
}
