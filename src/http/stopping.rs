//! How a handler whose answer has no end by itself learns that the service is told to stop.

use poem::Request;
use tokio_util::sync::CancellationToken;

/// Cancelled when the service is told to stop, at once: answers without an end have to end then, or they would be waited
/// for until they are cut. The server gives it to every request.
#[derive(Clone, Debug, Default)]
pub struct Stopping(pub CancellationToken);

impl Stopping {
    /// That of a request; never cancelled where no server gave it one.
    pub fn of(request: &Request) -> Self {
        request.data().cloned().unwrap_or_default()
    }
}
