//! How handlers learn that the service is told to stop.

use poem::{FromRequest, Request, RequestBody, Result};
use tokio_util::sync::CancellationToken;

/// Cancelled as soon as the service is told to stop, while it still serves: whoever asks then whether it is ready is told
/// that it isn't. The server gives it to every request.
#[derive(Clone, Debug, Default)]
pub struct Draining(pub CancellationToken);

impl<'a> FromRequest<'a> for Draining {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(request.data().cloned().unwrap_or_default())
    }
}

/// Cancelled when the service takes no new requests any more: answers without an end have to end then, or they would be waited
/// for until they are cut. The server gives it to every request.
#[derive(Clone, Debug, Default)]
pub struct Stopping(pub CancellationToken);

impl Stopping {
    /// That of a request; never cancelled where no server gave it one.
    pub fn of(request: &Request) -> Self {
        request.data().cloned().unwrap_or_default()
    }
}
