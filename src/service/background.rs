//! Work that is done after a request was answered, so that the answer's time reveals nothing about it (I12).

use std::{sync::Arc, time::Duration};

use crate::{service::error::ServiceError, state::AppState};

/// How often work is tried while a store does not answer.
const ATTEMPTS: u32 = 5;

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts the work. A failure is logged, and the work is done again while a store does not answer. The node waits for it when
/// it stops.
pub(super) fn run<F>(state: &Arc<AppState>, what: &'static str, work: impl Fn(Arc<AppState>) -> F + Send + 'static)
where
    F: Future<Output = Result<(), ServiceError>> + Send,
{
    let (tracker, state) = (state.background.clone(), Arc::clone(state));
    tracker.spawn(async move {
        for attempt in 1..=ATTEMPTS {
            match work(Arc::clone(&state)).await {
                Ok(()) => return,
                Err(error @ ServiceError::Unavailable { .. }) if attempt < ATTEMPTS => {
                    tracing::warn!(%error, what, "work after an answer failed and is tried again");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    tracing::error!(%error, what, "work after an answer failed");
                    return;
                }
            }
        }
    });
}
