//! What can go wrong in every flow, whatever it is about.

use std::time::Duration;

use crate::{
    crypto::{access_token::EncodeError, key_ring::KeyRingError},
    domain::limit::TooMany,
    password::PasswordError,
    state::error::StateError,
    store::{redis::RedisError, sql::SqlError},
};

/// A flow could not be carried out, through no fault of its caller.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Something that is needed is missing at the moment. Whether a change was made is unknown; repeating is safe.
    #[error("{what} is unavailable: {source}")]
    Unavailable {
        /// `redis`, `database` or `account`.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
        /// Why, for the log.
        source: anyhow::Error,
    },
    /// Too many passwords wait to be hashed: nothing was done. Costs little to say, since there may be a flood of it.
    #[error("too many passwords wait to be hashed")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// It came too often: nothing was done.
    #[error(transparent)]
    Limited(#[from] TooMany),
    /// Something is as it never should be.
    #[error(transparent)]
    Internal(anyhow::Error),
}

impl ServiceError {
    /// What it is called where failures are counted.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } | Self::Busy { .. } => "unavailable",
            Self::Limited(_) => "limited",
            Self::Internal(_) => "failed",
        }
    }
}

const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<RedisError> for ServiceError {
    fn from(error: RedisError) -> Self {
        match error {
            RedisError::Unavailable(_) => {
                Self::Unavailable { what: "redis", retry_after: RETRY_AFTER, source: error.into() }
            }
            RedisError::Url(_) | RedisError::Unexpected(_) => Self::Internal(error.into()),
        }
    }
}

impl From<SqlError> for ServiceError {
    fn from(error: SqlError) -> Self {
        if error.is_unavailable() {
            Self::Unavailable { what: "database", retry_after: RETRY_AFTER, source: error.into() }
        } else {
            Self::Internal(error.into())
        }
    }
}

impl From<PasswordError> for ServiceError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy { retry_after } => Self::Busy { retry_after },
            _ => Self::Internal(error.into()),
        }
    }
}

impl From<KeyRingError> for ServiceError {
    fn from(error: KeyRingError) -> Self {
        Self::Internal(error.into())
    }
}

impl From<StateError> for ServiceError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Sql(error) => error.into(),
            StateError::Backoff => {
                Self::Unavailable { what: "database", retry_after: RETRY_AFTER, source: error.into() }
            }
            StateError::KeyRing(error) => error.into(),
            StateError::KeyGeneration(error) => Self::Internal(error),
        }
    }
}

impl From<EncodeError> for ServiceError {
    fn from(error: EncodeError) -> Self {
        Self::Internal(error.into())
    }
}
