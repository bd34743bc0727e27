//! The session mark: a time that nodes write to Redis and to the database. If the mark in Redis is older, Redis was restored from an
//! old copy.

use sqlx::Row;

use super::{Sql, SqlError, query};
use crate::domain::clock::Timestamp;

impl Sql {
    /// The stored mark; `None` if no node has stored one yet.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn session_mark(&self) -> Result<Option<Timestamp>, SqlError> {
        let mut tx = self.begin_read().await?;
        let row = query("SELECT marked_at FROM session_mark WHERE id = 1").fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        let Some(row) = row else { return Ok(None) };
        let millis = row.try_get("marked_at")?;
        Ok(Some(Timestamp::from_millis(millis)))
    }

    /// Stores a mark, unless the stored mark is newer.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn set_session_mark(&self, mark: Timestamp) -> Result<(), SqlError> {
        let mut tx = self.begin_write().await?;
        // The table has a single row, with the id 1.
        let sql = "INSERT INTO session_mark (id, marked_at) VALUES (1, $1) \
                   ON CONFLICT (id) DO UPDATE SET marked_at = excluded.marked_at \
                   WHERE session_mark.marked_at < excluded.marked_at";
        query(sql).bind(mark.as_millis()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}
