//! Write timeouts. A client must read [`PIECE`] bytes of a response, or the rest of it, within `http.write_timeout`. If the timeout
//! restarted with every byte, a client that reads a few bytes a minute could hold a connection for days.
//!
//! HTTP/1 is checked at the socket ([`WriteStall`]). Over HTTP/2 the socket may be active while a stream has no window
//! (RFC 9113, section 5.2), so each stream is checked as well ([`StreamStall`]).

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// How much of a response must be read within the timeout, in bytes.
pub(super) const PIECE: usize = 16 * 1024;

/// Detects stalled writes on a socket.
pub(super) struct WriteStall {
    timeout: Duration,
    /// The deadline of the writes, and the number of bytes written since the wait began. A write that has to wait sets it. It is cleared
    /// once [`PIECE`] bytes or everything has been written.
    waiting: Option<(Pin<Box<Sleep>>, usize)>,
}

impl WriteStall {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, waiting: None }
    }

    /// Returns the result of a write, `written`, or an error if writes have waited for too long.
    pub(super) fn check(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            if let (Some((_, total)), Ok(bytes)) = (&mut self.waiting, &written) {
                *total += bytes;
                if *total >= PIECE {
                    self.waiting = None;
                }
            }
            return Poll::Ready(written);
        }
        let timeout = self.timeout;
        let (sleep, _) = self.waiting.get_or_insert_with(|| (Box::pin(tokio::time::sleep(timeout)), 0));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Called when a flush has written everything.
    pub(super) fn done(&mut self) {
        self.waiting = None;
    }
}

/// Detects stalled writes on one HTTP/2 stream. Holds the time at which hyper took the most recent piece of the response, until hyper
/// requests the next one. The body of the response reports both (`TrackedBody` in `activity.rs`). Clones share the state.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamStall(Arc<Mutex<Option<Instant>>>);

tokio::task_local! {
    /// The stream whose request this task handles.
    static CURRENT: StreamStall;
}

impl StreamStall {
    /// The stream whose request the current task handles. `None` over HTTP/1.
    pub(super) fn of_current_stream() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// `TrackedBody` calls this when hyper takes a piece of the response.
    pub(super) fn begin_wait(&self) {
        self.set(Some(Instant::now()));
    }

    /// `TrackedBody` calls this when hyper requests the next piece: the window had room for the previous one.
    pub(super) fn end_wait(&self) {
        self.set(None);
    }

    /// Runs a stream's task until it ends or its response stalls. Returns whether it ended.
    pub(super) async fn watch(self, task: impl Future, timeout: Duration) -> bool {
        tokio::select! {
            // polls the task first: a task that ends at the deadline counts as ended
            biased;
            _ = CURRENT.scope(self.clone(), task) => true,
            () = self.wait_until_stalled(timeout) => false,
        }
    }

    /// Completes when a piece has waited for too long.
    async fn wait_until_stalled(&self, timeout: Duration) {
        loop {
            let now = Instant::now();
            // If no piece waits, checks again after the timeout: a piece that begins to wait meanwhile can't stall earlier.
            let deadline = self.waiting_since().unwrap_or(now) + timeout;
            if deadline <= now {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }

    /// The time at which hyper took the piece that waits.
    fn waiting_since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::poll;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(30);

    #[tokio::test]
    async fn writes_of_few_bytes_time_out() {
        let mut stall = WriteStall::new(TIMEOUT);
        // The client reads 10 bytes a millisecond: 300 bytes within the timeout.
        let result = loop {
            poll_fn(|cx| stall.check(cx, Poll::Ready(Ok(10)))).await.unwrap();
            match poll!(poll_fn(|cx| stall.check(cx, Poll::Pending))) {
                Poll::Pending => tokio::time::sleep(Duration::from_millis(1)).await,
                Poll::Ready(result) => break result,
            }
        };
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn written_piece_or_end_of_response_restarts_the_timeout() {
        let mut stall = WriteStall::new(TIMEOUT);
        for _ in 0..2 {
            // The deadline passes in each wait, but the write of a piece, or the end of the response, ends the wait.
            assert!(poll!(poll_fn(|cx| stall.check(cx, Poll::Pending))).is_pending());
            tokio::time::sleep(2 * TIMEOUT).await;
            poll_fn(|cx| stall.check(cx, Poll::Ready(Ok(PIECE)))).await.unwrap();
            assert!(poll!(poll_fn(|cx| stall.check(cx, Poll::Pending))).is_pending());
            tokio::time::sleep(2 * TIMEOUT).await;
            poll_fn(|cx| stall.check(cx, Poll::Ready(Ok(1)))).await.unwrap();
            stall.done();
        }
    }

    #[tokio::test]
    async fn stream_stalls_while_its_piece_is_unread_but_not_while_its_task_runs() {
        let ended = StreamStall::default().watch(tokio::time::sleep(3 * TIMEOUT), TIMEOUT).await;
        assert!(ended, "a stream without an unread piece stalled");
        // a response whose piece no one reads
        let stalled = async {
            StreamStall::of_current_stream().unwrap().begin_wait();
            std::future::pending::<()>().await;
        };
        let ended = StreamStall::default().watch(stalled, TIMEOUT).await;
        assert!(!ended, "a stream with an unread piece did not stall");
        assert!(StreamStall::of_current_stream().is_none(), "this task handles no stream");
    }
}
