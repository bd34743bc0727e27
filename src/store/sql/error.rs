//! Errors of the database, classified by whether a retry may succeed.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// A database error. Its texts contain no e-mail addresses and no whole rows. PostgreSQL puts whole rows into the details of some errors,
/// so `Debug` prints only what `Display` prints.
#[derive(thiserror::Error)]
pub enum SqlError {
    /// The database can't be reached, is starting or stopping, or is too busy. A retry may succeed, so the request is answered with 503.
    #[error("the database is unavailable: {}", reason(.0))]
    Unavailable(sqlx::Error),
    /// The database holds data that this release did not write. A retry does not help.
    #[error("the database holds unreadable data: {0}")]
    Corrupt(String),
    /// A newer release has migrated the database.
    #[error(
        "the database is newer than this release: it has migration {found}, this release ends with {known}; start the newer release"
    )]
    Newer {
        /// The last migration of the database.
        found: i64,
        /// The last migration of this release.
        known: i64,
    },
    /// The text of an applied migration has changed.
    #[error("migration {number} ({name}) was changed after it had been applied to this database")]
    ChangedMigration {
        /// The number of the migration.
        number: i64,
        /// The name of the migration.
        name: &'static str,
    },
    /// A pooler refuses a parameter that every connection of this service sends. A retry does not help until the pooler is configured.
    #[error(
        "the pooler refuses the start-up parameter {0}: add it to `ignore_startup_parameters` in pgbouncer.ini, or let \
         database.url lead to PostgreSQL itself"
    )]
    StartupParameter(String),
    /// `database.url` is unusable.
    #[error("database.url: {0}")]
    Address(String),
    /// A SQLite file can't be created or opened.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An insertion conflicts with an existing row, and no caller can resolve the conflict. Conflicts that a caller can resolve have errors of
    /// their own.
    #[error("{0}")]
    Conflict(String),
    /// Any other error, such as no such database, wrong password, missing table.
    #[error("{}", reason(.0))]
    Other(sqlx::Error),
}

impl SqlError {
    /// Whether the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// The error with the path of the file, if the file holds unreadable data.
    pub(super) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Corrupt(reason) => {
                Self::Corrupt(format!("{}: {reason}; restore the file from a backup", path.display()))
            }
            other => other,
        }
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
            E::Database(inner) => {
                if let Some(parameter) = inner.message().strip_prefix(UNSUPPORTED_PARAMETER) {
                    return Self::StartupParameter(parameter.trim().to_owned());
                }
                match ErrorClass::of(inner.as_ref()) {
                    ErrorClass::Unavailable => Self::Unavailable(error),
                    ErrorClass::Corrupt => Self::Corrupt(inner.message().to_owned()),
                    ErrorClass::Other => Self::Other(error),
                }
            }
            // The answer was incomplete: the connection broke, or a proxy in between mixed up connections.
            E::Protocol(_) => Self::Unavailable(error),
            E::ColumnDecode { .. } | E::Decode(_) | E::AnyDriverError(_) => Self::Corrupt(error.to_string()),
            E::Configuration(reason) => Self::Address(reason.to_string()),
            _ => Self::Other(error),
        }
    }
}

/// The text with which PgBouncer begins its refusal of a start-up parameter. The name of the parameter follows.
const UNSUPPORTED_PARAMETER: &str = "unsupported startup parameter:";

/// Further refusals of PgBouncer that no retry changes.
const PERMANENT_REFUSALS: [&str; 3] = ["no such database", "no such user", "authentication failed"];

/// The reason of an error as text: the server's message, without the place in the server's source code that sqlx adds.
fn reason(error: &sqlx::Error) -> String {
    use sqlx::Error as E;
    match error {
        E::Database(inner) => {
            let code = inner.code().map(|code| format!(" ({code})")).unwrap_or_default();
            let hint = if inner.message().contains("client certificate") {
                // the message says that a certificate is required
                "; sslcert and sslkey in database.url name it"
            } else {
                ""
            };
            format!("{}{code}{hint}", inner.message())
        }
        E::Io(error) => {
            let text = error.to_string();
            // an error of rustls, which sqlx passes on as an I/O error
            if text.contains("UnknownIssuer") {
                return "TLS: the server's certificate is of an unknown authority; sslrootcert in database.url names the one to trust"
                    .to_owned();
            }
            // drops the number, which the text before it explains: "Connection refused (os error 111)"
            text.split(" (os error").next().unwrap_or_default().to_lowercase()
        }
        E::Tls(error) => format!("TLS: {error}"),
        E::PoolTimedOut => {
            "no connection became free in time (database.max_connections, database.acquire_timeout), or the database accepts none".to_owned()
        }
        E::PoolClosed => "the service is shutting down".to_owned(),
        other => other.to_string(),
    }
}

/// The class of a database's error.
enum ErrorClass {
    Unavailable,
    Corrupt,
    Other,
}

impl ErrorClass {
    /// The class of an error by its code: five characters on PostgreSQL (its manual, appendix A), a number on SQLite
    /// (<https://www.sqlite.org/rescode.html>).
    fn of(error: &dyn sqlx::error::DatabaseError) -> Self {
        let Some(code) = error.code() else { return Self::Other };
        if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
            // The low byte is the primary result code; the higher bytes refine it.
            return match code.parse::<u32>().map(|code| code & 0xff) {
                // BUSY, LOCKED, IOERR, FULL, CANTOPEN
                Ok(5 | 6 | 10 | 13 | 14) => Self::Unavailable,
                // CORRUPT, NOTADB
                Ok(11 | 26) => Self::Corrupt,
                _ => Self::Other,
            };
        }
        match code.as_ref() {
            // In this order: read-only (a standby, after a failover), shutting down, crashed, starting up, cancelled by a time-out,
            // lock not available, serialization failure, deadlock.
            "25006" | "57P01" | "57P02" | "57P03" | "57014" | "55P03" | "40001" | "40P01" => Self::Unavailable,
            // Data corrupted, index corrupted.
            "XX001" | "XX002" => Self::Corrupt,
            // PgBouncer has one code for all its refusals. Some of them are permanent.
            "08P01" if PERMANENT_REFUSALS.iter().any(|text| error.message().contains(text)) => Self::Other,
            // The classes of connection exceptions (PgBouncer's other refusals among them), insufficient resources and system errors.
            code if ["08", "53", "58"].iter().any(|class| code.starts_with(class)) => Self::Unavailable,
            _ => Self::Other,
        }
    }
}
