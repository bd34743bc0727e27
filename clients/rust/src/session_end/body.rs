//! Response bodies that end with their session: [`SessionBody`].

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use reqwest::header::HeaderMap;

use super::{EndCause, SessionWatch, VerifiedSession};
use crate::http::is_event_stream;

/// The error of a [`SessionBody`].
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A response body or a WebSocket was cut off because its session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended: {0}")]
pub struct SessionEnded(pub EndCause);

pin_project! {
    /// A response body. If its length is unknown, it ends with its session: an event stream as if it were complete, so that the
    /// client reconnects, and any other body with the error [`SessionEnded`], so that the client notices that the body is
    /// incomplete.
    #[derive(Debug, Default)]
    pub struct SessionBody<B> {
        #[pin]
        inner: B,
        // `None` for a body that doesn't end with its session, and after the end of the body.
        watch: Option<SessionWatch>,
        // Whether the end of the session ends the body without an error.
        ends_cleanly: bool,
        // Whether the end of the session has ended the body.
        is_cut_off: bool,
    }
}

impl<B> SessionBody<B> {
    /// The body of a response without a session, such as a refusal.
    #[cfg(feature = "tower")]
    pub(crate) fn without_session(inner: B) -> Self {
        Self { inner, watch: None, ends_cleanly: false, is_cut_off: false }
    }

    /// A body that ends with the session if its length is unknown. `headers` are the response's headers.
    pub(crate) fn new(inner: B, headers: &HeaderMap, session: &VerifiedSession) -> Self
    where
        B: Body,
    {
        let has_unknown_length = inner.size_hint().exact().is_none();
        let watch = has_unknown_length.then(|| session.watch());
        Self { inner, watch, ends_cleanly: is_event_stream(headers), is_cut_off: false }
    }
}

impl<B> Body for SessionBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        if *this.is_cut_off {
            return Poll::Ready(None);
        }
        // The session is polled first: no frame is sent after its end, even if one is ready.
        if let Some(watch) = this.watch
            && let Poll::Ready(cause) = watch.poll_ended(context)
        {
            *this.watch = None;
            *this.is_cut_off = true;
            if *this.ends_cleanly {
                return Poll::Ready(None);
            }
            return Poll::Ready(Some(Err(SessionEnded(cause).into())));
        }
        let frame = this.inner.poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = frame {
            *this.watch = None;
        }
        frame.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.is_cut_off || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
