//! Schema migrations: applies each file in `migrations/` once, in order.
//!
//! sqlx's own migrator is not used: it holds a session-level lock and uses named prepared statements, and neither works through
//! PgBouncer in transaction mode.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use sqlx::{Any, Connection, Executor, Row, Transaction};

use super::{Dialect, Lock, Sql, SqlError, query, rekey};

struct Migration {
    number: i64,
    name: &'static str,
    sql: &'static str,
    /// Statements that run after `sql` in one dialect only: first those for SQLite, then those for PostgreSQL.
    per_dialect: Option<[&'static str; 2]>,
}

/// Every file in `migrations/`. A released migration never changes; a later migration amends its schema. There is no migration 13.
const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        name: "accounts",
        sql: include_str!("../../../migrations/0001_accounts.sql"),
        per_dialect: None,
    },
    Migration {
        number: 2,
        name: "imports",
        sql: include_str!("../../../migrations/0002_imports.sql"),
        per_dialect: None,
    },
    Migration {
        number: 3,
        name: "signing_keys",
        sql: include_str!("../../../migrations/0003_signing_keys.sql"),
        per_dialect: None,
    },
    Migration {
        number: 4,
        name: "clients",
        sql: include_str!("../../../migrations/0004_clients.sql"),
        per_dialect: None,
    },
    Migration {
        number: 5,
        name: "audit",
        sql: include_str!("../../../migrations/0005_audit.sql"),
        per_dialect: Some([
            include_str!("../../../migrations/0005_audit.sqlite.sql"),
            include_str!("../../../migrations/0005_audit.postgres.sql"),
        ]),
    },
    Migration {
        // Migration 6 also runs code, which normalizes e-mail addresses and usernames.
        number: rekey::MIGRATION,
        name: "names",
        sql: include_str!("../../../migrations/0006_names.sql"),
        per_dialect: None,
    },
    Migration {
        number: 7,
        name: "claims",
        sql: include_str!("../../../migrations/0007_claims.sql"),
        per_dialect: None,
    },
    Migration {
        number: 8,
        name: "account_life",
        sql: include_str!("../../../migrations/0008_account_life.sql"),
        per_dialect: None,
    },
    Migration {
        number: 9,
        name: "mail_outbox",
        sql: include_str!("../../../migrations/0009_mail_outbox.sql"),
        per_dialect: None,
    },
    Migration {
        number: 10,
        name: "factors",
        sql: include_str!("../../../migrations/0010_factors.sql"),
        per_dialect: None,
    },
    Migration {
        number: 11,
        name: "passkeys",
        sql: include_str!("../../../migrations/0011_passkeys.sql"),
        per_dialect: None,
    },
    Migration { number: 12, name: "apps", sql: include_str!("../../../migrations/0012_apps.sql"), per_dialect: None },
    Migration {
        number: 14,
        name: "recovery",
        sql: include_str!("../../../migrations/0014_recovery.sql"),
        per_dialect: None,
    },
    Migration {
        number: 15,
        name: "remembered_devices",
        sql: include_str!("../../../migrations/0015_remembered_devices.sql"),
        per_dialect: None,
    },
    Migration {
        number: 16,
        name: "secondary_emails",
        sql: include_str!("../../../migrations/0016_secondary_emails.sql"),
        per_dialect: None,
    },
    Migration {
        number: 17,
        name: "dynamic_clients",
        sql: include_str!("../../../migrations/0017_dynamic_clients.sql"),
        per_dialect: None,
    },
    Migration {
        number: 18,
        name: "initiate_login",
        sql: include_str!("../../../migrations/0018_initiate_login.sql"),
        per_dialect: None,
    },
    Migration {
        number: 19,
        name: "consent_resources",
        sql: include_str!("../../../migrations/0019_consent_resources.sql"),
        per_dialect: None,
    },
];

/// Migrations that leave the schema usable for older releases, so that a release can be rolled back past them. The first number is the
/// migration, the second the newest migration that an older release must know to use the schema.
///
/// Such a migration adds tables, or columns that are nullable or have a default. It changes nothing that an older release reads or
/// writes. Releases before 0.2 refuse every migration that they don't know.
const ADDITIVE: &[(i64, i64)] = &[(15, 14), (16, 14), (17, 14), (18, 14), (19, 14)];

/// The table of applied migrations, with the SHA-256 of their statements. The time is for information only.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS migrations (\
                     number BIGINT NOT NULL PRIMARY KEY, \
                     name TEXT NOT NULL, \
                     checksum BYTEA NOT NULL, \
                     applied_at TEXT NOT NULL)";

