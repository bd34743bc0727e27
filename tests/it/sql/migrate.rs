//! Schema migrations: each is applied once, also by concurrent nodes, and a newer database is refused unless its changes only add.

use aws_lc_rs::digest::{SHA256, digest};
use latchkey::{
    config::DatabaseSettings,
    domain::{
        account::{ClaimsVersion, Email, Epoch, Identifier},
        clock::Timestamp,
        ids::AccountId,
        profile::Profile,
    },
    store::sql::{Sql, SqlError},
};
use sqlx::{AnyConnection, Connection};
use tokio::task::JoinSet;

use super::{Backend, LATER, NOW, new_account, new_id, on_every_backend};
use crate::harness::postgres;

/// The number of migrations: the files without a dialect in their names.
fn migrations() -> u32 {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    u32::try_from(names.filter(|name| name.matches('.').count() == 1).count()).unwrap()
}

#[tokio::test]
async fn migrate_applies_each_migration_once() {
    on_every_backend(async |backend| {
        let sql = backend.connect().await;
        assert_eq!(sql.migrate().await.unwrap(), migrations());
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
            // one node applies all migrations, and the others find nothing to do
            assert_eq!(applied, [0, 0, 0, 0, 0, 0, 0, migrations()]);
        })
        .await;
    }
}

#[tokio::test]
async fn migrate_of_newer_database_is_refused() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        backend.execute_sql(&record_later_migration(99, "NULL")).await;
        let error = sql.migrate().await.unwrap_err();
        assert!(matches!(error, SqlError::Newer { found: 99, .. }), "{error}");
        assert!(matches!(sql.missing_migrations().await, Err(SqlError::Newer { found: 99, .. })));
    })
    .await;
}

/// The statement that records a migration of a later release. `requires` is the number of the last migration that a release must know to
/// use the database. NULL means that it must know this migration.
fn record_later_migration(number: i64, requires: &str) -> String {
    format!(
        "INSERT INTO migrations (number, name, checksum, applied_at, requires) \
         SELECT {number}, 'later', checksum, 'later', {requires} FROM migrations WHERE number = 1"
    )
}

#[tokio::test]
async fn database_of_newer_release_with_additive_migrations_only_is_used() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        backend.execute_sql(&record_later_migration(98, "1")).await;
        let last_known = "(SELECT MAX(number) FROM migrations WHERE number < 98)";
        backend.execute_sql(&record_later_migration(99, last_known)).await;
        assert_eq!(sql.migrate().await.unwrap(), 0);
        assert_eq!(sql.missing_migrations().await.unwrap(), 0);
        sql.insert_account(&new_account("ann@example.com")).await.unwrap();
        // Every unknown migration must allow this release, and migration 97 does not: it requires itself.
        backend.execute_sql(&record_later_migration(97, "97")).await;
        let error = sql.migrate().await.unwrap_err();
        assert!(matches!(error, SqlError::Newer { found: 99, .. }), "{error}");
    })
    .await;
}

#[tokio::test]
async fn migrate_with_changed_migration_is_refused() {
    on_every_backend(async |backend| {
        let sql = backend.migrated_pool().await;
        let other = "(SELECT checksum FROM migrations WHERE number = 1)";
        backend.execute_sql(&format!("UPDATE migrations SET checksum = {other} WHERE number = 2")).await;
        let error = sql.migrate().await.unwrap_err();
        assert_eq!(error.to_string(), "migration 2 (imports) was changed after it had been applied to this database");
    })
    .await;
}

#[tokio::test]
async fn failed_migration_is_rolled_back() {
    on_every_backend(async |backend| {
        let sql = backend.connect().await;
        // Migration 2 creates a table of this name.
        backend.execute_sql("CREATE TABLE imports (in_the_way BIGINT)").await;
        sql.migrate().await.unwrap_err();
        backend.execute_sql("DROP TABLE imports").await;
        assert_eq!(sql.migrate().await.unwrap(), migrations());
    })
    .await;
}

#[tokio::test]
async fn migrate_uses_migrate_url() {
    let database = postgres::shared().create_database().await;
    let direct = postgres::shared().url(&database);
    // nothing listens at port 1
    let nowhere = super::settings("postgres://postgres@127.0.0.1:1/nowhere");
    let sql = Sql::connect(&DatabaseSettings { migrate_url: Some(direct.as_str().into()), ..nowhere }).await.unwrap();
    assert_eq!(sql.migrate().await.unwrap(), migrations());
}

/// The id of an account, and the statement that stores it as a release did that did not normalize keys.
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
        let sql = backend.migrated_pool().await;
        // No other account has the normalized form of this address.
        let (zoe, insert_zoe) = account_before_normalization("Zoe\u{308}@example.com");
        // The normalized forms of these two addresses are equal.
        let (composed, insert_composed) = account_before_normalization("jos\u{e9}@example.com");
        let (decomposed, insert_decomposed) = account_before_normalization("jose\u{301}@example.com");
        // The address begins with an invisible character, which is not accepted any more.
        let (deceptive, insert_deceptive) = account_before_normalization("\u{200b}ada@example.com");
        for statement in [insert_zoe, insert_composed, insert_decomposed, insert_deceptive] {
            backend.execute_sql(&statement).await;
        }
        // Undoes migration 6, which adds this column. When it is applied again, the keys are normalized.
        backend.execute_sql("ALTER TABLE accounts DROP COLUMN email_verified").await;
        backend.execute_sql("DELETE FROM migrations WHERE number = 6").await;
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

