//! The SQLite file: where it is, who may read it, and how it is opened.

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

/// How long to wait before a locked file is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// The address as sqlx wants it: an absolute path, so that it isn't mistaken for a host, and encoded.
pub(super) fn options(url: &SecretText) -> Result<AnyConnectOptions, SqlError> {
    let path = path(url)?;
    let path = path.to_str().ok_or_else(|| SqlError::Address("is not UTF-8".into()))?;
    let mut address = Url::parse("sqlite:///").map_err(|error| SqlError::Address(error.to_string()))?;
    address.set_path(&path.replace('%', "%25"));
    address.set_query(url.expose().split_once('?').map(|(_, query)| query));
    Ok(AnyConnectOptions::from_url(&address)?)
}

/// Makes the file, readable and writable by its owner alone (SQLite gives the files beside it the same permissions), and
/// turns on the write-ahead log, which stays on.
pub(super) async fn create(url: &SecretText, options: &AnyConnectOptions, patience: Duration) -> Result<(), SqlError> {
    let path = path(url)?;
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    opened.map_err(|source| SqlError::File { path, source })?;
    let mut connection = AnyConnection::connect_with(options).await?;
    connection.execute(pragmas(patience)).await?;
    // Of nodes that start at once one turns the log on. The others are told at once that the file is locked, whatever
    // busy_timeout says, and have to ask again.
    let turned_on = async {
        while let Err(error) = connection.execute("PRAGMA journal_mode = WAL").await.map_err(SqlError::from) {
            if !error.is_unavailable() {
                return Err(error);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Ok(())
    };
    tokio::time::timeout(patience, turned_on).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
    Ok(connection.close().await?)
}

/// What every connection is told. `synchronous = FULL` makes a commit survive a power cut, not only a crash.
pub(super) fn pragmas(patience: Duration) -> SqlStr {
    AssertSqlSafe(format!(
        "PRAGMA busy_timeout = {};
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;",
        patience.as_millis()
    ))
    .into_sql_str()
}

fn path(url: &SecretText) -> Result<PathBuf, SqlError> {
    let url = url.expose();
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(SqlError::Address("a SQLite in memory forgets everything, and each connection has its own".into()));
    }
    let options: SqliteConnectOptions = url.parse()?;
    let path: &Path = options.get_filename();
    std::path::absolute(path).map_err(|source| SqlError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_survives() {
        for path in ["/tmp/a b/100% sure?/x#y.db", "/var/lib/latchkey/latchkey.db", "/tmp/ünï.db"] {
            let url = format!("sqlite://{}", path.replace('%', "%25").replace('?', "%3F").replace('#', "%23"));
            let options = options(&url.into()).unwrap();
            let read_back = SqliteConnectOptions::from_url(&options.database_url).unwrap();
            assert_eq!(read_back.get_filename(), Path::new(path));
        }
    }

    #[test]
    fn memory_is_refused() {
        assert!(matches!(options(&"sqlite::memory:".into()), Err(SqlError::Address(_))));
        assert!(matches!(options(&"sqlite://x?mode=memory".into()), Err(SqlError::Address(_))));
    }
}
