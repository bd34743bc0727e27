//! Migrations: once, together, and never backwards.

use latchkey::{
    config::DatabaseSettings,
    store::sql::{Sql, SqlError},
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use tokio::task::JoinSet;

use super::{Backend, new_account, on_every_backend};
use crate::harness::postgres;

/// Does something to the database that no release of ours would.
async fn meddle(backend: &Backend, sql: &str) {
    let mut connection = AnyConnection::connect(backend.settings.url.expose()).await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn they_are_applied_once() {
    on_every_backend(async |backend| {
        let sql = backend.connect().await;
        assert_eq!(sql.migrate().await.unwrap(), 5);
        let account = sql.insert_account(&new_account("ann@example.com")).await.unwrap();
        assert_eq!(sql.migrate().await.unwrap(), 0);
        assert_eq!(backend.connect().await.migrate().await.unwrap(), 0);
        assert_eq!(sql.account(account.id).await.unwrap(), Some(account));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_all_succeed() {
    for _ in 0..3 {
        on_every_backend(async |backend| {
            let mut nodes = JoinSet::new();
            for _ in 0..8 {
                let settings = backend.settings.clone();
                nodes.spawn(async move { Sql::connect(&settings).await.unwrap().migrate().await.unwrap() });
            }
            let mut applied = nodes.join_all().await;
            applied.sort_unstable();
            assert_eq!(applied, [0, 0, 0, 0, 0, 0, 0, 5]);
        })
        .await;
    }
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    on_every_backend(async |backend| {
        let sql = backend.node().await;
        meddle(&backend, "INSERT INTO migrations SELECT 99, 'later', checksum, 'later' FROM migrations LIMIT 1").await;
        let error = sql.migrate().await.unwrap_err();
        assert!(matches!(error, SqlError::Newer { found: 99, known: 5 }), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
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
async fn a_migration_that_fails_leaves_nothing_behind() {
    on_every_backend(async |backend| {
        let sql = backend.connect().await;
        meddle(&backend, "CREATE TABLE imports (in_the_way BIGINT)").await;
        sql.migrate().await.unwrap_err();
        meddle(&backend, "DROP TABLE imports").await;
        assert_eq!(sql.migrate().await.unwrap(), 5);
    })
    .await;
}

#[tokio::test]
async fn they_take_the_direct_way_if_there_is_one() {
    let database = postgres::shared().create_database().await;
    let direct = postgres::shared().url(&database);
    let nowhere = super::settings("postgres://postgres@127.0.0.1:1/nowhere");
    let sql = Sql::connect(&DatabaseSettings { migrate_url: Some(direct.as_str().into()), ..nowhere }).await.unwrap();
    assert_eq!(sql.migrate().await.unwrap(), 5);
}
