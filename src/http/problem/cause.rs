//! The cause of a failed request, for the request's line in the log.

use std::cell::RefCell;

/// Why a request failed. Clients do not get it.
#[derive(Debug, PartialEq, Eq)]
pub enum FailureCause {
    /// A dependency is unavailable.
    Dependency {
        /// The dependency, such as `redis`.
        name: &'static str,
        /// The error with its sources.
        error: String,
    },
    /// A configured limit of this node was reached.
    Limit {
        /// The setting of the limit, such as `http.max_requests`.
        setting: &'static str,
        /// The limit that was reached, in words.
        error: String,
    },
    /// An internal error, with its sources.
    Internal(String),
}

tokio::task_local! {
    /// The cause recorded for the request that this task handles.
    static CAUSE: RefCell<Option<FailureCause>>;
}

/// Runs a request. Returns its output, and the first cause that was recorded meanwhile.
pub fn collect<F: Future>(request: F) -> impl Future<Output = (F::Output, Option<FailureCause>)> {
    CAUSE.scope(RefCell::default(), async {
        let output = request.await;
        (output, CAUSE.with(RefCell::take))
    })
}

/// Records why the request of this task fails, unless a cause is recorded already. Logs the cause at once if this task handles no request.
pub(in crate::http) fn record(cause: FailureCause) {
    let mut cause = Some(cause);
    let recorded = CAUSE.try_with(|recorded| {
        let mut recorded = recorded.borrow_mut();
        if recorded.is_none() {
            *recorded = cause.take();
        }
    });
    let (Err(_), Some(cause)) = (recorded, cause) else { return };
    match cause {
        FailureCause::Dependency { name: dependency, error } => {
            tracing::warn!(dependency, error, "work outside of a request failed: a dependency is unavailable");
        }
        FailureCause::Limit { setting, error } => {
            tracing::warn!(setting, error, "work outside of a request failed: a limit was reached")
        }
        FailureCause::Internal(error) => tracing::error!(error, "work outside of a request failed: internal error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_cause_of_each_request_is_collected() {
        let failing = collect(async {
            record(FailureCause::Dependency { name: "redis", error: "connection refused".to_owned() });
            record(FailureCause::Internal("a later one".to_owned()));
            503
        });
        let (failing, succeeding) = tokio::join!(failing, collect(async { 200 }));
        let cause = FailureCause::Dependency { name: "redis", error: "connection refused".to_owned() };
        assert_eq!(failing, (503, Some(cause)));
        assert_eq!(succeeding, (200, None));
    }
}
