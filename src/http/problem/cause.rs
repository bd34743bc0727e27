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
    /// Another request changed the account in the meantime. The text describes the conflict.
    Conflict(String),
    /// An internal error, with its sources.
    Internal(String),
}

tokio::task_local! {
    /// The first cause recorded for the request that this task handles.
    static CAUSE: RefCell<Option<FailureCause>>;
}

/// Runs a request. Returns its output, and the first cause that was recorded meanwhile.
pub fn collect<F: Future>(request: F) -> impl Future<Output = (F::Output, Option<FailureCause>)> {
    CAUSE.scope(RefCell::default(), async {
        let output = request.await;
        (output, CAUSE.with(RefCell::take))
    })
}

/// Records why the request of this task fails, unless a cause is recorded already. Every caller runs in [`collect`], except in unit tests.
#[cold]
pub(in crate::http) fn record(cause: FailureCause) {
    let _ = CAUSE.try_with(|recorded| {
        recorded.borrow_mut().get_or_insert(cause);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::problem::{Code, ProblemError},
        service::{error::ServiceError, feed::SubscribeError},
    };

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

    #[tokio::test]
    async fn internal_error_and_refused_subscription_record_their_cause() {
        let (problem, cause) = collect(async { ProblemError::internal_because("a bug") }).await;
        assert_eq!(problem.code, Code::InternalError);
        assert_eq!(cause, Some(FailureCause::Internal("a bug".to_owned())));
        let refused = |error: SubscribeError| collect(async { ProblemError::from(error) });
        let limit_of = |cause| match cause {
            Some(FailureCause::Limit { setting, .. }) => setting,
            other => panic!("{other:?}"),
        };
        assert_eq!(limit_of(refused(SubscribeError::NodeFull).await.1), "feed.max_subscribers");
        assert_eq!(limit_of(refused(SubscribeError::ClientFull).await.1), "feed.max_subscribers_per_client");
        let (_, cause) = refused(SubscribeError::NotSynced).await;
        assert!(matches!(cause, Some(FailureCause::Dependency { name: "redis", .. })), "{cause:?}");
    }

    #[tokio::test]
    async fn change_of_an_account_during_a_request_is_recorded_as_a_conflict() {
        let error = ServiceError::AccountChanged("its owner was signing in");
        let (problem, cause) = collect(async { ProblemError::from(error) }).await;
        assert!(matches!(problem.code, Code::Unavailable) && problem.retry_after.is_some(), "{problem:?}");
        let conflict = "the account changed while its owner was signing in".to_owned();
        assert_eq!(cause, Some(FailureCause::Conflict(conflict)));
    }
}
