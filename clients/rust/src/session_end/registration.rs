//! The handle of a registered session: [`Registration`].

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::{
    EndCause,
    registry::{Callback, NotRenewed, RegistrationKey, RegistrationState},
};
use crate::{claims::Claims, error::VerifyError, verifier::Shared};

/// A session that is registered with [`crate::Verifier::on_end`]. Dropping the registration deregisters the session: the
/// callback is not called any more.
#[must_use = "dropping it deregisters the session"]
pub struct Registration {
    shared: Arc<Shared>,
    key: RegistrationKey,
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

    /// Verifies a newer token of the same session, as [`crate::Verifier::verify`] does, and renews the registration with it: from
    /// now on, the newer token's expiry and claims apply. Returns these claims.
    ///
    /// # Errors
    /// [`RenewError`]
    pub async fn renew(&self, token: &str) -> Result<Arc<Claims>, RenewError> {
        if let Some(cause) = self.ended() {
            return Err(RenewError::Ended(cause));
        }
        // the session may end while the token is verified: the registry then answers `Gone`
        let signed = self.shared.verify(token).await?;
        let renewed = self.shared.registry.renew(self.key, &signed.claims, &*self.shared.clock);
        let state = renewed.map_err(|error| match error {
            NotRenewed::OtherSession => RenewError::OtherSession,
            // a registration that is gone from the registry has its outcome, so the default is never used
            NotRenewed::Gone => RenewError::Ended(self.ended().unwrap_or(EndCause::FeedLost)),
        })?;
        self.end_if_invalid(&state);
        match self.ended() {
            Some(cause) => Err(RenewError::Ended(cause)),
            None => Ok(Arc::clone(&signed.claims)),
        }
    }

    /// Ends the registration if its session has already ended or its token is no longer valid. The events that
    /// arrived before the registration or its newer token was added did not reach it.
    fn end_if_invalid(&self, state: &RegistrationState) {
        if let Some(cause) = self.shared.cause_of_end(state) {
            self.shared.registry.end(self.key, cause);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // otherwise the registry has removed the registration already
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
