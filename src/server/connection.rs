//! Serves one connection: detects the HTTP version, sets the limits, and ends the connection.

use std::{
    future::{pending, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::Endpoint;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    activity::Activity,
    per_address::PerAddress,
    service::Service,
    signal::Signal,
    timeout_stream::{Prefix, TimeoutStream},
    write_timeout::StreamStall,
};
use crate::{config::HttpSettings, http::takeover::Takeover};

/// The client preface of HTTP/2 (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The maximum number of concurrent streams of an HTTP/2 connection.
const HTTP2_STREAMS: u32 = 128;
/// The maximum number of streams that a client may reset before they are answered ("rapid reset", CVE-2023-44487).
const HTTP2_PENDING_RESETS: usize = 20;
/// The number of streams that may be reset because of the client's protocol errors before the connection closes.
const HTTP2_ERROR_RESETS: usize = 128;
/// The flow-control window of a stream, in bytes.
const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;
/// The flow-control window of a connection, in bytes.
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// The interval of keep-alive pings on silent HTTP/2 connections.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
/// The time for a client to answer a keep-alive ping.
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of an HTTP/1 request hyper may buffer in addition to its headers, in bytes.
const HTTP1_BUFFER: usize = 64 * 1024;

/// Period after the stop signal in which a new connection may still send its first bytes. A client may have connected just
/// before the signal, and its request may be on the way.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Period in which the server reads and drops bytes that a client still sends after the last response. Closing at once would
/// make the kernel send a reset, and the client would lose the response (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// The maximum number of bytes that are read and dropped in the [`LINGER`] period.
const LINGER_BYTES: usize = 1024 * 1024;

/// The state that all connections share.
pub(super) struct Context<E> {
    pub(super) endpoint: E,
    pub(super) settings: HttpSettings,
    /// Triggered when the node starts to drain: readiness fails, requests are still served.
    pub(super) drain: Signal,
    /// Triggered when the listener has closed: connections end after their requests in flight.
    pub(super) stop: Signal,
    /// Triggered when `http.shutdown_timeout` has passed: connections end at once.
    pub(super) cut: Signal,
    /// The tasks of connections and of HTTP/2 streams.
    pub(super) tasks: TaskTracker,
    /// The open connections of each client network: an IPv4 address, or the /64 network of an IPv6 address.
    pub(super) per_address: Arc<PerAddress>,
}

enum Protocol {
    Http1,
    Http2,
}

/// Serves a connection to its end.
pub(super) async fn serve<E: Endpoint + 'static>(context: Arc<Context<E>>, mut stream: TcpStream, remote: SocketAddr) {
    let Ok(local) = stream.local_addr() else { return };
    let opening = tokio::select! {
        biased;
        opening = read_first_bytes(&mut stream, &context.settings) => opening,
        () = wait_for_stop_grace(&context) => return,
    };
    let (protocol, prefix, header_deadline) = match opening {
        Ok(opening) => opening,
        Err(error) => {
            tracing::debug!(%remote, %error, "connection closed: it sent no request");
            return;
        }
    };
    let activity = Arc::new(Activity::default());
    // lets the handler of an event stream take the socket over from hyper
    let takeover = Takeover::default();
    let service = Service {
        context: Arc::clone(&context),
        activity: Arc::clone(&activity),
        takeover: takeover.clone(),
        local,
        remote,
    };
    let ended = match protocol {
        Protocol::Http1 => {
            let io = TimeoutStream::http1(
                stream,
                prefix,
                activity,
                header_deadline,
                &context.settings,
                context.stop.watch(),
                takeover.clone(),
            );
            serve_http1(&context, io, service, &takeover).await
        }
        Protocol::Http2 => {
            let io = TimeoutStream::http2(stream, prefix, context.settings.write_timeout);
            serve_http2(&context, io, service, &activity).await
        }
    };
    if let Err(error) = ended {
        // hyper's text of an error does not contain the cause
        let cause = std::error::Error::source(&error).map(tracing::field::display);
        tracing::debug!(
            %remote,
            %error,
            cause,
            "connection ended with an error, often because a client or proxy disconnected: its unfinished requests \
             get no response"
        );
    }
}

/// Completes [`STOP_GRACE`] after the stop signal, or earlier when connections are cut off.
async fn wait_for_stop_grace<E>(context: &Context<E>) {
    context.stop.watch().await;
    let _ = timeout(STOP_GRACE, context.cut.watch()).await;
}

