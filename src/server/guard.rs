//! A connection's stream, watched: headers that don't come, keep-alive that nobody uses, answers that nobody reads.
//!
//! hyper's own time-out for headers also runs while the connection is idle, so one number would have to serve both.

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

use super::{activity::Activity, progress::WriteStall, refusal, signal::Watch};
use crate::config::HttpSettings;

/// The bytes that were read to find out what the client speaks; hyper gets them first.
#[derive(Debug)]
pub(super) struct Prefix {
    pub(super) bytes: [u8; 24],
    pub(super) len: usize,
}

/// A stream that fails when its peer keeps it waiting too long.
pub(super) struct TimeoutStream {
    stream: TcpStream,
    prefix: Prefix,
    given: usize,
    ended: bool,
    reading: Option<Reading>,
    writing: WriteStall,
    /// What is sent instead of an answer that hyper has written, as far as it isn't yet.
    instead: Vec<u8>,
}

impl TimeoutStream {
    /// HTTP/1: the first request's headers must be there by `headers_by`, those of later ones `header_timeout` after
    /// their first byte, which must come `idle_timeout` after the answer before, and before `stop`.
    pub(super) fn http1(
        stream: TcpStream,
        prefix: Prefix,
        activity: Arc<Activity>,
        headers_by: Instant,
        settings: &HttpSettings,
        stop: Watch,
    ) -> Self {
        let HttpSettings { header_timeout, idle_timeout, write_timeout, .. } = *settings;
        let reading = Reading {
            phase: Phase::Headers(activity.changes()),
            activity,
            sleep: Box::pin(tokio::time::sleep_until(headers_by)),
            header_timeout,
            idle_timeout,
            stop,
        };
        Self { reading: Some(reading), ..Self::http2(stream, prefix, write_timeout) }
    }

    /// HTTP/2, where frames come at any time: only writes are watched.
    pub(super) fn http2(stream: TcpStream, prefix: Prefix, write_timeout: Duration) -> Self {
        let writing = WriteStall::new(write_timeout);
        Self { stream, prefix, given: 0, ended: false, reading: None, writing, instead: Vec::new() }
    }

    /// The stream, and whether its peer may still be sending something.
    pub(super) fn into_parts(self) -> (TcpStream, bool) {
        let idle = self.reading.as_ref().is_some_and(|reading| matches!(reading.phase, Phase::Idle(_)));
        (self.stream, !self.ended && !idle)
    }

    fn poll_read_any(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = &self.prefix.bytes[self.given..self.prefix.len];
        if left.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let some = &left[..left.len().min(buf.remaining())];
        buf.put_slice(some);
        self.given += some.len();
        Poll::Ready(Ok(()))
    }

    /// Whether hyper has written an answer of its own, for which another is sent.
    fn takes(&mut self, written: &[u8]) -> bool {
        if self.reading.is_some()
            && let Some(answer) = refusal::rewrite_hyper_error(written)
        {
            self.instead = answer;
            return true;
        }
        false
    }

    /// What a write came to. Where the peer has kept it waiting too long, what the kernel has taken is dropped with the
    /// connection: it would otherwise be kept for the peer, for as long as that reads a byte now and then.
    fn written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let written = self.writing.check(cx, written);
        if let Poll::Ready(Err(error)) = &written
            && error.kind() == io::ErrorKind::TimedOut
        {
            // the peer is told by a reset
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
        written
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.instead);
            match ready!(self.written(cx, written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                some => drop(self.instead.drain(..some)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TimeoutStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match this.poll_read_any(cx, buf) {
            Poll::Ready(Ok(())) => {
                if buf.filled().len() == before {
                    this.ended = true;
                } else if let Some(reading) = &mut this.reading {
                    reading.received();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                this.ended = true;
                Poll::Ready(Err(error))
            }
            Poll::Pending => match &mut this.reading {
                Some(reading) => reading.poll_patience(cx),
                None => Poll::Pending,
            },
        }
    }
}

impl AsyncWrite for TimeoutStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_instead(cx))?;
        if this.takes(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_instead(cx))?;
        if let [only] = bufs
            && this.takes(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_instead(cx))?;
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.writing.done();
        // An answer's end is flushed, but hyper doesn't read again before something arrives: the wait begins here.
        if let Some(reading) = &mut this.reading
            && reading.poll_patience(cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// What an HTTP/1 connection waits for while no request is worked on, and for how long.
struct Reading {
    activity: Arc<Activity>,
    phase: Phase,
    sleep: Pin<Box<Sleep>>,
    header_timeout: Duration,
    idle_timeout: Duration,
    stop: Watch,
}

/// The number is [`Activity::changes`] when the phase began: once it differs, the phase is over.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Headers(u64),
    Idle(u64),
}

impl Reading {
    /// Bytes came. Outside of a request they begin the next one's headers; more of them don't prolong its time.
    fn received(&mut self) {
        let headers = Phase::Headers(self.activity.changes());
        if !self.activity.busy() && self.phase != headers {
            self.phase = headers;
            self.sleep.as_mut().reset(Instant::now() + self.header_timeout);
        }
    }

    /// Nothing came. Pending while there is time; then an error, or the end of the stream where nothing was begun.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.busy() {
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
