//! Mails that a node queues after the response to a request. The time of the response therefore does not reveal whether an account exists
//! and gets a mail (I12: known and unknown accounts get the same answer).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{logging::LogLimit, service::error::ServiceError, state::AppState};

/// An attempt is repeated if it fails within this time after the start of the first one.
const RETRY_PERIOD: Duration = Duration::from_secs(8);

/// The pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Limits the line about failed attempts: during an outage, the tasks of many requests wait at the same time.
static RETRY_LOG: LogLimit = LogLimit::new();

/// Starts `work` in the background, and retries it while Redis or the database does not answer. A node that shuts down waits for it. The
/// log has each task that failed for good, and failed attempts at most once a minute. `task` names the work in the log.
pub(super) fn run<F>(state: &Arc<AppState>, task: &'static str, work: impl Fn(Arc<AppState>) -> F + Send + 'static)
where
    F: Future<Output = Result<(), ServiceError>> + Send,
{
    let state = Arc::clone(state);
    let tracker = state.background.clone();
    tracker.spawn(async move {
        let started = Instant::now();
        loop {
            match work(Arc::clone(&state)).await {
                Ok(()) => return,
                Err(error @ ServiceError::Unavailable { .. }) if started.elapsed() < RETRY_PERIOD => {
                    if RETRY_LOG.record_if_due(Instant::now()) {
                        tracing::warn!(
                            %error,
                            task,
                            "a mail that a user has requested could not be queued; retrying for up to {} s, then it is not sent. \
                             At most one such line a minute is logged",
                            RETRY_PERIOD.as_secs()
                        );
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => {
                    tracing::error!(%error, task, "a mail that a user has requested could not be queued and is not sent: the user must request it again");
                    return;
                }
            }
        }
    });
}
