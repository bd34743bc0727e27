//! A TCP stream with timeouts for headers, idle keep-alive and unread responses.
//!
//! hyper's own header timeout is not used: it also runs while the connection is idle, so it would also limit the idle time.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

use super::{activity::Activity, refusal, signal::Watch, write_timeout::WriteStall};
use crate::{config::HttpSettings, http::takeover::Takeover};

/// The size up to which the parts of a response are joined for one write, in bytes: most responses with tokens are smaller.
const JOINED_WRITE_BYTES: usize = 2048;

/// The bytes that were read to detect the HTTP version: at most the 24 of the HTTP/2 preface. hyper reads them first.
#[derive(Debug)]
pub(super) struct Prefix {
    pub(super) bytes: [u8; 24],
    /// How many of the bytes were read.
    pub(super) len: usize,
}

/// A stream that fails if its peer is too slow.
pub(super) struct TimeoutStream {
    stream: TcpStream,
    prefix: Prefix,
    /// How many bytes of the prefix hyper has read.
    prefix_read: usize,
    /// Whether the peer has closed its side, or reading has failed.
    has_ended: bool,
    /// The read timeouts of an HTTP/1 connection; none for HTTP/2.
    reading: Option<Reading>,
    /// Takes the socket of a subscriber of the feed from hyper; none for HTTP/2.
    takeover: Option<Takeover>,
    /// The write timeout.
    writing: WriteStall,
    /// The unsent rest of an error response that replaces one of hyper's. Empty if there is none.
    replacement: Vec<u8>,
}

impl TimeoutStream {
    /// HTTP/1: the headers of the first request must arrive by `header_deadline`. A later request must begin within `idle_timeout`
    /// of the previous response and before `stop`, and its headers must arrive within `header_timeout` of their first byte.
    pub(super) fn http1(
        stream: TcpStream,
        prefix: Prefix,
        activity: Arc<Activity>,
        header_deadline: Instant,
        settings: &HttpSettings,
        stop: Watch,
        takeover: Takeover,
    ) -> Self {
        let HttpSettings { header_timeout, idle_timeout, write_timeout, .. } = *settings;
        let reading = Reading {
            phase: Phase::Headers(activity.changes()),
            activity,
            sleep: Box::pin(tokio::time::sleep_until(header_deadline)),
            header_timeout,
            idle_timeout,
            stop,
        };
        // The other fields are the same for both versions.
        Self { reading: Some(reading), takeover: Some(takeover), ..Self::http2(stream, prefix, write_timeout) }
    }

    /// HTTP/2, where frames may arrive at any time: only writes have a timeout.
    pub(super) fn http2(stream: TcpStream, prefix: Prefix, write_timeout: Duration) -> Self {
        let writing = WriteStall::new(write_timeout);
        Self {
            stream,
            prefix,
            prefix_read: 0,
            has_ended: false,
            reading: None,
            takeover: None,
            writing,
            replacement: Vec::new(),
        }
    }

    /// The stream, and whether its peer may still be sending: the peer has not closed its side, and a request has begun.
    pub(super) fn into_parts(self) -> (TcpStream, bool) {
        let is_idle = self.reading.as_ref().is_some_and(|reading| matches!(reading.phase, Phase::Idle(_)));
        (self.stream, !self.has_ended && !is_idle)
    }

    /// Reads the rest of the prefix first, and then the stream.
    fn poll_read_with_prefix(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let unread = &self.prefix.bytes[self.prefix_read..self.prefix.len];
        if unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let fitting = &unread[..unread.len().min(buf.remaining())];
        buf.put_slice(fitting);
        self.prefix_read += fitting.len();
        Poll::Ready(Ok(()))
    }

    /// Replaces `written` if it is an error response that hyper made by itself. Returns whether it is.
    fn replace_hyper_error(&mut self, written: &[u8]) -> bool {
        let is_http1 = self.reading.is_some();
        if is_http1 && let Some(replacement) = refusal::rewrite_hyper_error(written) {
            self.replacement = replacement;
            return true;
        }
        false
    }

