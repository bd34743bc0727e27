//! No more requests at once than so many: each may hold a body, and what is asked of Redis and the database.

use std::{sync::Arc, time::Duration};

use poem::{Endpoint, Middleware, Request, Result};
use tokio::sync::Semaphore;

use crate::http::problem::{Code, ProblemError};

/// When to try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Whether the service lives and is ready is told even then: who asks would end it otherwise.
const ALWAYS: [&str; 2] = ["/livez", "/readyz"];

/// Middleware: above a number of requests at once, further ones are answered 503 with `Retry-After`, unread.
///
/// A request counts until its answer's headers are there: a stream of events doesn't after that.
#[derive(Clone, Copy, Debug)]
pub struct ConcurrencyLimit(usize);

impl ConcurrencyLimit {
    /// Takes up to `most`.
    pub fn new(most: usize) -> Self {
        Self(most)
    }
}

impl<E: Endpoint> Middleware<E> for ConcurrencyLimit {
    type Output = ConcurrencyLimitEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        ConcurrencyLimitEndpoint { inner, places: Arc::new(Semaphore::new(self.0.min(Semaphore::MAX_PERMITS))) }
    }
}

/// See [`ConcurrencyLimit`].
#[derive(Debug)]
pub struct ConcurrencyLimitEndpoint<E> {
    inner: E,
    places: Arc<Semaphore>,
}

impl<E: Endpoint> Endpoint for ConcurrencyLimitEndpoint<E> {
    type Output = E::Output;

    async fn call(&self, request: Request) -> Result<Self::Output> {
        if ALWAYS.contains(&request.uri().path()) {
            return self.inner.call(request).await;
        }
        let Ok(_place) = self.places.try_acquire() else {
            let retry_after = Some(RETRY_AFTER);
            let detail = "There are too many requests at the moment.";
            return Err(ProblemError { retry_after, ..ProblemError::new(Code::Unavailable, detail) }.into());
        };
        self.inner.call(request).await
    }
}
