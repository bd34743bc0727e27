//! Shutdown signals for handlers.

use poem::{FromRequest, Request, RequestBody, Result};
use tokio_util::sync::CancellationToken;

/// The shutdown signals, which the server adds to every `GET` and `HEAD`: event streams and readiness checks use only
/// these methods.
#[derive(Clone, Debug)]
pub struct ShutdownSignals {
    /// The signal for readiness checks.
    pub draining: Draining,
    /// The signal for event streams.
    pub stopping: Stopping,
}

/// Cancelled when the service begins to drain: it still serves requests, and readiness checks fail.
#[derive(Clone, Debug, Default)]
pub struct Draining(pub CancellationToken);

impl<'a> FromRequest<'a> for Draining {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        // A request that did not come through the server, as in some tests, gets a signal that is never cancelled.
        Ok(request.data().map(|signals: &ShutdownSignals| signals.draining.clone()).unwrap_or_default())
    }
}

/// Cancelled when the service accepts no more requests. Event streams end then, or the shutdown would wait for them
/// until it cuts them off.
#[derive(Clone, Debug, Default)]
pub struct Stopping(pub CancellationToken);

impl Stopping {
    /// The signal of a request, for handlers that have the request itself. Never cancelled if the request did not come through
    /// the server.
    pub fn of(request: &Request) -> Self {
        request.data().map(|signals: &ShutdownSignals| signals.stopping.clone()).unwrap_or_default()
    }
}
