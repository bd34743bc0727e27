//! WebSockets that close with their session: [`SessionWebSocket`].

use std::{
    borrow::Cow,
    future, io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Sink, Stream};
use poem::{
    FromRequest, IntoResponse, Request, RequestBody, Result,
    web::websocket::{Message, WebSocket, WebSocketConfig, WebSocketStream},
};
use tokio::sync::oneshot;

use super::added_by_verify;
use crate::{Claims, EndCause, Registration, RenewError, VerifiedSession, session_end::body::SessionEnded};

/// How long a handler may run after the session has ended, before it is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Accepts a WebSocket that closes when the session of its request ends. A handler inside [`super::Verify`] takes it instead of
/// poem's `WebSocket`. Without [`super::Verify`] around the handler, the response is 401.
///
/// ```
/// use futures_util::{SinkExt, StreamExt};
/// use latchkey_verify::poem::{SessionWebSocket, Verify};
/// use poem::{EndpointExt, IntoResponse, Route, get, handler};
///
/// #[handler]
/// fn echo(socket: SessionWebSocket) -> impl IntoResponse {
///     socket.on_upgrade(|mut socket| async move {
///         while let Some(Ok(message)) = socket.next().await {
///             if socket.send(message).await.is_err() {
///                 break;
///             }
///         }
///     })
/// }
///
/// # fn app(verifier: latchkey_verify::Verifier) -> impl poem::Endpoint {
/// Route::new().at("/echo", get(echo).with(Verify::new(verifier)))
/// # }
/// ```
pub struct SessionWebSocket {
    inner: WebSocket,
    session: VerifiedSession,
}

impl<'a> FromRequest<'a> for SessionWebSocket {
    async fn from_request(request: &'a Request, body: &mut RequestBody) -> Result<Self> {
        let session = added_by_verify(request)?;
        Ok(Self { inner: WebSocket::from_request(request, body).await?, session })
    }
}

impl SessionWebSocket {
    /// Sets the supported subprotocols.
    #[must_use]
    pub fn protocols<P: Into<Cow<'static, str>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.inner = self.inner.protocols(protocols);
        self
    }

    /// Sets the limits of messages and buffers.
    #[must_use]
    pub fn config(mut self, config: WebSocketConfig) -> Self {
        self.inner = self.inner.config(config);
        self
    }

    /// The claims of the request's token.
    pub fn claims(&self) -> &Arc<Claims> {
        self.session.claims()
    }

    /// Accepts the connection and runs a handler on it. When the session ends, the socket sends a close frame with
    /// [`EndCause::close_code`] and the name of the cause, and yields no more messages. A handler that is still running a
    /// second later is dropped, and with it the connection.
    pub fn on_upgrade<F, H>(self, handler: F) -> impl IntoResponse
    where
        F: FnOnce(SessionSocket) -> H + Send + Sync + 'static,
        H: Future<Output: Send> + Send + 'static,
    {
        // The first channel makes the socket send its close frame, the second one starts the deadline of the handler.
        let (cause_sender, cause_receiver) = oneshot::channel();
        let (deadline_sender, deadline_receiver) = oneshot::channel();
        let registration = Arc::new(self.session.on_end(move |cause| {
            // fails if the handler has dropped its socket or has finished
            let _ = cause_sender.send(cause);
            let _ = deadline_sender.send(());
        }));
        self.inner.on_upgrade(move |stream| async move {
            let state = State::Open(cause_receiver);
            let handler = pin!(handler(SessionSocket { stream, state, registration }));
            let overdue = pin!(async {
                if deadline_receiver.await.is_err() {
                    // the handler has dropped its socket, and may run on
                    future::pending::<()>().await;
                }
                tokio::time::sleep(CLOSE_TIMEOUT).await;
            });
            futures_util::future::select(handler, overdue).await;
        })
    }
}

