//! Checks whether this node has the secrets and the signing keys of the other nodes.

use std::time::Duration;

use crate::{
    service::error::ServiceError,
    state::{AppState, error::StateError},
};

/// How long a client should wait before a retry.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Checks that this node has the secrets and the signing keys of the other nodes. Reloads the signing keys, at most once a second. Call
/// this before data under an unknown key is refused: a node that has the key accepts the data.
///
/// # Errors
/// [`ServiceError::Unavailable`]
pub(super) async fn require_keys_of_peers(state: &AppState) -> Result<(), ServiceError> {
    // Without other nodes, nobody else has issued data, and a forged token does not make the node read the database.
    let has_peers = state.config.multi_node || state.redis.revocation_log.peers() > 0;
    if !has_peers {
        return Ok(());
    }
    let reload = state.keys.reload_on_miss().await;
    let source = if state.keys.lacks_secret() {
        anyhow::anyhow!(
            "another node uses a secret that this node does not have: add it to LATCHKEY_SECRET_PREVIOUS or to the secret file and restart \
             this node"
        )
    } else {
        match reload {
            Ok(()) => return Ok(()),
            Err(error @ StateError::KeyRing(_)) => error.into(),
            Err(error) => return Err(error.into()),
        }
    };
    Err(ServiceError::Unavailable { dependency: "token key", retry_after: RETRY_AFTER, source })
}
