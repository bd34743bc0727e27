//! Takeover of an HTTP/1.1 connection by a handler whose response has no end.
//!
//! hyper serves a connection with a task that polls many layers for each piece of a response body. An event stream with
//! thousands of subscribers writes to the sockets directly instead: after hyper has sent the head of the response, the server
//! hands the socket to the handler. HTTP/2 multiplexes streams on a connection, so it has no takeover.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use futures_util::{future::BoxFuture, stream};
use hyper::body::Bytes;
use poem::Body;
use tokio::net::TcpStream;

/// Writes the body of the response, in chunks (RFC 9112, section 7.1), until the connection ends.
type BodyWriter = Box<dyn FnOnce(TcpStream) -> BoxFuture<'static, ()> + Send>;

/// The takeover of one connection, which the server offers to handlers and carries out. Clones share the state.
#[derive(Clone, Default)]
pub struct Takeover(Arc<State>);

#[derive(Default)]
struct State {
    /// The head of the response is in hyper's buffer.
    head_is_buffered: AtomicBool,
    /// The head of the response is sent.
    head_is_sent: AtomicBool,
    /// Set when the takeover is requested, and taken by [`Takeover::run`].
    writer: Mutex<Option<BodyWriter>>,
}

impl State {
    fn lock_writer(&self) -> MutexGuard<'_, Option<BodyWriter>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Takeover {
    /// The body of an endless response, which `write` sends. hyper first polls the body when it has buffered the head of
    /// the response: this poll requests the takeover.
    pub fn body<F>(self, write: impl FnOnce(TcpStream) -> F + Send + 'static) -> Body
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut unrequested: Option<BodyWriter> = Some(Box::new(|socket| Box::pin(write(socket))));
        Body::from_bytes_stream(stream::poll_fn(move |_| {
            if let Some(writer) = unrequested.take() {
                *self.0.lock_writer() = Some(writer);
                self.0.head_is_buffered.store(true, Ordering::Release);
            }
            // hyper never gets a piece of the body: the writer sends it
            Poll::<Option<io::Result<Bytes>>>::Pending
        }))
    }

    /// Called when hyper has written its whole buffer to the socket. If the buffer had the head of the response, the head is sent.
    pub fn on_flush(&self) {
        if self.0.head_is_buffered.load(Ordering::Acquire) {
            self.0.head_is_sent.store(true, Ordering::Release);
        }
    }

    /// Whether the head of the response is sent. The server must then take the socket from hyper, and call [`Self::run`].
    pub fn head_is_sent(&self) -> bool {
        self.0.head_is_sent.load(Ordering::Acquire)
    }

    /// Writes the body of the response to the connection's socket.
    pub async fn run(&self, socket: TcpStream) {
        let writer = self.0.lock_writer().take();
        if let Some(writer) = writer {
            writer(socket).await;
        }
    }
}
