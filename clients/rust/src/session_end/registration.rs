//! The handle of a registered session: [`Registration`].

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::{
    EndCause,
    registry::{Callback, Key, NotRenewed, RegistrationState},
};
use crate::{claims::Claims, error::VerifyError, verifier::Shared};

/// A session that is registered with [`crate::Verifier::on_end`]. Dropping the registration deregisters the session: the
/// callback is not called any more.
#[must_use = "dropping it deregisters the session"]
pub struct Registration {
    shared: Arc<Shared>,
    key: Key,
    /// Why the registration has ended. The registry sets it.
    outcome: Arc<OnceLock<EndCause>>,
}

/// Why a registration was not renewed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenewError {
    /// The token is not accepted. The registration is unchanged.
    #[error(transparent)]
    Token(#[from] VerifyError),
    /// The token belongs to another session. The registration is unchanged.
    #[error("the token is of another session")]
    OtherSession,
    /// The registered session has ended.
    #[error("the registered session has ended: {0}")]
    Ended(EndCause),
}

impl Registration {
    /// Registers a session, and ends the registration at once if the session has ended.
    pub(crate) fn new(shared: Arc<Shared>, claims: &Claims, callback: Callback) -> Self {
        let outcome = Arc::default();
        let (key, state) = shared.registry.insert(claims, callback, Arc::clone(&outcome), &*shared.clock);
        let registration = Self { shared, key, outcome };
        registration.end_if_invalid(&state);
        registration
    }

    /// Why the session has ended, if it has.
    pub fn ended(&self) -> Option<EndCause> {
        self.outcome.get().copied()
    }

    /// Renews the registration with a newer token of the same session, verified as by [`crate::Verifier::verify`]. From now on the
    /// expiry and the claims of the newer token apply. Returns these claims.
    ///
    /// # Errors
    /// [`RenewError`]
    pub async fn renew(&self, token: &str) -> Result<Arc<Claims>, RenewError> {
        if let Some(cause) = self.ended() {
            return Err(RenewError::Ended(cause));
        }
        let signed = self.shared.verify(token).await?;
        let state = self.shared.registry.renew(self.key, &signed.claims, &*self.shared.clock);
        let state = state.map_err(|error| match (error, self.ended()) {
            (NotRenewed::OtherSession, _) => RenewError::OtherSession,
            // the registry sets the outcome before it removes the registration, so the default is never used
            (NotRenewed::Gone, cause) => RenewError::Ended(cause.unwrap_or(EndCause::FeedLost)),
        })?;
        self.end_if_invalid(&state);
        self.ended().map_or_else(|| Ok(Arc::clone(&signed.claims)), |cause| Err(RenewError::Ended(cause)))
    }

    /// Ends the registration if its session has already ended or its token is no longer valid. The registry did not find the
    /// registration for events that came before it was added.
    fn end_if_invalid(&self, state: &RegistrationState) {
        if let Some(cause) = self.shared.cause_of_end(state) {
            self.shared.registry.end(self.key, cause);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.outcome.get().is_none() {
            self.shared.registry.remove(self.key);
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("ended", &self.ended()).finish_non_exhaustive()
    }
}
