//! Errors of loading and reloading the shared state of a node.

use super::mailer::MailerError;
use crate::{
    crypto::key_ring::KeyRingError, fetch::FetcherError, logging::with_causes, pages::PagesError, store::sql::SqlError,
};

/// Why a part of a node's state could not be loaded or reloaded.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The database did not answer a query a moment ago, so this query was not sent.
    #[error("the database did not answer a moment ago; the query was not repeated yet")]
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
    #[error("a signing key could not be generated: {}", with_causes(.0))]
    KeyGeneration(anyhow::Error),
}
