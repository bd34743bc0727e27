//! The HTTP/1.1 connection of a subscriber of the revocation feed, after its takeover from hyper.
//!
//! A subscriber that has read everything is attached to the fan-out, a task that writes each event as one chunk to the sockets of
//! the attached subscribers. A subscriber whose socket can't take an event at once is detached: the connection's task writes the
//! missed events, and attaches the subscriber again.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use futures_util::Stream;
use hyper::body::{Buf, Bytes};
use socket2::SockRef;
use tokio::{net::TcpStream, sync::Notify, task::yield_now, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{client::ClientId, feed::FeedEvent},
    service::feed::Subscription,
    state::feed::{AttachedSubscriber, DetachedReceiver, EncodedEvent, EventBatch},
};

/// The last chunk of a body and its empty trailers (RFC 9112, section 7.1).
const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");
/// How many bytes a peer may send after its request. The bytes are dropped.
const MAX_DROPPED_BYTES: usize = 64 * 1024;

/// How a connection sends its events.
pub(super) struct Settings<E> {
    /// Encodes an event.
    pub encode: E,
    /// The largest number of waiting events that are written at once.
    pub max_batch: usize,
    /// How long a subscriber may take to read a batch.
    pub write_timeout: Duration,
    /// Ends the stream.
    pub stop: CancellationToken,
}

/// The connection of one subscriber. Its task and the task of the fan-out share it.
struct FeedConnection<E> {
    stream: TcpStream,
    client: ClientId,
    settings: Settings<E>,
    /// The task that may write to the socket now.
    writer: Mutex<Writer>,
    /// Notified when the fan-out has detached the subscriber.
    detached: Notify,
}

/// The task that may write to the socket.
enum Writer {
    /// The task of the connection.
    Connection,
    /// The task of the fan-out.
    FanOut,
    /// The task of the connection, after the fan-out has detached the subscriber, usually because it could not send a batch.
    Detached {
        /// The rest of that batch; empty if all of it was sent.
        unsent: Bytes,
        /// Receives the messages after that batch. `None` until the fan-out has handed the receiver over.
        receiver: Option<DetachedReceiver>,
    },
}

/// The next step of the connection's task.
enum Next {
    /// Write events.
    Write(EventBatch),
    /// Attach the subscriber to the fan-out: it has read everything.
    Attach,
    /// End the stream.
    End,
}

/// Sends the events of a subscription to the socket until the subscription or the connection ends.
pub(super) async fn serve<E>(stream: TcpStream, client: ClientId, subscription: Subscription, settings: Settings<E>)
where
    E: Fn(&FeedEvent) -> EncodedEvent + Send + Sync + 'static,
{
    let connection = Arc::new(FeedConnection {
        stream,
        client,
        settings,
        writer: Mutex::new(Writer::Connection),
        detached: Notify::new(),
    });
    let result = tokio::select! {
        result = connection.send_all(subscription) => result,
        () = connection.wait_for_peer_to_close() => return,
    };
    if let Err(error) = result {
        tracing::debug!(
            client = %connection.client,
            %error,
            "revocation feed: sending to a subscriber failed and its connection is closed; it can reconnect and \
             resume"
        );
    }
}

