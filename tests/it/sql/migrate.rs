//! Schema migrations: applied once, concurrently safe, never backwards.

use latchkey::{
    config::DatabaseSettings,
    domain::{account::Identifier, ids::AccountId},
    store::sql::{Sql, SqlError},
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use tokio::task::JoinSet;

use super::{Backend, new_account, new_id, on_every_backend};
use crate::harness::postgres;

/// The number of migrations.
fn files() -> u32 {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    u32::try_from(names.filter(|name| name.matches('.').count() == 1).count()).unwrap()
}

/// Executes a statement on a separate connection.
pub(super) async fn meddle(backend: &Backend, sql: &str) {
    let mut connection = AnyConnection::connect(backend.settings.url.expose()).await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn migrate_applies_each_migration_once() {
    on_every_backend(async |backend| {
        let sql = backend.connect().await;
        assert_eq!(sql.migrate().await.unwrap(), files());
        let account = sql.insert_account(&new_account("ann@example.com")).await.unwrap();
        assert_eq!(sql.migrate().await.unwrap(), 0);
        assert_eq!(backend.connect().await.migrate().await.unwrap(), 0);
        assert_eq!(sql.account(account.id).await.unwrap(), Some(account));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_migrations_all_succeed() {
    for _ in 0..3 {
        on_every_backend(async |backend| {
            let mut nodes = JoinSet::new();
            for _ in 0..8 {
                let settings = backend.settings.clone();
                nodes.spawn(async move { Sql::connect(&settings).await.unwrap().migrate().await.unwrap() });
            }
            let mut applied = nodes.join_all().await;
            applied.sort_unstable();
            assert_eq!(applied, [0, 0, 0, 0, 0, 0, 0, files()]);
        })
        .await;
    }
}

#[tokio::test]
async fn migrate_of_newer_database_is_refused() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        meddle(&backend, &later(99, "NULL")).await;
        let error = sql.migrate().await.unwrap_err();
        assert!(matches!(error, SqlError::Newer { found: 99, .. }), "{error}");
        assert!(matches!(sql.missing_migrations().await, Err(SqlError::Newer { found: 99, .. })));
    })
    .await;
}

/// The row of a migration of a later release, with the migration that it requires.
fn later(number: i64, requires: &str) -> String {
    format!(
        "INSERT INTO migrations (number, name, checksum, applied_at, requires) \
         SELECT {number}, 'later', checksum, 'later', {requires} FROM migrations WHERE number = 1"
    )
}

#[tokio::test]
async fn database_of_newer_release_with_additive_migrations_only_is_used() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        meddle(&backend, &later(98, "1")).await;
        meddle(&backend, &later(99, "(SELECT MAX(number) FROM migrations WHERE number < 98)")).await;
        assert_eq!(sql.migrate().await.unwrap(), 0);
        assert_eq!(sql.missing_migrations().await.unwrap(), 0);
        sql.insert_account(&new_account("ann@example.com")).await.unwrap();
        // Of several unknown migrations, each must allow this release.
        meddle(&backend, &later(97, "97")).await;
        let error = sql.migrate().await.unwrap_err();
        assert!(matches!(error, SqlError::Newer { found: 99, .. }), "{error}");
    })
    .await;
}

#[tokio::test]
async fn migrate_with_changed_migration_is_refused() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        let other = "(SELECT checksum FROM migrations WHERE number = 1)";
        meddle(&backend, &format!("UPDATE migrations SET checksum = {other} WHERE number = 2")).await;
        let error = sql.migrate().await.unwrap_err();
        assert_eq!(error.to_string(), "migration 2 (imports) was changed after it had been applied to this database");
    })
    .await;
}

#[tokio::test]
async fn failed_migration_leaves_no_trace() {
    on_every_backend(async |backend| {
        let sql = backend.connect().await;
        meddle(&backend, "CREATE TABLE imports (in_the_way BIGINT)").await;
        sql.migrate().await.unwrap_err();
        meddle(&backend, "DROP TABLE imports").await;
        assert_eq!(sql.migrate().await.unwrap(), files());
    })
    .await;
}

#[tokio::test]
async fn migrate_uses_migrate_url() {
    let database = postgres::shared().create_database().await;
    let direct = postgres::shared().url(&database);
    let nowhere = super::settings("postgres://postgres@127.0.0.1:1/nowhere");
    let sql = Sql::connect(&DatabaseSettings { migrate_url: Some(direct.as_str().into()), ..nowhere }).await.unwrap();
    assert_eq!(sql.migrate().await.unwrap(), files());
}

/// An account of a release whose keys were not normalized, and the statement that stores it as that release did.
fn account_before_normalization(email: &str) -> (AccountId, String) {
    let id = new_id();
    let key = email.to_lowercase();
    let sql = format!(
        "INSERT INTO accounts (id, email, email_key, password_hash, roles, created_at, updated_at, password_changed_at, \
         epoch) VALUES ('{id}', '{email}', '{key}', '$argon2id$x', '', 1, 1, 1, 0)"
    );
    (id, sql)
}

#[tokio::test]
async fn names_are_normalized_by_migration_and_duplicates_stay_usable() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        let (zoe, insert_zoe) = account_before_normalization("Zoe\u{308}@example.com");
        let (composed, insert_composed) = account_before_normalization("jos\u{e9}@example.com");
        let (decomposed, insert_decomposed) = account_before_normalization("jose\u{301}@example.com");
        let (deceptive, insert_deceptive) = account_before_normalization("\u{200b}ada@example.com");
        for statement in [insert_zoe, insert_composed, insert_decomposed, insert_deceptive] {
            meddle(&backend, &statement).await;
        }
        meddle(&backend, "ALTER TABLE accounts DROP COLUMN email_verified").await;
        meddle(&backend, "DELETE FROM migrations WHERE number = 6").await;
        assert_eq!(sql.migrate().await.unwrap(), 1);
        let sql = backend.connect().await;
        for (typed, expected) in [
            ("zo\u{eb}@example.com", zoe),
            ("zoe\u{308}@example.com", zoe),
            ("jos\u{e9}@example.com", composed),
            ("jose\u{301}@example.com", decomposed),
            ("\u{200b}ada@example.com", deceptive),
        ] {
            let found = sql.find_account(&Identifier::parse(typed)).await.unwrap();
            assert_eq!(found.map(|account| account.id), Some(expected), "{typed:?}");
        }
    })
    .await;
}
