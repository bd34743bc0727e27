//! Reads a request's body completely before the handlers see it, within a size, a time and the bounds of
//! [`pending_bodies`](super::pending_bodies).

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::{FutureExt, TryFutureExt, TryStreamExt};
use hyper::body::Bytes;
use poem::{
    Body, Endpoint, Middleware, Request, Result,
    error::ResponseError,
    http::{StatusCode, header::CONTENT_LENGTH},
};

use super::pending_bodies::{BodySender, Bound, PendingBodies};
use crate::{
    config::HttpSettings,
    http::{
        extract::client_address::ClientAddressResolver,
        problem::cause::{self, FailureCause},
    },
};

/// Why a body was not read. The response has this error's status. Over HTTP/1, the connection closes after the response.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The body is larger than `http.max_body_bytes`: 413.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The largest body that is accepted, in bytes.
        limit: usize,
    },
    /// The body did not arrive within `http.body_timeout`: 408.
    #[error("the body did not arrive in time")]
    TimedOut,
    /// Newer bodies needed the slot of this one: 408.
    #[error("the body was still incomplete when too many other request bodies were arriving; send it faster")]
    Evicted(Bound),
    /// The connection broke, or the body is not framed as HTTP requires: 400.
    #[error("the body could not be read")]
    Unreadable(#[source] io::Error),
}

impl ResponseError for BodyError {
    fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TimedOut | Self::Evicted(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Unreadable(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// Middleware that reads the body of every request and puts it back, held in memory. Fails with [`BodyError`].
///
/// A request without a body passes unchanged. A body whose `Content-Length` exceeds the limit is refused unread.
#[derive(Clone, Debug)]
pub struct ReadBody {
    max_bytes: usize,
    timeout: Duration,
    addresses: ClientAddressResolver,
    pending: Arc<PendingBodies>,
}

impl ReadBody {
    /// Uses the limits of the settings. Clones share the bounds on bodies that are still arriving.
    pub fn new(settings: &HttpSettings) -> Self {
        Self {
            max_bytes: settings.max_body_bytes,
            timeout: settings.body_timeout,
            addresses: ClientAddressResolver::new(settings),
            pending: Arc::new(PendingBodies::new(settings)),
        }
    }

    /// The bodies that are still arriving.
    pub fn pending(&self) -> &PendingBodies {
        &self.pending
    }
}

impl<E: Endpoint> Middleware<E> for ReadBody {
    type Output = ReadBodyEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        ReadBodyEndpoint { inner, reader: self.clone() }
    }
}

/// The endpoint of [`ReadBody`].
#[derive(Debug)]
pub struct ReadBodyEndpoint<E> {
    inner: E,
    reader: ReadBody,
}

impl<E: Endpoint> Endpoint for ReadBodyEndpoint<E> {
    type Output = E::Output;

    async fn call(&self, mut req: Request) -> Result<Self::Output> {
        let body = req.take_body();
        if !body.is_empty() {
            let bytes = self.reader.read(&req, body).await?;
            req.set_body(bytes);
        }
        self.inner.call(req).await
    }
}

impl ReadBody {
    /// Takes a request's body if all of it has arrived. Otherwise, or if no `Content-Length` shows that the body is within the limit,
    /// returns `None` and leaves the body for [`ReadBodyEndpoint`], which waits for the rest. For the introspection cache, which
    /// answers before [`ReadBodyEndpoint`] runs.
    pub(in crate::http) async fn try_read_buffered(&self, request: &mut Request) -> Result<Option<Bytes>, BodyError> {
        let has_accepted_length = declared_length(request).is_some_and(|length| self.is_within_limit(length));
        if !has_accepted_length {
            return Ok(None);
        }
        let mut collecting = Box::pin(collect(request.take_body(), self.max_bytes));
        match poll_twice(&mut collecting).await {
            Some(Ok(Some(bytes))) => Ok(Some(bytes)),
            // hyper yields no more than the declared length, so this does not happen
            Some(Ok(None)) => Err(BodyError::TooLarge { limit: self.max_bytes }),
            Some(Err(error)) => Err(BodyError::Unreadable(error)),
            None => {
                // Puts the body back. Its length was checked above, so the default is never used.
                let whole = collecting.map_ok(Option::unwrap_or_default);
                request.set_body(Body::from_bytes_stream(whole.into_stream()));
                Ok(None)
            }
        }
    }

    /// Reads a body completely. `request` is the request that the body was taken from.
    async fn read(&self, request: &Request, body: Body) -> Result<Body, BodyError> {
        let too_large = BodyError::TooLarge { limit: self.max_bytes };
        if declared_length(request).is_some_and(|length| !self.is_within_limit(length)) {
            return Err(too_large);
        }
        let mut collecting = pin!(collect(body, self.max_bytes));
        let collected = match poll_twice(&mut collecting).await {
            Some(collected) => collected,
            None => self.wait_for_rest(request, collecting).await?,
        };
        match collected {
            Ok(Some(bytes)) => Ok(bytes.into()),
            Ok(None) => Err(too_large),
            Err(error) => Err(BodyError::Unreadable(error)),
        }
    }

    /// Whether a body of `length` bytes is within the limit.
    fn is_within_limit(&self, length: u64) -> bool {
        usize::try_from(length).is_ok_and(|length| length <= self.max_bytes)
    }

    /// Waits for the rest of a body, which occupies a slot of [`PendingBodies`] until then.
    async fn wait_for_rest<T>(&self, request: &Request, collecting: impl Future<Output = T>) -> Result<T, BodyError> {
        let mut slot = self.pending.admit(self.sender(request));
        tokio::select! {
            biased; // a body that is complete by now counts, even if it is evicted or late
            collected = collecting => Ok(collected),
            bound = slot.evicted() => {
                let error = BodyError::Evicted(bound);
                cause::record(FailureCause::Limit { setting: bound.setting(), error: error.to_string() });
                Err(error)
            }
            () = tokio::time::sleep(self.timeout) => Err(BodyError::TimedOut),
        }
    }

    /// The connection and the client address of a request. The number of incomplete bodies is limited for each of them.
    fn sender(&self, request: &Request) -> BodySender {
        let peer = ClientAddressResolver::peer(request);
        BodySender {
            // a connection of a trusted proxy carries the bodies of many clients
            connection: peer.filter(|peer| !self.addresses.is_trusted(peer.ip())),
            address: peer.map(|peer| self.addresses.resolve(peer.ip(), request.headers())),
        }
    }
}

/// The output of a future that is ready when polled once or twice: hyper returns what came with the headers on the
/// second poll. Nearly every body is complete by then and needs no timer.
async fn poll_twice<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut polled = false;
    poll_fn(|cx| match Pin::new(&mut *future).poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if polled => Poll::Ready(None),
        Poll::Pending => {
            polled = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// A body in one piece; none if it is larger than `max_bytes`. Most bodies arrive in one piece, which is not copied.
async fn collect(body: Body, max_bytes: usize) -> io::Result<Option<Bytes>> {
    let mut pieces = pin!(body.into_bytes_stream());
    let mut whole = Bytes::new();
    while let Some(piece) = pieces.try_next().await? {
        if piece.len() > max_bytes - whole.len() {
            return Ok(None);
        }
        whole = if whole.is_empty() { piece } else { [whole, piece].concat().into() };
    }
    Ok(Some(whole))
}

/// The `Content-Length`, if hyper accepted one.
fn declared_length(req: &Request) -> Option<u64> {
    req.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
