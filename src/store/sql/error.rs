//! What can go wrong with the database, sorted by what it means to a caller.

use std::{fmt, io, path::PathBuf};

/// A database error. Shows neither addresses nor values: Postgres puts whole rows into the details of some errors, so
/// `Debug` prints no more than `Display`.
#[derive(thiserror::Error)]
pub enum SqlError {
    /// The database can't be reached, is starting or stopping, or is too busy. Trying again later may help: a 503.
    #[error("the database is unavailable: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The database holds something that isn't ours to have written. Trying again doesn't help.
    #[error("the database holds something unreadable: {0}")]
    Corrupt(String),
    /// A newer release has migrated the database.
    #[error(
        "the database is newer than this release: it has migration {found}, the last one known here is {known}; start the newer release"
    )]
    Newer {
        /// The migration that isn't known.
        found: i64,
        /// The last one that is.
        known: i64,
    },
    /// A migration that was applied reads differently now.
    #[error("migration {number} ({name}) was changed after it had been applied to this database")]
    ChangedMigration {
        /// Its number.
        number: i64,
        /// Its name.
        name: &'static str,
    },
    /// The configured address makes no sense.
    #[error("the database's address: {0}")]
    Address(String),
    /// The SQLite file can't be made or opened.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anything else: no such database, wrong password, missing table.
    #[error("{0}")]
    Other(#[source] sqlx::Error),
}

impl SqlError {
    /// Whether the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl fmt::Debug for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlError({self})")
    }
}

impl From<sqlx::Error> for SqlError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::BeginFailed => {
                Self::Unavailable(error)
            }
            E::Database(inner) => match Verdict::of(inner.as_ref()) {
                Verdict::Unavailable => Self::Unavailable(error),
                Verdict::Corrupt => Self::Corrupt(inner.message().to_owned()),
                Verdict::Other => Self::Other(error),
            },
            // Half an answer: the connection broke, or something in between lost track of it.
            E::Protocol(_) => Self::Unavailable(error),
            E::ColumnDecode { .. } | E::Decode(_) | E::AnyDriverError(_) => Self::Corrupt(error.to_string()),
            E::Configuration(reason) => Self::Address(reason.to_string()),
            _ => Self::Other(error),
        }
    }
}

enum Verdict {
    Unavailable,
    Corrupt,
    Other,
}

impl Verdict {
    /// By the error's code: five characters on Postgres (its manual, appendix A), a number on SQLite
    /// (<https://www.sqlite.org/rescode.html>).
    fn of(error: &dyn sqlx::error::DatabaseError) -> Self {
        let Some(code) = error.code() else { return Self::Other };
        if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
            // The low byte is the kind; what is above tells kinds apart further.
            return match code.parse::<u32>().map(|code| code & 0xff) {
                // BUSY, LOCKED, IOERR, FULL, CANTOPEN
                Ok(5 | 6 | 10 | 13 | 14) => Self::Unavailable,
                // CORRUPT, NOTADB
                Ok(11 | 26) => Self::Corrupt,
                _ => Self::Other,
            };
        }
        match &*code {
            // Read-only (a standby, after a failover), shutting down, crashed, starting up, cancelled by a time-out,
            // lock not available, serialization failure, deadlock.
            "25006" | "57P01" | "57P02" | "57P03" | "57014" | "55P03" | "40001" | "40P01" => Self::Unavailable,
            "XX001" | "XX002" => Self::Corrupt,
            // Connection exceptions (PgBouncer's own among them), insufficient resources, system errors.
            code if ["08", "53", "58"].iter().any(|class| code.starts_with(class)) => Self::Unavailable,
            _ => Self::Other,
        }
    }
}
