//! Errors that every use case can fail with.

use std::time::Duration;

use crate::{
    crypto::{access_token::EncodeError, key_ring::KeyRingError},
    domain::limit::LimitExceeded,
    logging::with_causes,
    metrics::{LoginOutcome, RotationOutcome, SecondFactorOutcome},
    password::PasswordError,
    service::recent_authentication::InsufficientAuthentication,
    state::{error::StateError, mailer::PrepareError},
    store::{redis::RedisError, sql::SqlError},
};

/// A use case failed for a reason that is not its caller's input.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A dependency does not answer, the mail outbox is full, or this node lacks a secret that another node uses (`token key`). It is
    /// unknown whether a change was made. Repeating the request is safe.
    #[error("{dependency} is unavailable: {}", with_causes(.source))]
    Unavailable {
        /// The dependency: `redis`, `database`, `mail`, `client's key set` or `token key`.
        dependency: &'static str,
        /// How long to wait before a retry.
        retry_after: Duration,
        /// The cause, for the log.
        source: anyhow::Error,
    },
    /// Another request changed the account in the meantime. Repeating the request is safe. The text names what the request was doing.
    #[error("the account changed while {0}")]
    AccountChanged(&'static str),
    /// The queue of the password threads is full (`password.queue`); nothing was done.
    #[error("the queue of the password threads is full")]
    Busy {
        /// How long to wait before a retry.
        retry_after: Duration,
    },
    /// The caller's authentication is too long ago or too weak; nothing was done.
    #[error(transparent)]
    InsufficientAuthentication(#[from] InsufficientAuthentication),
    /// A rate limit was exceeded; nothing was done.
    #[error(transparent)]
    Limited(#[from] LimitExceeded),
    /// A bug, or data that this release can't read. The text has the causes, too.
    #[error("{}", with_causes(.0))]
    Internal(anyhow::Error),
}

/// Converts a [`ServiceError`] into the outcome that metrics count. [`ServiceError::InsufficientAuthentication`] does not occur in
/// the counted operations, which need no earlier authentication; if it did, that would be a failure.
macro_rules! outcome_from_service_error {
    ($($outcome:ident),*) => {
        $(impl From<&ServiceError> for $outcome {
            fn from(error: &ServiceError) -> Self {
                match error {
                    ServiceError::Unavailable { .. } | ServiceError::AccountChanged(_) | ServiceError::Busy { .. } => {
                        Self::Unavailable
                    }
                    ServiceError::Limited(_) => Self::Limited,
                    ServiceError::InsufficientAuthentication(_) | ServiceError::Internal(_) => Self::Failed,
                }
            }
        })*
    };
}

outcome_from_service_error!(LoginOutcome, RotationOutcome, SecondFactorOutcome);

/// How long a client waits for Redis or the database before a retry.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a client waits for a full outbox before a retry.
const MAIL_RETRY_AFTER: Duration = Duration::from_secs(30);

impl From<RedisError> for ServiceError {
    fn from(error: RedisError) -> Self {
        match error {
            RedisError::Unavailable(_) => {
                Self::Unavailable { dependency: "redis", retry_after: RETRY_AFTER, source: error.into() }
            }
            RedisError::Setting { .. } | RedisError::Unexpected(_) => Self::Internal(error.into()),
        }
    }
}

impl From<SqlError> for ServiceError {
    fn from(error: SqlError) -> Self {
        if error.is_unavailable() {
            Self::Unavailable { dependency: "database", retry_after: RETRY_AFTER, source: error.into() }
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
            // The database did not answer a moment ago.
            StateError::Backoff => {
                Self::Unavailable { dependency: "database", retry_after: RETRY_AFTER, source: error.into() }
            }
            StateError::KeyRing(error) => error.into(),
            StateError::KeyGeneration(error) => Self::Internal(error),
            StateError::Mailer(error) => Self::Internal(error.into()),
            StateError::Pages(error) => Self::Internal(error.into()),
            StateError::Fetcher(error) => Self::Internal(error.into()),
        }
    }
}

impl From<PrepareError> for ServiceError {
    fn from(error: PrepareError) -> Self {
        Self::Unavailable { dependency: "mail", retry_after: MAIL_RETRY_AFTER, source: error.into() }
    }
}

impl From<EncodeError> for ServiceError {
    fn from(error: EncodeError) -> Self {
        Self::Internal(error.into())
    }
}

/// Implements the conversions of store errors into the variant `Service` of a use case's error, so that `?` converts them. The types of
/// the store errors may be listed after the error's type; by default, they are those of Redis and SQL.
macro_rules! from_store_errors {
    ($error:ty) => {
        $crate::service::error::from_store_errors!($error: $crate::store::redis::RedisError, $crate::store::sql::SqlError);
    };
    ($error:ty: $($source:ty),+) => {
        $(impl From<$source> for $error {
            fn from(source: $source) -> Self {
                Self::Service(source.into())
            }
        })+
    };
}
pub(in crate::service) use from_store_errors;

/// Implements the conversion of a [`ReplaceSessionsError`](super::replace_sessions::ReplaceSessionsError) into the variants with the same
/// names of a use case's error.
macro_rules! from_replace_sessions_error {
    ($error:ty) => {
        impl From<$crate::service::replace_sessions::ReplaceSessionsError> for $error {
            fn from(error: $crate::service::replace_sessions::ReplaceSessionsError) -> Self {
                use $crate::service::replace_sessions::ReplaceSessionsError;
                match error {
                    ReplaceSessionsError::SessionEnded => Self::SessionEnded,
                    ReplaceSessionsError::CookieNotAccepted => Self::CookieNotAccepted,
                    ReplaceSessionsError::Service(error) => Self::Service(error),
                }
            }
        }
    };
}
pub(in crate::service) use from_replace_sessions_error;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_internal_error_and_unavailable_dependency_have_all_causes() {
        let error = || anyhow::anyhow!("it was changed").context("the secret of the factor 7");
        assert_eq!(ServiceError::Internal(error()).to_string(), "the secret of the factor 7: it was changed");
        let unavailable =
            ServiceError::Unavailable { dependency: "database", retry_after: RETRY_AFTER, source: error() };
        assert_eq!(unavailable.to_string(), "database is unavailable: the secret of the factor 7: it was changed");
    }
}