impl Sql {
    /// Applies the missing migrations in one transaction and returns their number. Nodes that start concurrently wait for
    /// each other, and all succeed.
    ///
    /// # Errors
    /// [`SqlError::Newer`], [`SqlError::ChangedMigration`], and errors of the database.
    pub async fn migrate(&self) -> Result<u32, SqlError> {
        let mut connection = self.connect_directly().await?;
        let mut tx = connection.begin_with(self.dialect.begin_write()).await?;
        self.dialect.lock(&mut tx, Lock::Migrations).await?;
        if self.dialect == Dialect::Postgres {
            // Suppresses the notice that the table exists.
            tx.execute("SET LOCAL client_min_messages = warning").await?;
        }
        tx.execute(TABLE).await?;

        let mut applied = BTreeMap::new();
        for row in query("SELECT number, checksum FROM migrations").fetch_all(&mut *tx).await? {
            applied.insert(row.try_get::<i64, _>("number")?, row.try_get::<Vec<u8>, _>("checksum")?);
        }
        refuse_newer(&mut tx, applied.keys().copied()).await?;

        let mut count = 0;
        for migration in MIGRATIONS {
            let checksum = migration.checksum(self.dialect);
            match applied.get(&migration.number) {
                Some(recorded) if *recorded == checksum => {}
                Some(_) => {
                    return Err(SqlError::ChangedMigration { number: migration.number, name: migration.name });
                }
                None => {
                    migration.apply(&mut tx, self.dialect, checksum).await?;
                    count += 1;
                }
            }
        }
        tx.commit().await?;
        connection.close().await?;
        Ok(count)
    }

    /// Counts the migrations that are missing, without applying them.
    ///
    /// # Errors
    /// [`SqlError::Newer`], and errors of the database.
    pub async fn missing_migrations(&self) -> Result<usize, SqlError> {
        let mut tx = self.begin_read().await?;
        let sql = match self.dialect {
            Dialect::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'migrations'",
            Dialect::Postgres => "SELECT 'migrations' WHERE to_regclass('migrations') IS NOT NULL",
        };
        if query(sql).fetch_optional(&mut *tx).await?.is_none() {
            return Ok(MIGRATIONS.len());
        }
        let rows = query("SELECT number FROM migrations").fetch_all(&mut *tx).await?;
        let mut applied = Vec::new();
        for row in rows {
            applied.push(row.try_get::<i64, _>("number")?);
        }
        refuse_newer(&mut tx, applied.iter().copied()).await?;
        tx.commit().await?;
        Ok(MIGRATIONS.iter().filter(|migration| !applied.contains(&migration.number)).count())
    }
}

/// Refuses a database with a migration of a newer release, unless the migration leaves the schema usable for this release.
async fn refuse_newer(tx: &mut Transaction<'_, Any>, applied: impl Iterator<Item = i64>) -> Result<(), SqlError> {
    let known = MIGRATIONS.last().map_or(0, |migration| migration.number);
    let found = applied.max().unwrap_or(0);
    if found <= known {
        return Ok(());
    }
    // A newer database has the column `requires` of migration 14: the second number in `ADDITIVE`, or NULL.
    let sql = "SELECT number FROM migrations WHERE number > $1 AND COALESCE(requires, number) > $1";
    if query(sql).bind(known).fetch_optional(&mut **tx).await?.is_some() {
        return Err(SqlError::Newer { found, known });
    }
    tracing::warn!(
        found,
        known,
        "a newer release has migrated the database in a way that this release can use; nothing to do"
    );
    Ok(())
}

impl Migration {
    /// Applies this migration, and adds it to the table of applied migrations.
    async fn apply(&self, tx: &mut Transaction<'_, Any>, dialect: Dialect, checksum: Vec<u8>) -> Result<(), SqlError> {
        tx.execute(self.sql).await?;
        if let Some(sql) = self.dialect_sql(dialect) {
            tx.execute(sql).await?;
        }
        if self.number == rekey::MIGRATION {
            rekey::recompute_keys(tx).await?;
        }
        let insert = "INSERT INTO migrations (number, name, checksum, applied_at) \
                      VALUES ($1, $2, $3, CAST(CURRENT_TIMESTAMP AS TEXT))";
        query(insert).bind(self.number).bind(self.name).bind(checksum).execute(&mut **tx).await?;
        if let Some((number, requires)) = ADDITIVE.iter().find(|(number, _)| *number == self.number) {
            // A statement of its own: the column `requires` exists only since migration 14.
            let update = "UPDATE migrations SET requires = $2 WHERE number = $1";
            query(update).bind(*number).bind(*requires).execute(&mut **tx).await?;
        }
        Ok(())
    }

    /// The additional statements for a dialect.
    fn dialect_sql(&self, dialect: Dialect) -> Option<&'static str> {
        let [sqlite, postgres] = self.per_dialect?;
        Some(match dialect {
            Dialect::Sqlite => sqlite,
            Dialect::Postgres => postgres,
        })
    }

    /// The SHA-256 of all statements that run in this dialect.
    fn checksum(&self, dialect: Dialect) -> Vec<u8> {
        let text = [self.sql, self.dialect_sql(dialect).unwrap_or_default()].concat();
        digest(&SHA256, text.as_bytes()).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migration_list_matches_the_files_in_rising_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let mut listed = Vec::new();
        for migration in MIGRATIONS {
            let name = format!("{:04}_{}", migration.number, migration.name);
            // in the order of the sorted files
            if migration.per_dialect.is_some() {
                listed.extend([format!("{name}.postgres.sql"), format!("{name}.sql"), format!("{name}.sqlite.sql")]);
            } else {
                listed.push(format!("{name}.sql"));
            }
        }
        assert_eq!(files, listed);
        assert!(MIGRATIONS.is_sorted_by_key(|migration| migration.number));
    }
}
