//! Limits the number of concurrent requests: each may hold a body and wait for Redis and the database.

use std::{sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    future::{Either, lazy},
};
use poem::{Endpoint, Middleware, Request, Result};
use tokio::sync::Semaphore;

use crate::http::problem::{
    Code, ProblemError,
    cause::{self, FailureCause},
};

/// The `Retry-After` of refused requests.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Probes are exempt: an orchestrator would restart a node that fails them under load, or send it no requests.
const EXEMPT: [&str; 2] = ["/livez", "/readyz"];

/// Middleware that answers 503 with `Retry-After` above a number of concurrent requests.
///
/// A request counts once its body has arrived ([`ReadBody`](super::body::ReadBody) runs first), and until its response has
/// headers. So an open event stream does not count.
#[derive(Clone, Copy, Debug)]
pub struct ConcurrencyLimit(usize);

impl ConcurrencyLimit {
    /// Allows `limit` concurrent requests.
    pub fn new(limit: usize) -> Self {
        Self(limit)
    }
}

impl<E: Endpoint> Middleware<E> for ConcurrencyLimit {
    type Output = ConcurrencyLimitEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        // `Semaphore::new` panics above this number.
        let permits = self.0.min(Semaphore::MAX_PERMITS);
        ConcurrencyLimitEndpoint { inner, permits: Arc::new(Semaphore::new(permits)) }
    }
}

/// The endpoint of [`ConcurrencyLimit`].
#[derive(Debug)]
pub struct ConcurrencyLimitEndpoint<E> {
    inner: E,
    permits: Arc<Semaphore>,
}

impl<E: Endpoint> Endpoint for ConcurrencyLimitEndpoint<E> {
    type Output = E::Output;

    fn call(&self, request: Request) -> impl Future<Output = Result<Self::Output>> + Send {
        let is_exempt = EXEMPT.contains(&request.uri().path());
        match (!is_exempt).then(|| self.permits.try_acquire()) {
            // lazily, because the cause of a refusal is recorded for the request that the task is handling then
            Some(Err(_no_permits)) => Either::Left(lazy(|_| Err(refusal().into()))),
            // the closure owns the permit, so an abandoned request releases it, too
            permit => Either::Right(self.inner.call(request).inspect(move |_| drop(permit))),
        }
    }
}

/// The error of a request above the limit, recorded as the cause.
#[cold]
fn refusal() -> ProblemError {
    let error = "the node handles as many requests as the setting allows".to_owned();
    cause::record(FailureCause::Limit { setting: "http.max_requests", error });
    let detail = "The node is handling as many requests as it can. Try again.";
    ProblemError { retry_after: Some(RETRY_AFTER), ..ProblemError::new(Code::Unavailable, detail) }
}

#[cfg(test)]
mod tests {
    use poem::endpoint::make_sync;

    use super::*;

    #[tokio::test]
    async fn refused_request_records_setting_as_cause() {
        // a limit of 0 refuses every request
        let limited = ConcurrencyLimit::new(0).transform(make_sync(|_| "served"));
        let (response, cause) = cause::collect(limited.call(Request::default())).await;
        assert!(response.is_err());
        assert!(matches!(cause, Some(FailureCause::Limit { setting: "http.max_requests", .. })), "{cause:?}");
    }
}
