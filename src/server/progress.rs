//! Whether an answer gets on: a reader that takes [`PIECE`] bytes in `http.write_timeout`, or what is left, goes on for as
//! long as it likes, and one that doesn't is given up. A few bytes a minute would otherwise hold a connection for days.
//!
//! Over HTTP/1 that can be seen at the socket ([`WriteStall`]). Over HTTP/2 the socket may be lively while a stream has no
//! window (RFC 9113, section 5.2), so there each stream is watched as well ([`StreamStall`]).

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// How much of an answer has to get on, in bytes.
pub(super) const PIECE: usize = 16 * 1024;

/// Watches the writes on a socket.
pub(super) struct WriteStall {
    timeout: Duration,
    /// Since a write had to wait: until when [`PIECE`] bytes must be gone, and how many are.
    waiting: Option<(Pin<Box<Sleep>>, usize)>,
}

impl WriteStall {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, waiting: None }
    }

    /// What a write came to; an error instead of waiting any longer.
    pub(super) fn check(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            if let (Some((_, total)), Ok(some)) = (&mut self.waiting, &written) {
                *total += some;
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

    /// Nothing is left to write.
    pub(super) fn done(&mut self) {
        self.waiting = None;
    }
}

/// Watches the pieces that are sent on one stream of HTTP/2.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamStall(Arc<Mutex<Option<Instant>>>);

tokio::task_local! {
    /// That of the stream whose request this task works on.
    static OF_THIS_STREAM: StreamStall;
}

impl StreamStall {
    /// That of the stream whose request this task works on; none over HTTP/1.
    pub(super) fn of_this_stream() -> Option<Self> {
        OF_THIS_STREAM.try_with(Self::clone).ok()
    }

    /// A piece is on its way.
    pub(super) fn begins(&self) {
        self.set(Some(Instant::now()));
    }

    /// The next piece is asked for: the window had room for the one before.
    pub(super) fn ends(&self) {
        self.set(None);
    }

    /// Runs a stream's task as long as what it sends gets on; says whether it came to its end.
    pub(super) async fn watch(self, task: impl Future, timeout: Duration) -> bool {
        tokio::select! {
            biased;
            _ = OF_THIS_STREAM.scope(self.clone(), task) => true,
            () = self.stalled(timeout) => false,
        }
    }

    /// Completes when a piece has been on its way for too long.
    async fn stalled(&self, timeout: Duration) {
        loop {
            let now = Instant::now();
            let by = self.since().unwrap_or(now) + timeout;
            if by <= now {
                return;
            }
            tokio::time::sleep_until(by).await;
        }
    }

    fn since(&self) -> Option<Instant> {
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

    const SHORT: Duration = Duration::from_millis(30);

    #[tokio::test]
    async fn a_few_bytes_now_and_then_are_not_enough() {
        let mut writing = WriteStall::new(SHORT);
        loop {
            poll_fn(|cx| writing.check(cx, Poll::Ready(Ok(10)))).await.unwrap();
            match poll!(poll_fn(|cx| writing.check(cx, Poll::Pending))) {
                Poll::Pending => tokio::time::sleep(SHORT / 30).await,
                Poll::Ready(given_up) => break assert_eq!(given_up.unwrap_err().kind(), io::ErrorKind::TimedOut),
            }
        }
    }

    #[tokio::test]
    async fn a_piece_or_the_end_gives_time_anew() {
        let mut writing = WriteStall::new(SHORT);
        for _ in 0..2 {
            assert!(poll!(poll_fn(|cx| writing.check(cx, Poll::Pending))).is_pending());
            tokio::time::sleep(2 * SHORT).await;
            poll_fn(|cx| writing.check(cx, Poll::Ready(Ok(PIECE)))).await.unwrap();
            assert!(poll!(poll_fn(|cx| writing.check(cx, Poll::Pending))).is_pending());
            tokio::time::sleep(2 * SHORT).await;
            poll_fn(|cx| writing.check(cx, Poll::Ready(Ok(1)))).await.unwrap();
            writing.done();
        }
    }

    #[tokio::test]
    async fn a_stream_may_wait_for_its_data_but_not_for_its_reader() {
        let ended = StreamStall::default().watch(tokio::time::sleep(3 * SHORT), SHORT).await;
        assert!(ended, "nothing was on its way");
        let ended = async {
            StreamStall::of_this_stream().unwrap().begins();
            std::future::pending::<()>().await;
        };
        assert!(!StreamStall::default().watch(ended, SHORT).await);
        assert!(StreamStall::of_this_stream().is_none());
    }
}
