//! Mails that a node queues after the response to a request. So the time of the response does not reveal whether there is any work (I12).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{service::error::ServiceError, state::AppState};

/// For how long to retry while a store does not answer.
const RETRY_TIME: Duration = Duration::from_secs(8);

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts `work` in the background. Retries it while a store does not answer, and logs failures. A node that shuts down waits for it.
/// `task` names the work in the log.
pub(super) fn run<F>(state: &Arc<AppState>, task: &'static str, work: impl Fn(Arc<AppState>) -> F + Send + 'static)
where
    F: Future<Output = Result<(), ServiceError>> + Send,
{
    let (tracker, state) = (state.background.clone(), Arc::clone(state));
    tracker.spawn(async move {
        let started = Instant::now();
        loop {
            match work(Arc::clone(&state)).await {
                Ok(()) => return,
                Err(error @ ServiceError::Unavailable { .. }) if started.elapsed() < RETRY_TIME => {
                    tracing::warn!(%error, task, "a mail that a user has requested could not be queued; retrying for up to 8 s");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    tracing::error!(%error, task, "a mail that a user has requested could not be queued and is not sent: the user must request it again");
                    return;
                }
            }
        }
    });
}
