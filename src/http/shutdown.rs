//! How handlers learn that the service is told to stop.

use poem::{FromRequest, Request, RequestBody, Result};
use tokio_util::sync::CancellationToken;

/// What the server gives to every `GET` and `HEAD`: answers without an end, and those that say whether it is ready, answer
/// no others.
#[derive(Clone, Debug)]
pub struct Ending {
    /// See there.
    pub draining: Draining,
    /// See there.
    pub stopping: Stopping,
}

/// Cancelled as soon as the service is told to stop, while it still serves: whoever asks then whether it is ready is told
/// that it isn't.
#[derive(Clone, Debug, Default)]
pub struct Draining(pub CancellationToken);

impl<'a> FromRequest<'a> for Draining {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(request.data().map(|ending: &Ending| ending.draining.clone()).unwrap_or_default())
    }
}

/// Cancelled when the service takes no new requests any more: answers without an end have to end then, or they would be waited
/// for until they are cut.
#[derive(Clone, Debug, Default)]
pub struct Stopping(pub CancellationToken);

impl Stopping {
    /// That of a request; never cancelled where no server gave it one.
    pub fn of(request: &Request) -> Self {
        request.data().map(|ending: &Ending| ending.stopping.clone()).unwrap_or_default()
    }
}
