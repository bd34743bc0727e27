//! A one-shot signal to all connections, such as a shutdown. Every request on every core checks the signal, so a check must not take a lock: with
//! a [`CancellationToken`] alone, the cores would contend for the token's mutex.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A signal that is triggered once and never reset. Clones share the state.
#[derive(Clone, Debug, Default)]
pub(super) struct Signal {
    /// For checks without a lock.
    triggered: Arc<AtomicBool>,
    /// Wakes the tasks that wait.
    token: CancellationToken,
}

impl Signal {
    /// Triggers the signal.
    pub(super) fn trigger(&self) {
        // Before the token wakes the tasks, so that they see the flag.
        self.triggered.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Returns whether the signal was triggered.
    pub(super) fn is_triggered(&self) -> bool {
        self.triggered.load(Ordering::Acquire)
    }

    /// A token that the trigger cancels, for code outside the server.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// A future that completes when the signal is triggered.
    pub(super) fn watch(&self) -> Watch {
        Watch { signal: self.clone(), waiting: Box::pin(self.token.clone().cancelled_owned()), waker: None }
    }
}

/// The future of [`Signal::watch`]. Repeated polls by the same task cost one atomic load.
#[derive(Debug)]
pub(super) struct Watch {
    signal: Signal,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The waker that the last poll of `waiting` registered with the token.
    waker: Option<Waker>,
}

impl Future for Watch {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.signal.is_triggered() {
            return Poll::Ready(());
        }
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        // This poll takes the token's mutex. It is ready if the token was cancelled after the check above.
        self.waker = Some(cx.waker().clone());
        self.waiting.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts the wake-ups of a task.
    #[derive(Default)]
    struct WakeCounter(AtomicUsize);

    impl std::task::Wake for WakeCounter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn trigger_wakes_only_the_last_poller() {
        let signal = Signal::default();
        let mut watch = signal.watch();
        let first = Arc::<WakeCounter>::default();
        let second = Arc::<WakeCounter>::default();
        let mut poll = |counter: &Arc<WakeCounter>| {
            let waker = Waker::from(Arc::clone(counter));
            Pin::new(&mut watch).poll(&mut Context::from_waker(&waker))
        };
        // The first task polls twice, and then another task takes over the future.
        for counter in [&first, &first, &second, &second] {
            assert!(poll(counter).is_pending());
        }
        signal.trigger();
        assert_eq!(first.0.load(Ordering::Relaxed), 0);
        assert_eq!(second.0.load(Ordering::Relaxed), 1);
        assert!(poll(&first).is_ready());
        assert!(signal.is_triggered());
        assert!(signal.token().is_cancelled());
        let mut late_watch = signal.watch();
        let late_poll = Pin::new(&mut late_watch).poll(&mut Context::from_waker(Waker::noop()));
        assert!(late_poll.is_ready(), "a watch after the trigger completes at once");
    }
}
