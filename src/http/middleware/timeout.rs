//! A request that takes too long is answered with 503.

use std::time::Duration;

use poem::{
    Endpoint, IntoResponse, Middleware, Request, Response, Result,
    error::ResponseError,
    http::{StatusCode, header::RETRY_AFTER},
};

/// A request took longer than it may: 503 with `Retry-After`.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the request took too long")]
pub struct TimedOut;

impl TimedOut {
    /// When to try again, in seconds: the value of `Retry-After`.
    pub const RETRY_AFTER_SECONDS: u32 = 1;
}

impl ResponseError for TimedOut {
    fn status(&self) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }

    fn as_response(&self) -> Response {
        self.to_string().with_status(self.status()).with_header(RETRY_AFTER, Self::RETRY_AFTER_SECONDS).into_response()
    }
}

/// Middleware: gives up on a request after a time, with [`TimedOut`]. What the request began elsewhere may still happen.
///
/// The time ends with the answer's headers, so a stream of events may take as long as it likes.
#[derive(Clone, Copy, Debug)]
pub struct RequestTimeout(Duration);

impl RequestTimeout {
    /// Gives requests up to `limit`.
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

/// See [`RequestTimeout`].
#[derive(Debug)]
pub struct RequestTimeoutEndpoint<E> {
    inner: E,
    limit: Duration,
}

impl<E: Endpoint> Endpoint for RequestTimeoutEndpoint<E> {
    type Output = E::Output;

    async fn call(&self, req: Request) -> Result<Self::Output> {
        // boxed: futures hold those that they wait for twice, and each layer would double what is moved
        tokio::time::timeout(self.limit, Box::pin(self.inner.call(req))).await.unwrap_or_else(|_| Err(TimedOut.into()))
    }
}
