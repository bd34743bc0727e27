//! The requests in flight on a connection, from the call of the endpoint to the end of the response body.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Bytes, Frame, SizeHint};

use super::write_timeout::{PIECE, StreamStall};

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    in_flight: AtomicUsize,
    /// See [`Self::changes`].
    changes: AtomicU64,
}

impl Activity {
    /// Registers a request until the result is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        // counts the request first: a reader that sees the change then also sees the request, unless it has ended
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.changes.fetch_add(1, Ordering::AcqRel);
        InFlight(Arc::clone(self))
    }

    /// Whether a request is in flight.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) > 0
    }

    /// The number of times that a request has begun or ended. If two reads are equal, no request began or ended in between.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        // counts the change first: a reader that sees an idle connection then also sees the change
        self.0.changes.fetch_add(1, Ordering::AcqRel);
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A response body. Its request is in flight until the body is sent or dropped. Over HTTP/2 the body is sent in pieces, so that
/// a stalled stream can be detected.
pub(super) struct TrackedBody {
    body: BoxBody<Bytes, io::Error>,
    /// Detects that the HTTP/2 stream stalls. `None` over HTTP/1.
    stall: Option<StreamStall>,
    /// The part of the current frame that has not been sent.
    rest: Bytes,
    _request: InFlight,
}

impl TrackedBody {
    pub(super) fn new(body: BoxBody<Bytes, io::Error>, request: InFlight) -> Self {
        Self { body, stall: StreamStall::of_current_stream(), rest: Bytes::new(), _request: request }
    }
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let Some(stall) = &this.stall else { return Pin::new(&mut this.body).poll_frame(cx) };
        // hyper asks for the next piece, so it has sent the previous piece
        stall.end_wait();
        if this.rest.is_empty() {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(cx)).transpose()?;
            match frame.map(Frame::into_data) {
                Some(Ok(data)) => this.rest = data,
                Some(Err(trailers)) => return Poll::Ready(Some(Ok(trailers))),
                None => return Poll::Ready(None),
            }
        }
        stall.begin_wait();
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // hyper reads the hint only before the first piece, while `rest` is empty
        self.body.size_hint()
    }
}
