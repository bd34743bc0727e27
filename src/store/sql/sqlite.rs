//! The SQLite file: path, permissions and connection settings.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    AnyConnection, AssertSqlSafe, ConnectOptions, Connection, Executor, SqlSafeStr, SqlStr, any::AnyConnectOptions,
    sqlite::SqliteConnectOptions,
};
use url::Url;

use super::SqlError;
use crate::domain::secret::SecretText;

/// The pause before the next attempt to turn on the write-ahead log.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The connection options. Their URL contains the absolute path, percent-encoded, so that no part of it is parsed as a host.
pub(super) fn options(url: &SecretText) -> Result<AnyConnectOptions, SqlError> {
    let path = path(url)?;
    let path = path.to_str().ok_or_else(|| SqlError::Address("is not UTF-8".into()))?;
    // a URL with an empty host
    let mut address = Url::parse("sqlite:///").map_err(|error| SqlError::Address(error.to_string()))?;
    // `set_path` encodes every special character except `%`, which it takes for the beginning of an encoded one
    address.set_path(&path.replace('%', "%25"));
    address.set_query(url.expose().split_once('?').map(|(_, query)| query));
    Ok(AnyConnectOptions::from_url(&address)?)
}

/// Creates the file, with permissions for its owner only. SQLite's further files get the same permissions. Turns on the write-ahead
/// log: the file stores this setting.
pub(super) async fn create(
    url: &SecretText,
    options: &AnyConnectOptions,
    acquire_timeout: Duration,
) -> Result<(), SqlError> {
    let path = path(url)?;
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    opened.map_err(|source| SqlError::File { path, source })?;
    let mut connection = AnyConnection::connect_with(options).await?;
    connection.execute(connection_pragmas(acquire_timeout)).await?;
    // While another process turns the log on, this one gets an error at once, regardless of busy_timeout, and must retry.
    let turn_on_log = async {
        while let Err(error) = connection.execute("PRAGMA journal_mode = WAL").await.map_err(SqlError::from) {
            if !error.is_unavailable() {
                return Err(error);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        Ok(())
    };
    let turned_on = tokio::time::timeout(acquire_timeout, turn_on_log).await;
    turned_on.unwrap_or_else(|_elapsed| {
        Err(super::timed_out("another process has locked the file for too long (database.acquire_timeout)").into())
    })?;
    Ok(connection.close().await?)
}

/// The settings of every connection. A statement waits at most `lock_timeout` for a lock. `synchronous = FULL` makes a commit
/// survive a power cut, not only a crash.
pub(super) fn connection_pragmas(lock_timeout: Duration) -> SqlStr {
    AssertSqlSafe(format!(
        "PRAGMA busy_timeout = {};
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;",
        lock_timeout.as_millis()
    ))
    .into_sql_str()
}

/// The absolute path of the database file.
pub(super) fn path(url: &SecretText) -> Result<PathBuf, SqlError> {
    let url = url.expose();
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(SqlError::Address(
            "an in-memory SQLite database is lost at exit, and each connection has its own: name a file".into(),
        ));
    }
    let options: SqliteConnectOptions = url.parse()?;
    let path: &Path = options.get_filename();
    std::path::absolute(path).map_err(|source| SqlError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_path_with_special_characters_keep_the_path() {
        for path in ["/tmp/a b/100% sure?/x#y.db", "/var/lib/latchkey/latchkey.db", "/tmp/ünï.db"] {
            // a user must encode these characters in `database.url`
            let url = format!("sqlite://{}", path.replace('%', "%25").replace('?', "%3F").replace('#', "%23"));
            let options = options(&url.into()).unwrap();
            let read_back = SqliteConnectOptions::from_url(&options.database_url).unwrap();
            assert_eq!(read_back.get_filename(), Path::new(path));
        }
    }

    #[test]
    fn options_of_in_memory_database_are_refused() {
        assert!(matches!(options(&"sqlite::memory:".into()), Err(SqlError::Address(_))));
        assert!(matches!(options(&"sqlite://x?mode=memory".into()), Err(SqlError::Address(_))));
    }
}
