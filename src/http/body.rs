//! Reads a request's body whole before anything looks at it, within a size and a time.

use std::{io, pin::pin, time::Duration};

use futures_util::TryStreamExt;
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
    async fn read(&self, declared: Option<u64>, body: Body) -> Result<Body, BodyError> {
        let too_large = BodyError::TooLarge { limit: self.max_bytes };
        if declared.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > self.max_bytes)) {
            return Err(too_large);
        }
        match tokio::time::timeout(self.timeout, collect(body, self.max_bytes)).await {
            Ok(Ok(Some(bytes))) => Ok(bytes.into()),
            Ok(Ok(None)) => Err(too_large),
            Ok(Err(error)) => Err(BodyError::Unreadable(error)),
            Err(_) => Err(BodyError::TimedOut),
        }
    }
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
