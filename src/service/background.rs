//! Work that a node does after it has answered a request, so that the time of the answer reveals nothing about it (I12).

use std::{sync::Arc, time::Duration};

use crate::{service::error::ServiceError, state::AppState};

/// How often work is tried while a store does not answer.
const ATTEMPTS: u32 = 5;

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts the work. A failure is logged, and the work is retried while a store does not answer. A node that stops waits for
/// the work.
pub(super) fn run<F>(state: &Arc<AppState>, task: &'static str, work: impl Fn(Arc<AppState>) -> F + Send + 'static)
where
    F: Future<Output = Result<(), ServiceError>> + Send,
{
    let (tracker, state) = (state.background.clone(), Arc::clone(state));
    tracker.spawn(async move {
        for attempt in 1..=ATTEMPTS {
            match work(Arc::clone(&state)).await {
                Ok(()) => return,
                Err(error @ ServiceError::Unavailable { .. }) if attempt < ATTEMPTS => {
                    tracing::warn!(%error, task, "background task of an answered request failed; retrying in a second");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    tracing::error!(%error, task, "background task of an answered request failed; not retried");
                    return;
                }
            }
        }
    });
}
