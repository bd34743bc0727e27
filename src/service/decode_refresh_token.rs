//! Decodes a presented refresh token. Distinguishes an invalid token from one under a secret that only other nodes have.

use std::time::Duration;

use crate::{
    crypto::refresh_token::{RefreshClaims, RefreshTokenError},
    service::error::ServiceError,
    state::AppState,
};

/// How long a client should wait before a retry.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Decodes a refresh token; `None` if it is invalid.
///
/// While the secret is changed node by node, a node with the old secret can't verify tokens under the new one. For such a token, it
/// returns an error that asks for a retry: otherwise the user would have to sign in again. Forged tokens get the same error. Malformed
/// tokens are always invalid.
///
/// # Errors
/// [`ServiceError::Unavailable`] while another node uses a secret that this node does not have.
pub(super) async fn decode_refresh_token(state: &AppState, token: &str) -> Result<Option<RefreshClaims>, ServiceError> {
    match state.refresh_tokens.decode(token) {
        Ok(claims) => Ok(Some(claims)),
        Err(RefreshTokenError::UnknownKey) => {
            // Boxed: this path is rare, and its future would enlarge the future of every refresh. The check saves the box.
            if has_peers(state) {
                Box::pin(require_secret_of_peers(state)).await?;
            }
            Ok(None)
        }
        Err(_) => Ok(None),
    }
}

/// Checks that no other node uses a secret that this node does not have. Call this before data under an unknown secret is refused: a node
/// that has the secret accepts the data.
///
/// # Errors
/// [`ServiceError::Unavailable`]
pub(super) async fn require_secret_of_peers(state: &AppState) -> Result<(), ServiceError> {
    // `lacks_secret` comes last, because it may read the database.
    if !has_peers(state) || !state.keys.lacks_secret().await {
        return Ok(());
    }
    Err(ServiceError::Unavailable {
        dependency: "token key",
        retry_after: RETRY_AFTER,
        source: anyhow::anyhow!(
            "another node uses a secret that this node does not have: add it to LATCHKEY_SECRET_PREVIOUS or to the secret file and restart \
             this node"
        ),
    })
}

/// Whether other nodes may exist. If there are none, a forged token does not make the node read the database.
fn has_peers(state: &AppState) -> bool {
    state.config.multi_node || state.redis.revocation_log.peers() > 0
}