/// The migrations of release 0.1.
const MIGRATIONS_0_1: [&str; 5] = ["accounts", "imports", "signing_keys", "clients", "audit"];

/// Creates the tables of release 0.1, as that release did.
async fn create_as_release_0_1(backend: &Backend) {
    // Opening a pool creates the file of SQLite.
    backend.connect().await.close().await;
    let dialect = if backend.name == "SQLite" { "sqlite" } else { "postgres" };
    let read = |name: &str| std::fs::read_to_string(format!("{}/migrations/{name}", env!("CARGO_MANIFEST_DIR"))).ok();
    let table = "CREATE TABLE migrations (number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, \
                 checksum BYTEA NOT NULL, applied_at TEXT NOT NULL)";
    backend.execute_sql(table).await;
    for (number, name) in (1..).zip(MIGRATIONS_0_1) {
        let for_both = read(&format!("{number:04}_{name}.sql")).unwrap();
        // Only a few migrations have a part for one dialect.
        let for_dialect = read(&format!("{number:04}_{name}.{dialect}.sql")).unwrap_or_default();
        backend.execute_sql(&for_both).await;
        if !for_dialect.is_empty() {
            backend.execute_sql(&for_dialect).await;
        }
        let checksum = digest(&SHA256, format!("{for_both}{for_dialect}").as_bytes());
        let mut connection = AnyConnection::connect(backend.settings.url.expose()).await.unwrap();
        let insert = "INSERT INTO migrations (number, name, checksum, applied_at) VALUES ($1, $2, $3, 'then')";
        let mut tx = connection.begin().await.unwrap();
        let insert = sqlx::query(insert).bind(number).bind(name).bind(checksum.as_ref().to_vec()).persistent(false);
        insert.execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        connection.close().await.unwrap();
    }
}

#[tokio::test]
async fn filled_database_of_release_0_1_is_migrated_without_a_loss() {
    on_every_backend(async |backend| {
        create_as_release_0_1(&backend).await;
        let (ada, eve) = (new_id(), new_id());
        for (id, name, disabled_at) in [(ada, "ada", "NULL"), (eve, "eve", "9")] {
            backend
                .execute_sql(&format!(
                    "INSERT INTO accounts (id, email, email_key, username, username_key, password_hash, roles, \
                     disabled_at, created_at, updated_at, password_changed_at, epoch) VALUES ('{id}', \
                     '{name}@Example.com', '{name}@example.com', '{name}', '{name}', '$argon2id$x', 'admin editor', \
                     {disabled_at}, 1, 2, 3, 7)"
                ))
                .await;
        }
        let sql = backend.connect().await;
        let applied_by_0_1 = u32::try_from(MIGRATIONS_0_1.len()).unwrap();
        assert_eq!(sql.migrate().await.unwrap(), migrations() - applied_by_0_1);
        assert_eq!(backend.connect().await.migrate().await.unwrap(), 0);
        let sql = backend.connect().await;
        for (id, name, disabled_at) in [(ada, "ada", None), (eve, "eve", Some(Timestamp::from_millis(9)))] {
            let account = sql.find_account(&Identifier::parse(&format!("{name}@EXAMPLE.com"))).await.unwrap().unwrap();
            assert_eq!(account.id, id);
            assert_eq!(account.email.as_str(), format!("{name}@Example.com"));
            assert!(!account.email_verified);
            assert_eq!(account.deletion_at, None);
            assert_eq!(account.epoch, Epoch(7));
            assert_eq!(account.claims_version, ClaimsVersion(0));
            assert_eq!(account.roles.to_string(), "admin editor");
            assert_eq!(account.disabled_at, disabled_at);
            let times = [account.created_at, account.updated_at, account.password_changed_at];
            assert_eq!(times.map(Timestamp::as_millis), [1, 2, 3]);
            assert_eq!(account.password_hash.as_ref().unwrap().expose(), "$argon2id$x");
            assert_eq!(sql.profile(id).await.unwrap(), Profile::default());
        }
        // The columns and tables of the later migrations can be used.
        let mut change = sql.change_account(ada).await.unwrap().unwrap();
        change.verify_email(NOW).await.unwrap();
        let profile = Profile { display_name: Some("Ada".to_owned()), ..Profile::default() };
        change.set_profile(&profile).await.unwrap();
        change.set_pending_address(&Email::parse("ada@example.org").unwrap(), NOW, LATER).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(sql.profile(ada).await.unwrap(), profile);
        assert!(sql.pending_address(ada, NOW).await.unwrap().is_some());
        let (offset, limit) = (0, 9);
        assert!(sql.accounts_due_for_deletion(LATER, offset, limit).await.unwrap().is_empty());
    })
    .await;
}