    /// Returns the result of a write, or an error if the peer is too slow. After the error, the kernel drops its send buffer
    /// with the connection. By default the kernel would keep the buffer for as long as the peer reads a byte now and then.
    fn check_written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let written = self.writing.check(cx, written);
        if let Poll::Ready(Err(error)) = &written
            && error.kind() == io::ErrorKind::TimedOut
        {
            // With a linger time of zero, the close sends a reset.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
        written
    }

    /// Writes the rest of the replacement.
    fn poll_replacement(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.replacement.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.replacement);
            match ready!(self.check_written(cx, written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => drop(self.replacement.drain(..count)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TimeoutStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match this.poll_read_with_prefix(cx, buf) {
            Poll::Ready(Ok(())) => {
                if buf.filled().len() == before {
                    this.has_ended = true;
                } else if let Some(reading) = &mut this.reading {
                    reading.received();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                this.has_ended = true;
                Poll::Ready(Err(error))
            }
            Poll::Pending => match &mut this.reading {
                Some(reading) => reading.poll_timeout(cx),
                None => Poll::Pending,
            },
        }
    }
}

impl AsyncWrite for TimeoutStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_replacement(cx))?;
        if this.replace_hyper_error(buf) {
            // For hyper, its response is written. The next call, at the latest the flush, writes the replacement.
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.check_written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_replacement(cx))?;
        // A response that hyper makes has no body, so its head is the only buffer.
        if let [only] = bufs
            && this.replace_hyper_error(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        let written = if length <= JOINED_WRITE_BYTES {
            // Copying a small response costs less than a system call with a list of its parts.
            let mut joined = [0; JOINED_WRITE_BYTES];
            let mut end = 0;
            for buf in bufs {
                joined[end..end + buf.len()].copy_from_slice(buf);
                end += buf.len();
            }
            Pin::new(&mut this.stream).poll_write(cx, &joined[..end])
        } else {
            Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
        };
        this.check_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_replacement(cx))?;
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.writing.done();
        if let Some(takeover) = &this.takeover {
            takeover.on_flush();
        }
        // hyper flushes the end of a response but does not read before something arrives, so the idle timeout starts here. If the timeout
        // has already expired, the waker makes hyper read, and the read returns the timeout.
        if let Some(reading) = &mut this.reading
            && reading.poll_timeout(cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// The read timeouts of an HTTP/1 connection while no request is in flight.
struct Reading {
    activity: Arc<Activity>,
    phase: Phase,
    sleep: Pin<Box<Sleep>>,
    header_timeout: Duration,
    idle_timeout: Duration,
    /// Completes when the node shuts down.
    stop: Watch,
}

/// The bytes that an HTTP/1 connection waits for. Contains [`Activity::changes`], which counts beginnings and ends of requests, at the
/// start of the phase. Once the connection's count differs, the phase has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// The rest of the headers of a request.
    Headers(u64),
    /// The first byte of the next request.
    Idle(u64),
}

impl Reading {
    /// Called when bytes arrive. The first bytes after a request begin the headers of the next request and set their deadline. Later bytes
    /// do not extend the deadline.
    fn received(&mut self) {
        let headers = Phase::Headers(self.activity.changes());
        if !self.activity.is_busy() && self.phase != headers {
            self.phase = headers;
            self.sleep.as_mut().reset(Instant::now() + self.header_timeout);
        }
    }

    /// Called when no bytes are available. Pending until the deadline; between requests, the stop signal may come first. Then an
    /// error if a request has begun, and otherwise `Ok`: a read that returns `Ok` without bytes is the end of the stream.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.is_busy() {
            return Poll::Pending;
        }
        let changes = self.activity.changes();
        if self.phase != Phase::Headers(changes) && self.phase != Phase::Idle(changes) {
            self.phase = Phase::Idle(changes);
            self.sleep.as_mut().reset(Instant::now() + self.idle_timeout);
        }
        let stopped = matches!(self.phase, Phase::Idle(_)) && Pin::new(&mut self.stop).poll(cx).is_ready();
        if !stopped {
            ready!(self.sleep.as_mut().poll(cx));
        }
        match self.phase {
            Phase::Headers(_) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Phase::Idle(_) => Poll::Ready(Ok(())),
        }
    }
}
