//! Errors of loading and reloading the shared state of a node.

use super::mailer::MailerError;
use crate::{crypto::key_ring::KeyRingError, fetch::FetcherError, pages::PagesError, store::sql::SqlError};

/// A signing key or a service client could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The database did not answer the previous request, a moment ago; this one was not sent.
    #[error("the database did not answer a moment ago")]
    Backoff,
    /// A stored signing key can't be opened or used.
    #[error(transparent)]
    KeyRing(#[from] KeyRingError),
    /// Mails can't be sent.
    #[error(transparent)]
    Mailer(#[from] MailerError),
    /// A page can't be rendered.
    #[error(transparent)]
    Pages(#[from] PagesError),
    /// Metadata documents of clients can't be fetched.
    #[error(transparent)]
    Fetcher(#[from] FetcherError),
    /// A new signing key could not be generated.
    #[error("a signing key could not be generated: {0}")]
    KeyGeneration(anyhow::Error),
}
