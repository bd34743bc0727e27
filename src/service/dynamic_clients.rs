//! Deletes dynamic clients (clients that no operator has registered) that no account allows any more.

use std::time::Duration;

use crate::{service::error::ServiceError, state::AppState};

/// How long a client without consents is kept after its last consent was given. A client is stored with its first consent.
const RETENTION: Duration = Duration::from_hours(24);

/// The interval of [`run_pruning`].
const PRUNING_INTERVAL: Duration = Duration::from_hours(1);

/// Deletes the dynamic clients that no account allows any more, and whose last consent was given more than 24 hours ago. Keeps
/// disabled ones. Returns the number deleted.
///
/// # Errors
/// [`ServiceError`]
pub async fn prune(state: &AppState) -> Result<u64, ServiceError> {
    let last_consent_before = state.clock.now() - RETENTION;
    Ok(state.sql.prune_dynamic_clients(last_consent_before).await?)
}

/// Calls [`prune`] every hour, until the node stops.
pub async fn run_pruning(state: &AppState) {
    loop {
        tokio::time::sleep(PRUNING_INTERVAL).await;
        match prune(state).await {
            Ok(0) => {}
            Ok(clients) => tracing::info!(clients, "unused dynamic clients deleted: no account allows them any more"),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "could not delete unused dynamic clients, retrying in {} s; nothing else is affected",
                    PRUNING_INTERVAL.as_secs()
                );
            }
        }
    }
}
