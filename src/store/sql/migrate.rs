//! Migrations: the files in `migrations/`, in order, each once.
//!
//! sqlx has a migrator. This one exists because that one holds a session-level lock and keeps named prepared statements,
//! neither of which survives PgBouncer in transaction mode.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use sqlx::{Connection, Executor, Row};

use super::{Dialect, Lock, Sql, SqlError, query};

struct Migration {
    number: i64,
    name: &'static str,
    sql: &'static str,
}

/// Every file in `migrations/`. One that was released is never changed; what it left out, another adds.
const MIGRATIONS: [Migration; 4] = [
    Migration { number: 1, name: "accounts", sql: include_str!("../../../migrations/0001_accounts.sql") },
    Migration { number: 2, name: "imports", sql: include_str!("../../../migrations/0002_imports.sql") },
    Migration { number: 3, name: "signing_keys", sql: include_str!("../../../migrations/0003_signing_keys.sql") },
    Migration { number: 4, name: "clients", sql: include_str!("../../../migrations/0004_clients.sql") },
];

/// Which migrations have been applied, what they read then (SHA-256), and when that was, for people who look.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS migrations (\
                     number BIGINT NOT NULL PRIMARY KEY, \
                     name TEXT NOT NULL, \
                     checksum BYTEA NOT NULL, \
                     applied_at TEXT NOT NULL)";

impl Sql {
    /// Applies the migrations that are missing, all or none, and answers how many. Nodes that start at once wait for
    /// each other; all of them succeed.
    ///
    /// # Errors
    /// [`SqlError::Newer`], [`SqlError::ChangedMigration`], and whatever keeps the database from doing it.
    pub async fn migrate(&self) -> Result<u32, SqlError> {
        let mut connection = self.connect_directly().await?;
        let mut tx = connection.begin_with(self.dialect.begin_write()).await?;
        self.dialect.lock(&mut tx, Lock::Migrations).await?;
        if self.dialect == Dialect::Postgres {
            // Otherwise the log says each time that the table is there.
            tx.execute("SET LOCAL client_min_messages = warning").await?;
        }
        tx.execute(TABLE).await?;

        let mut applied = BTreeMap::new();
        for row in query("SELECT number, checksum FROM migrations").fetch_all(&mut *tx).await? {
            applied.insert(row.try_get::<i64, _>("number")?, row.try_get::<Vec<u8>, _>("checksum")?);
        }
        let known = MIGRATIONS.last().map_or(0, |migration| migration.number);
        if let Some((&found, _)) = applied.last_key_value()
            && found > known
        {
            return Err(SqlError::Newer { found, known });
        }

        let mut count = 0;
        for migration in &MIGRATIONS {
            let checksum = migration.checksum();
            match applied.get(&migration.number) {
                Some(before) if *before == checksum => {}
                Some(_) => {
                    return Err(SqlError::ChangedMigration { number: migration.number, name: migration.name });
                }
                None => {
                    tx.execute(migration.sql).await?;
                    let sql = "INSERT INTO migrations (number, name, checksum, applied_at) \
                               VALUES ($1, $2, $3, CAST(CURRENT_TIMESTAMP AS TEXT))";
                    query(sql).bind(migration.number).bind(migration.name).bind(checksum).execute(&mut *tx).await?;
                    count += 1;
                }
            }
        }
        tx.commit().await?;
        connection.close().await?;
        Ok(count)
    }
}

impl Migration {
    fn checksum(&self) -> Vec<u8> {
        digest(&SHA256, self.sql.as_bytes()).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So that a new file isn't forgotten here, and numbers have no gaps.
    #[test]
    fn every_file_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let listed: Vec<String> = MIGRATIONS.iter().map(|m| format!("{:04}_{}.sql", m.number, m.name)).collect();
        assert_eq!(files, listed);
        assert!(MIGRATIONS.iter().zip(1..).all(|(migration, number)| migration.number == number));
    }
}
