//! Waits for the end of a session: [`SessionWatch`].

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::{EndCause, Registration, RenewError};
use crate::{claims::Claims, verifier::Shared};

/// A registered session whose end can be awaited; see [`crate::Verifier::watch`]. Dropping it deregisters the session.
#[derive(Debug)]
#[must_use = "dropping it deregisters the session"]
pub struct SessionWatch {
    registration: Registration,
    receiver: oneshot::Receiver<EndCause>,
}

impl SessionWatch {
    pub(crate) fn new(shared: Arc<Shared>, claims: &Claims) -> Self {
        let (sender, receiver) = oneshot::channel();
        let callback = Box::new(move |cause| {
            // fails only if the `SessionWatch`, which owns the receiver, is being dropped
            let _ = sender.send(cause);
        });
        Self { registration: Registration::new(shared, claims, callback), receiver }
    }

    /// Waits until the session ends, and returns why. Cancel safe.
    pub async fn ended(&mut self) -> EndCause {
        poll_fn(|context| self.poll_ended(context)).await
    }

    /// Polls for the end of the session.
    pub fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<EndCause> {
        // The registration comes first: the receiver panics when it is polled again after it was ready.
        if let Some(cause) = self.registration.ended() {
            return Poll::Ready(cause);
        }
        // The receiver fails only if the callback is dropped without a call. That does not happen while the registration exists,
        // so the cause in this case is arbitrary.
        Pin::new(&mut self.receiver).poll(context).map(|received| received.unwrap_or(EndCause::FeedLost))
    }

    /// Why the session has ended, if it has.
    pub fn cause(&self) -> Option<EndCause> {
        self.registration.ended()
    }

    /// Runs a future until it completes or the session ends. If the session ends, the future is dropped with everything that
    /// it owns, such as a connection.
    ///
    /// # Errors
    /// The cause, if the session has ended.
    pub async fn run<F: Future>(&mut self, future: F) -> Result<F::Output, EndCause> {
        let mut future = pin!(future);
        // The end is polled first: a future that is ready only after the end of the session does not complete.
        poll_fn(|context| match self.poll_ended(context) {
            Poll::Ready(cause) => Poll::Ready(Err(cause)),
            Poll::Pending => future.as_mut().poll(context).map(Ok),
        })
        .await
    }

    /// Replaces the registered token by a newer one of the same session; see [`Registration::renew`].
    ///
    /// # Errors
    /// [`RenewError`]
    pub async fn renew(&self, token: &str) -> Result<Arc<Claims>, RenewError> {
        self.registration.renew(token).await
    }
}
