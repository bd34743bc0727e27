//! Notifies a service of the end of a session for which the service holds a connection, a stream or a job.

#[cfg(any(feature = "tower", feature = "poem"))]
pub(crate) mod body;
mod cause;
mod registration;
pub(crate) mod registry;
mod verified_session;
mod watch;

pub use cause::EndCause;
pub use registration::{Registration, RenewError};
pub use verified_session::VerifiedSession;
pub use watch::SessionWatch;

#[cfg(test)]
mod tests;