impl<E> FeedConnection<E>
where
    E: Fn(&FeedEvent) -> EncodedEvent + Send + Sync + 'static,
{
    /// Sends events, alternately from this task and by the fan-out, until the subscription ends or `stop` is cancelled.
    async fn send_all(self: &Arc<Self>, mut subscription: Subscription) -> io::Result<()> {
        loop {
            let next = tokio::select! {
                biased;
                () = self.settings.stop.cancelled() => Next::End,
                next = poll_fn(|cx| self.poll_next(&mut subscription, cx)) => next,
            };
            match next {
                Next::Write(events) => self.write(events.chunks(&self.settings.encode).clone()).await?,
                Next::Attach => self.run_attached(&mut subscription).await?,
                Next::End => return self.write(LAST_CHUNK).await,
            }
        }
    }

    /// Returns the events that wait, at most `max_batch`. If none waits, returns [`Next::Attach`] as soon as attaching is possible.
    fn poll_next(&self, subscription: &mut Subscription, cx: &mut std::task::Context<'_>) -> Poll<Next> {
        let mut events = Vec::new();
        while events.len() < self.settings.max_batch {
            match Pin::new(&mut *subscription).poll_next(cx) {
                Poll::Ready(Some(event)) => events.push(event),
                Poll::Ready(None) if events.is_empty() => return Poll::Ready(Next::End),
                Poll::Pending if events.is_empty() && subscription.can_attach() => return Poll::Ready(Next::Attach),
                Poll::Pending if events.is_empty() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Next::Write(EventBatch::new(events)))
    }

    /// Attaches the subscriber until the fan-out detaches it or the stream must end.
    async fn run_attached(self: &Arc<Self>, subscription: &mut Subscription) -> io::Result<()> {
        // before `attach`, because the fan-out may send as soon as the subscriber is attached
        *self.writer() = Writer::FanOut;
        let this: Arc<dyn AttachedSubscriber> = Arc::clone(self) as _;
        if !subscription.attach(Arc::downgrade(&this)) {
            *self.writer() = Writer::Connection;
            // Usually a message has arrived meanwhile, and the next poll returns it. If the fan-out is ending, it attaches nobody, but its
            // channel closes only when its task runs again: yields, so that the caller's loop does not spin until then.
            yield_now().await;
            return Ok(());
        }
        tokio::select! {
            () = self.detached.notified() => {}
            () = self.settings.stop.cancelled() => {}
        }
        // From here on, the fan-out's `try_send` writes nothing.
        let writer = std::mem::replace(&mut *self.writer(), Writer::Connection);
        if let Writer::Detached { unsent, receiver } = writer {
            self.write(unsent).await?;
            if let Some(receiver) = receiver {
                subscription.resume(receiver);
            }
        }
        Ok(())
    }

    /// Writes all bytes. If the subscriber does not read them in time, returns an error and sets linger 0: when the connection
    /// closes, the kernel resets it and drops the bytes that it still buffers.
    async fn write(&self, mut bytes: Bytes) -> io::Result<()> {
        let writing = async {
            while !bytes.is_empty() {
                self.stream.writable().await?;
                match self.stream.try_write(&bytes) {
                    Ok(written) => bytes.advance(written),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        timeout(self.settings.write_timeout, writing).await.unwrap_or_else(|_| {
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
            Err(io::ErrorKind::TimedOut.into())
        })
    }

    /// Completes when the peer has closed the connection or has sent too much. No further request is served on the connection, so
    /// everything that the peer sends is dropped.
    async fn wait_for_peer_to_close(&self) {
        let (mut buffer, mut dropped) = ([0; 512], 0);
        while dropped < MAX_DROPPED_BYTES && self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => dropped += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

impl<E> FeedConnection<E> {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E> AttachedSubscriber for FeedConnection<E>
where
    E: Fn(&FeedEvent) -> EncodedEvent + Send + Sync + 'static,
{
    fn client(&self) -> &ClientId {
        &self.client
    }

    fn try_send(&self, events: &EventBatch) -> bool {
        let mut writer = self.writer();
        if !matches!(*writer, Writer::FanOut) {
            return false;
        }
        let chunks = events.chunks(&self.settings.encode);
        let written = match self.stream.try_write(chunks) {
            Ok(written) if written == chunks.len() => return true,
            Ok(written) => written,
            // The socket is full, or the connection is broken and the next write of its task fails, too.
            Err(_) => 0,
        };
        *writer = Writer::Detached { unsent: chunks.slice(written..), receiver: None };
        false
    }

    fn detach(&self, receiver: DetachedReceiver) {
        let mut writer = self.writer();
        let unsent = match std::mem::replace(&mut *writer, Writer::Connection) {
            Writer::Detached { unsent, .. } => unsent,
            Writer::Connection | Writer::FanOut => Bytes::new(),
        };
        *writer = Writer::Detached { unsent, receiver: Some(receiver) };
        self.detached.notify_one();
    }
}
