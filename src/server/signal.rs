//! A signal to all connections. It is looked at with every request, on every core, so that looking must cost nothing: a
//! [`CancellationToken`] alone would have all cores take turns at its lock.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Given once, and for good. Clones are the same signal.
#[derive(Clone, Debug, Default)]
pub(super) struct Signal {
    given: Arc<AtomicBool>,
    token: CancellationToken,
}

impl Signal {
    /// Gives it.
    pub(super) fn give(&self) {
        self.given.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Whether it was given.
    pub(super) fn is_given(&self) -> bool {
        self.given.load(Ordering::Acquire)
    }

    /// The same for those who wait for it elsewhere.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Completes when it is given.
    pub(super) fn watch(&self) -> Watch {
        Watch { signal: self.clone(), waiting: Box::pin(self.token.clone().cancelled_owned()), waker: None }
    }
}

/// Waits for a signal. Polled again and again by one task, it is one look.
#[derive(Debug)]
pub(super) struct Watch {
    signal: Signal,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whom the signal will wake.
    waker: Option<Waker>,
}

impl Future for Watch {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.signal.is_given() {
            return Poll::Ready(());
        }
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        self.waiting.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl std::task::Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_polled_last_is_woken() {
        let signal = Signal::default();
        let mut watch = signal.watch();
        let (first, second) = (Arc::<Counting>::default(), Arc::<Counting>::default());
        let mut poll = |by: &Arc<Counting>| {
            let waker = Waker::from(Arc::clone(by));
            Pin::new(&mut watch).poll(&mut Context::from_waker(&waker))
        };
        for by in [&first, &first, &second, &second] {
            assert!(poll(by).is_pending());
        }
        signal.give();
        assert_eq!((first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)), (0, 1));
        assert!(poll(&first).is_ready());
        assert!(signal.is_given() && signal.token().is_cancelled());
        assert!(Pin::new(&mut signal.watch()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
