//! Answers 503 to a request that takes too long.

use std::time::Duration;

use futures_util::FutureExt;
use poem::{
    Endpoint, IntoResponse, Middleware, Request, Response, Result,
    error::ResponseError,
    http::{StatusCode, header::RETRY_AFTER},
};

use crate::http::problem::cause::{self, FailureCause};

/// The error of a request that exceeded its timeout. The response is 503 with `Retry-After`.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the request took too long")]
pub struct TimedOut;

impl TimedOut {
    /// The value of `Retry-After`, in seconds.
    pub const RETRY_AFTER_SECONDS: u32 = 1;
}

impl ResponseError for TimedOut {
    fn status(&self) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }

    // `problem_mapping` replaces this text with a problem.
    fn as_response(&self) -> Response {
        self.to_string().with_status(self.status()).with_header(RETRY_AFTER, Self::RETRY_AFTER_SECONDS).into_response()
    }
}

/// Middleware that abandons a request with [`TimedOut`] after the configured time. Commands that were already sent to Redis or the database
/// may still take effect.
///
/// The timeout covers the time until the headers of the response, so an event stream may last for any time.
#[derive(Clone, Copy, Debug)]
pub struct RequestTimeout(Duration);

impl RequestTimeout {
    /// Allows each request to take `limit`.
    pub fn new(limit: Duration) -> Self {
        Self(limit)
    }
}

impl<E: Endpoint> Middleware<E> for RequestTimeout {
    type Output = RequestTimeoutEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        RequestTimeoutEndpoint { inner, limit: self.0 }
    }
}

/// The endpoint of [`RequestTimeout`].
#[derive(Debug)]
pub struct RequestTimeoutEndpoint<E> {
    inner: E,
    limit: Duration,
}

impl<E: Endpoint> Endpoint for RequestTimeoutEndpoint<E> {
    type Output = E::Output;

    fn call(&self, req: Request) -> impl Future<Output = Result<Self::Output>> + Send {
        // Boxed to keep this future small: it would hold the inner future twice, as the argument of `timeout` and inside the timeout. Each
        // layer of middleware would double the size.
        let response = Box::pin(self.inner.call(req));
        let limited = tokio::time::timeout(self.limit, response);
        limited.map(|response| response.unwrap_or_else(|_elapsed| Err(timed_out())))
    }
}

/// The error of a request that exceeded its timeout, recorded as the cause.
#[cold]
fn timed_out() -> poem::Error {
    cause::record(FailureCause::Limit { setting: "http.request_timeout", error: TimedOut.to_string() });
    TimedOut.into()
}

#[cfg(test)]
mod tests {
    use poem::endpoint::make;

    use super::*;

    #[tokio::test]
    async fn request_over_the_timeout_records_setting_as_cause() {
        let never_answers = make(|_| std::future::pending::<&'static str>());
        let limited = RequestTimeout::new(Duration::ZERO).transform(never_answers);
        let (outcome, cause) = cause::collect(limited.call(Request::default())).await;
        assert!(outcome.is_err_and(|error| error.is::<TimedOut>()));
        assert!(matches!(cause, Some(FailureCause::Limit { setting: "http.request_timeout", .. })), "{cause:?}");
    }
}
