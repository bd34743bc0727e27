//! The verified caller of a request: [`VerifiedSession`].

use std::sync::Arc;

use super::{EndCause, Registration, SessionWatch};
use crate::{Claims, Verifier};

/// The claims of a request's token, with the verifier that accepted the token. The middlewares add a `VerifiedSession` to the request's
/// extensions.
#[derive(Clone, Debug)]
pub struct VerifiedSession {
    verifier: Verifier,
    claims: Arc<Claims>,
}

impl VerifiedSession {
    // only the middlewares, which these features add, create it
    #[cfg(any(feature = "tower", feature = "poem"))]
    pub(crate) fn new(verifier: Verifier, claims: Arc<Claims>) -> Self {
        Self { verifier, claims }
    }

    /// The claims of the request's token.
    pub fn claims(&self) -> &Arc<Claims> {
        &self.claims
    }

    /// Calls `callback` when the session ends, for a connection or a job that outlives the request; see [`Verifier::on_end`].
    pub fn on_end(&self, callback: impl FnOnce(EndCause) + Send + 'static) -> Registration {
        self.verifier.on_end(&self.claims, callback)
    }

    /// Watches for the end of the session in `async` code; see [`Verifier::watch`].
    pub fn watch(&self) -> SessionWatch {
        self.verifier.watch(&self.claims)
    }
}