/// A WebSocket that closes when its session ends. It is a stream and a sink of messages, like poem's `WebSocketStream`.
///
/// The session stays registered for as long as the socket exists.
pub struct SessionSocket {
    stream: WebSocketStream,
    state: State,
    registration: Arc<Registration>,
}

/// How far the socket has closed, and why its session has ended.
enum State {
    /// The session has not ended. The receiver gets the cause of its end.
    Open(oneshot::Receiver<EndCause>),
    /// The session has ended, and the close frame is not yet sent.
    Ended(EndCause),
    /// The close frame is in the stream's buffer and not yet flushed.
    Flushing(EndCause),
    /// The close frame is sent, and the peer's is awaited: a connection that is closed with unread messages is reset, and the
    /// peer may then lose the close frame.
    Closing(EndCause),
    /// The peer's close frame has arrived, or the connection has failed.
    Closed(EndCause),
}

impl SessionSocket {
    /// Replaces the token of the connection by a newer one of the same session; see [`Registration::renew`].
    ///
    /// # Errors
    /// [`RenewError`]
    pub fn renew<'t>(&self, token: &'t str) -> impl Future<Output = Result<Arc<Claims>, RenewError>> + Send + use<'t> {
        // The socket is not `Sync`, so a future that borrowed it could not move between threads.
        let registration = Arc::clone(&self.registration);
        async move { registration.renew(token).await }
    }

    /// Why the session has ended, if it has.
    pub fn cause(&self) -> Option<EndCause> {
        self.registration.ended()
    }

    /// Returns `None` while the session continues. Once the session has ended, sends the close frame, and then returns the
    /// cause.
    fn poll_close_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<EndCause>> {
        loop {
            match &mut self.state {
                State::Open(receiver) => match Pin::new(receiver).poll(context) {
                    Poll::Ready(Ok(cause)) => self.state = State::Ended(cause),
                    // `Err` never occurs: the registration, which this socket owns, keeps the sender
                    Poll::Ready(Err(_)) | Poll::Pending => return Poll::Ready(None),
                },
                State::Ended(cause) => {
                    let cause = *cause;
                    let mut stream = Pin::new(&mut self.stream);
                    let frame = Message::close_with(cause.close_code(), cause.as_str());
                    let sent = ready!(stream.as_mut().poll_ready(context)).and_then(|()| stream.start_send(frame));
                    self.state = if sent.is_ok() { State::Flushing(cause) } else { State::Closed(cause) };
                }
                State::Flushing(cause) => {
                    let cause = *cause;
                    let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
                    self.state = if flushed.is_ok() { State::Closing(cause) } else { State::Closed(cause) };
                }
                State::Closing(cause) | State::Closed(cause) => return Poll::Ready(Some(*cause)),
            }
        }
    }

    /// Fails once the session has ended and the close frame was sent.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.poll_close_frame(context)) {
            Some(cause) => Poll::Ready(Err(aborted(cause))),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Stream for SessionSocket {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(cause) = ready!(self.poll_close_frame(context)) else {
            return Pin::new(&mut self.stream).poll_next(context);
        };
        // discards the peer's messages until the inner stream ends, after the peer's close frame
        while matches!(self.state, State::Closing(_)) {
            if !matches!(ready!(Pin::new(&mut self.stream).poll_next(context)), Some(Ok(_))) {
                self.state = State::Closed(cause);
            }
        }
        Poll::Ready(None)
    }
}

impl Sink<Message> for SessionSocket {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context))?;
        Pin::new(&mut self.stream).poll_ready(context)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> io::Result<()> {
        Pin::new(&mut self.stream).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // the handler closes the socket while the session continues
        if let State::Open(_) = self.state {
            return Pin::new(&mut self.stream).poll_close(context);
        }
        ready!(self.poll_close_frame(context));
        Poll::Ready(Ok(()))
    }
}

/// The error of a socket whose session has ended.
fn aborted(cause: EndCause) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, SessionEnded(cause))
}
