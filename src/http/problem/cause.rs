//! The cause of a failed request, for the request's line in the log.

use std::cell::RefCell;

/// Why a request failed. Clients do not get it.
#[derive(Debug, PartialEq, Eq)]
pub struct FailureCause {
    /// The dependency that is unavailable; none for an internal error.
    pub dependency: Option<&'static str>,
    /// The error with its sources.
    pub error: String,
}

tokio::task_local! {
    /// The cause recorded for the request that this task handles.
    static CAUSE: RefCell<Option<FailureCause>>;
}

/// Runs a request. Returns its output, and the first cause that was recorded meanwhile.
pub async fn collect<F: Future>(request: F) -> (F::Output, Option<FailureCause>) {
    let collecting = async {
        let output = request.await;
        (output, CAUSE.with(RefCell::take))
    };
    CAUSE.scope(RefCell::default(), collecting).await
}

/// Records why the request of this task fails. Logs the cause at once if this task handles no request.
pub(in crate::http) fn record(dependency: Option<&'static str>, error: String) {
    let mut cause = Some(FailureCause { dependency, error });
    let recorded = CAUSE.try_with(|recorded| {
        let mut recorded = recorded.borrow_mut();
        if recorded.is_none() {
            *recorded = cause.take();
        }
    });
    match (recorded, cause) {
        (Ok(()), _) | (Err(_), None) => {}
        (Err(_), Some(FailureCause { dependency: Some(dependency), error })) => {
            tracing::warn!(dependency, error, "dependency unavailable");
        }
        (Err(_), Some(FailureCause { dependency: None, error })) => tracing::error!(error, "internal error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_cause_of_each_request_is_collected() {
        let failing = collect(async {
            record(Some("redis"), "connection refused".to_owned());
            record(None, "a later one".to_owned());
            503
        });
        let (failing, succeeding) = tokio::join!(failing, collect(async { 200 }));
        let cause = FailureCause { dependency: Some("redis"), error: "connection refused".to_owned() };
        assert_eq!(failing, (503, Some(cause)));
        assert_eq!(succeeding, (200, None));
    }
}
