//! Reads a request's body whole before anything looks at it, within a size and a time.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use futures_util::{FutureExt, TryStreamExt};
use hyper::body::Bytes;
use poem::{
    Body, Endpoint, Middleware, Request, Result,
    error::ResponseError,
    http::{StatusCode, header::CONTENT_LENGTH},
};

/// Why a body wasn't read. An answer to it should be this error's status; over HTTP/1 the connection ends with it.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// More than the limit: 413.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The most that is accepted, in bytes.
        limit: usize,
    },
    /// It didn't arrive in time: 408.
    #[error("the body didn't arrive in time")]
    TimedOut,
    /// The connection broke, or the body isn't framed as HTTP wants it: 400.
    #[error("the body couldn't be read")]
    Unreadable(#[source] io::Error),
}

impl ResponseError for BodyError {
    fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::Unreadable(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// Middleware: reads the body of every request and puts it back, held in memory. Fails with [`BodyError`].
///
/// A request without a body passes as it is. One whose `Content-Length` is above the limit is refused unread.
#[derive(Clone, Copy, Debug)]
pub struct ReadBody {
    max_bytes: usize,
    timeout: Duration,
}

impl ReadBody {
    /// Accepts bodies of up to `max_bytes`, arriving within `timeout` of the request's headers.
    pub fn new(max_bytes: usize, timeout: Duration) -> Self {
        Self { max_bytes, timeout }
    }
}

impl<E: Endpoint> Middleware<E> for ReadBody {
    type Output = ReadBodyEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        ReadBodyEndpoint { inner, limits: *self }
    }
}

/// See [`ReadBody`].
#[derive(Debug)]
pub struct ReadBodyEndpoint<E> {
    inner: E,
    limits: ReadBody,
}

impl<E: Endpoint> Endpoint for ReadBodyEndpoint<E> {
    type Output = E::Output;

    async fn call(&self, mut req: Request) -> Result<Self::Output> {
        let body = req.take_body();
        if !body.is_empty() {
            let bytes = self.limits.read(declared_length(&req), body).await?;
            req.set_body(bytes);
        }
        self.inner.call(req).await
    }
}

impl ReadBody {
    /// Takes a request's body if all of it has arrived; if not, what is still to come is left for [`ReadBodyEndpoint`], which
    /// waits for it.
    pub(in crate::http) async fn try_read_buffered(&self, request: &mut Request) -> Result<Option<Bytes>, BodyError> {
        let fits = |length| usize::try_from(length).is_ok_and(|length: usize| length <= self.max_bytes);
        if !declared_length(request).is_some_and(fits) {
            return Ok(None);
        }
        let max_bytes = self.max_bytes;
        let mut collected = Box::pin(collect(request.take_body(), max_bytes));
        match concurrency_limit(&mut collected).await {
            Some(Ok(Some(bytes))) => Ok(Some(bytes)),
            Some(Ok(None)) => Err(BodyError::TooLarge { limit: max_bytes }),
            Some(Err(error)) => Err(BodyError::Unreadable(error)),
            None => {
                let rest = collected.map(|collected| Ok::<_, io::Error>(collected?.unwrap_or_default()));
                request.set_body(Body::from_bytes_stream(rest.into_stream()));
                Ok(None)
            }
        }
    }

    async fn read(&self, declared: Option<u64>, body: Body) -> Result<Body, BodyError> {
        let too_large = BodyError::TooLarge { limit: self.max_bytes };
        if declared.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > self.max_bytes)) {
            return Err(too_large);
        }
        let mut collected = pin!(collect(body, self.max_bytes));
        let collected = match concurrency_limit(&mut collected).await {
            Some(collected) => collected,
            None => tokio::time::timeout(self.timeout, collected).await.map_err(|_| BodyError::TimedOut)?,
        };
        match collected {
            Ok(Some(bytes)) => Ok(bytes.into()),
            Ok(None) => Err(too_large),
            Err(error) => Err(BodyError::Unreadable(error)),
        }
    }
}

/// What a future gives when it is polled a second time: hyper hands out what came with the headers when it is asked once
/// more. Nearly every body is there by then, and needs no timer.
async fn concurrency_limit<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut before = false;
    poll_fn(|cx| match Pin::new(&mut *future).poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if before => Poll::Ready(None),
        Poll::Pending => {
            before = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// A body in one piece; none if it is larger than `max_bytes`. Most come in one piece, which isn't copied.
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

/// The `Content-Length`, where there is one that hyper accepted.
fn declared_length(req: &Request) -> Option<u64> {
    req.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
