//! Tests of the SQL store. Each test runs on SQLite, on Postgres, and on Postgres behind PgBouncer.

mod account_change;
mod accounts;
mod clients;
mod concurrency;
mod connection;
mod dynamic_clients;
mod imports;
mod migrate;
mod secondary_emails;
mod signing_keys;

use std::time::Duration;

use latchkey::{
    config::DatabaseSettings,
    domain::{
        account::{Email, NewAccount, Roles, Username},
        clock::Timestamp,
        entropy::Entropy,
        ids::AccountId,
        secret::PasswordHash,
    },
    store::sql::Sql,
};
use tempfile::TempDir;

use crate::harness::{database, pgbouncer, postgres};

/// An empty database, and how it is reached.
pub struct Backend {
    /// The name for the output of the tests.
    pub name: &'static str,
    pub settings: DatabaseSettings,
    /// The folder of an SQLite database, which is deleted with this value.
    _folder: Option<TempDir>,
}

impl Backend {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("latchkey.db").display());
        Self { name: "SQLite", settings: settings(&url), _folder: Some(folder) }
    }

    async fn postgres() -> Self {
        let server = postgres::shared();
        let database = server.create_database().await;
        Self { name: "Postgres", settings: settings(&server.url(&database)), _folder: None }
    }

    async fn pgbouncer() -> Self {
        let database = postgres::shared().create_database().await;
        let url = pgbouncer::shared().url(&database);
        Self { name: "Postgres behind PgBouncer", settings: settings(&url), _folder: None }
    }

    /// Opens a connection pool, without migrations.
    pub async fn connect(&self) -> Sql {
        Sql::connect(&self.settings).await.unwrap()
    }

    /// Opens a connection pool and applies the migrations that are missing.
    pub async fn migrated_pool(&self) -> Sql {
        let sql = self.connect().await;
        sql.migrate().await.unwrap();
        sql
    }

    /// Executes statements on a separate connection.
    pub async fn execute_sql(&self, statements: &str) {
        database::execute_sql(self.settings.url.expose(), statements).await;
    }
}

/// Runs a test on an empty database of each kind: SQLite, Postgres, and Postgres behind PgBouncer.
pub async fn on_every_backend(test: impl AsyncFn(Backend)) {
    for backend in [Backend::sqlite(), Backend::postgres().await, Backend::pgbouncer().await] {
        // The output of a failed test shows the kind.
        println!("on {}:", backend.name);
        test(backend).await;
    }
}

pub fn settings(url: &str) -> DatabaseSettings {
    DatabaseSettings {
        url: url.into(),
        migrate_url: None,
        max_connections: 8,
        // Long enough for a busy machine: only a fault reaches it.
        acquire_timeout: Duration::from_secs(60),
    }
}

/// The time of the tests, in September 2026.
pub const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
/// A minute after [`NOW`].
pub const LATER: Timestamp = Timestamp::from_millis(1_790_000_000_000 + 60_000);

pub fn new_id() -> AccountId {
    Entropy::system().account_id(NOW)
}

/// An account with an address and default values.
pub fn new_account(email: &str) -> NewAccount {
    NewAccount {
        id: new_id(),
        email: Email::parse(email).unwrap(),
        email_verified: false,
        username: None,
        password_hash: Some(hash("first")),
        roles: Roles::default(),
        disabled_at: None,
        created_at: NOW,
        updated_at: NOW,
    }
}

pub fn with_username(email: &str, username: &str) -> NewAccount {
    NewAccount { username: Some(Username::parse(username).unwrap()), ..new_account(email) }
}

/// A hash that no password matches. `text` distinguishes it from others.
pub fn hash(text: &str) -> PasswordHash {
    PasswordHash::new(format!("$argon2id${text}"))
}