/// Reads until the HTTP version is known. Returns the version, the bytes that were read, and the deadline of the headers.
async fn read_first_bytes(stream: &mut TcpStream, settings: &HttpSettings) -> io::Result<(Protocol, Prefix, Instant)> {
    let mut prefix = Prefix { bytes: [0; HTTP2_PREFACE.len()], len: 0 };
    // of each `??`, the first is for the timeout and the second for the read
    prefix.len = timeout(settings.first_byte_timeout, stream.read(&mut prefix.bytes)).await??;
    if prefix.len == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let header_deadline = Instant::now() + settings.header_timeout;
    loop {
        if !HTTP2_PREFACE.starts_with(&prefix.bytes[..prefix.len]) {
            return Ok((Protocol::Http1, prefix, header_deadline));
        }
        if prefix.len == HTTP2_PREFACE.len() {
            return Ok((Protocol::Http2, prefix, header_deadline));
        }
        match timeout_at(header_deadline, stream.read(&mut prefix.bytes[prefix.len..])).await?? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => prefix.len += count,
        }
    }
}

async fn serve_http1<E: Endpoint + 'static>(
    context: &Context<E>,
    io: TimeoutStream,
    service: Service<E>,
    takeover: &Takeover,
) -> hyper::Result<()> {
    let max_header_bytes = context.settings.max_header_bytes;
    let mut connection = http1::Builder::new()
        .header_read_timeout(None) // TimeoutStream has this timeout
        .max_header_size(max_header_bytes)
        .max_buf_size(max_header_bytes.saturating_add(HTTP1_BUFFER))
        .serve_connection(TokioIo::new(io), service);

    // After the stop signal, `io` ends the connection when it is idle, and a request that has begun to arrive is answered. `None`
    // means that hyper has sent the head of an event stream, whose handler takes the connection over.
    let ended_by_hyper = tokio::select! {
        biased;
        ended_by_hyper = poll_fn(|cx| match connection.poll_without_shutdown(cx) {
            Poll::Pending if takeover.head_is_sent() => Poll::Ready(None),
            polled => polled.map(Some),
        }) => ended_by_hyper,
        () = context.cut.watch() => return Ok(()),
    };
    let (mut stream, peer_may_be_sending) = connection.into_parts().io.into_inner().into_parts();
    let Some(ended) = ended_by_hyper else {
        tokio::select! {
            () = takeover.run(stream) => {}
            () = context.cut.watch() => {}
        }
        return Ok(());
    };
    if peer_may_be_sending {
        tokio::select! {
            _ = timeout(LINGER, linger(&mut stream)) => {}
            () = context.cut.watch() => {}
        }
    }
    ended
}

/// Shuts down the write side, then reads and drops the bytes that the client still sends.
async fn linger(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut dropped = [0; 8 * 1024];
    let mut total = 0;
    while total < LINGER_BYTES {
        match stream.read(&mut dropped).await? {
            0 => break,
            count => total += count,
        }
    }
    Ok(())
}

async fn serve_http2<E: Endpoint + 'static>(
    context: &Context<E>,
    io: TimeoutStream,
    service: Service<E>,
    activity: &Activity,
) -> hyper::Result<()> {
    let executor = StreamExecutor {
        tasks: context.tasks.clone(),
        cut: context.cut.clone(),
        write_timeout: context.settings.write_timeout,
    };
    let mut connection = http2::Builder::new(executor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(u32::try_from(context.settings.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS)
        .max_local_error_reset_streams(HTTP2_ERROR_RESETS)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);

    // How long the client may still send requests after GOAWAY. `None`, after the stop signal: until the cut signal.
    let goaway_grace = tokio::select! {
        biased;
        ended = &mut connection => return ended,
        () = context.stop.watch() => None,
        () = wait_until_idle(activity, context.settings.idle_timeout) => Some(context.settings.header_timeout),
    };
    Pin::new(&mut connection).graceful_shutdown();
    let goaway_grace_over = async {
        match goaway_grace {
            Some(grace) => wait_until_idle(activity, grace).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        ended = &mut connection => ended,
        () = context.cut.watch() => Ok(()),
        // a client that was idle has received GOAWAY, has had time to send a request that was on its way, and got its response
        () = goaway_grace_over => Ok(()),
    }
}

/// Completes when no request has been in flight for `limit`. The check runs once per `limit`, so this may take up to twice as long.
async fn wait_until_idle(activity: &Activity, limit: Duration) {
    loop {
        let before = activity.changes();
        tokio::time::sleep(limit).await;
        if !activity.is_busy() && activity.changes() == before {
            return;
        }
    }
}

/// Runs the streams of an HTTP/2 connection as tasks. A shutdown waits for the tasks and cuts them off, like the
/// tasks of connections. A stream whose response is not read is reset.
#[derive(Clone)]
struct StreamExecutor {
    tasks: TaskTracker,
    cut: Signal,
    write_timeout: Duration,
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        let cut = self.cut.clone();
        let write_timeout = self.write_timeout;
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                completed = StreamStall::default().watch(task, write_timeout) => {
                    // hyper resets a stream whose task is dropped
                    if !completed {
                        tracing::debug!(
                            "HTTP/2 stream reset: the client did not read the response within http.write_timeout. \
                             Other streams of the connection continue"
                        );
                    }
                }
                () = cut.watch() => {}
            }
        });
    }
}
