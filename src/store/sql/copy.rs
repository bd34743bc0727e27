//! Copies a SQLite database while it is in use, and finds its file.

use std::{
    io,
    path::{Path, PathBuf},
};

use sqlx::Connection;

use super::{Dialect, Sql, SqlError, query, sqlite};
use crate::config::DatabaseSettings;

impl Sql {
    /// Writes a copy of the database to `path`, an empty or missing file. The copy has the state at one moment, without the space of
    /// deleted rows (<https://www.sqlite.org/lang_vacuum.html#vacuuminto>). Other connections may read and write meanwhile. Returns false
    /// if the database is not SQLite.
    ///
    /// # Errors
    /// [`SqlError`]. [`SqlError::File`] if `path` is not UTF-8.
    pub async fn copy_to(&self, path: &Path) -> Result<bool, SqlError> {
        if self.dialect != Dialect::Sqlite {
            return Ok(false);
        }
        let target = path.to_str().ok_or_else(|| SqlError::File {
            path: path.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidInput, "the path of a copy must be UTF-8"),
        })?;
        // Outside the pool: the copy may take long.
        let mut connection = self.connect_directly().await?;
        query("VACUUM INTO $1").bind(target.to_owned()).execute(&mut connection).await?;
        connection.close().await?;
        Ok(true)
    }
}

/// The path of the SQLite file; none for PostgreSQL.
///
/// # Errors
/// [`SqlError::Address`]
pub fn sqlite_path(settings: &DatabaseSettings) -> Result<Option<PathBuf>, SqlError> {
    match Dialect::from_url(&settings.url)? {
        Dialect::Sqlite => sqlite::path(&settings.url).map(Some),
        Dialect::Postgres => Ok(None),
    }
}
