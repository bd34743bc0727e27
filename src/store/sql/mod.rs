//! Accounts, imports, signing keys and service clients in SQL: SQLite or Postgres, through one set of queries. One file per noun, SQL
//! beside the row it reads; this file opens the database and is the only place that knows the dialects apart.
//!
//! On Postgres every query runs inside an explicit transaction and is never kept as a prepared statement. Both are for
//! PgBouncer in transaction mode: it hands out a server connection per transaction, and what one of them has prepared the
//! next doesn't know. A connection of SQLite is nobody else's: there, what every sign-in asks stays prepared.

mod account_change;
mod accounts;
mod audit;
mod clients;
mod error;
mod imports;
mod migrate;
mod rekey;
mod signing_keys;
mod sqlite;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Any, AnyConnection, AnyPool, ConnectOptions, Connection, Executor, Row, SqlSafeStr, Transaction,
    any::{AnyArguments, AnyConnectOptions, AnyPoolOptions, AnyRow},
    postgres::PgConnectOptions,
    query::Query,
};

pub use self::{
    account_change::{AccountChange, SetEmailError},
    accounts::InsertError,
    audit::{AuditFilter, AuditRow},
    error::SqlError,
    imports::ImportOutcome,
};
use crate::{
    config::DatabaseSettings,
    domain::{
        audit::{Actor, Addresses},
        entropy::Entropy,
        secret::SecretText,
    },
    metrics::DatabaseMetrics,
};

/// The database. Clones share one pool of connections.
#[derive(Clone)]
pub struct Sql {
    pool: AnyPool,
    dialect: Dialect,
    /// Where migrations run: past a pooler, if one is configured.
    direct: Arc<AnyConnectOptions>,
    /// How long to wait for a connection.
    patience: Duration,
    begun: Arc<AtomicU64>,
    max_connections: u32,
    metrics: DatabaseMetrics,
    /// Whose changes these are, for the audit log.
    actor: Actor,
    addresses: Addresses,
    /// For the ids of the audit log's rows.
    entropy: Entropy,
}

/// What database this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Description {
    /// A file of our own.
    Sqlite {
        /// The library's version.
        version: String,
    },
    /// A server.
    Postgres {
        /// The server's version, such as `15.8 (Debian 15.8-0+deb12u1)`.
        version: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Sqlite,
    Postgres,
}

/// What must not be done by two nodes at once.
#[derive(Clone, Copy)]
enum Lock {
    Migrations,
    FirstKey,
}

impl Sql {
    /// Opens the pool. A SQLite file is made if it isn't there, for its owner's eyes only. On Postgres nothing is
    /// connected yet: that it is down is an error of the first query, not of this.
    ///
    /// # Errors
    /// [`SqlError::Address`], and for SQLite whatever keeps the file from being opened.
    pub async fn connect(settings: &DatabaseSettings) -> Result<Self, SqlError> {
        sqlx::any::install_default_drivers();
        let dialect = Dialect::of(&settings.url)?;
        let options = dialect.options(&settings.url)?;
        let direct = match &settings.migrate_url {
            Some(url) if Dialect::of(url)? != dialect => {
                return Err(SqlError::Address("the one for migrations leads to another kind of database".into()));
            }
            Some(url) => dialect.options(url)?,
            None => options.clone(),
        };
        let patience = settings.acquire_timeout;
        if dialect == Dialect::Sqlite {
            sqlite::create(&settings.url, &options, patience).await?;
        }
        let pool = AnyPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(patience)
            // a file doesn't hang up, and each question to its thread is a wait
            .test_before_acquire(dialect != Dialect::Sqlite)
            .after_connect(move |connection, _| Box::pin(dialect.greet(connection, patience)))
            .after_release(move |connection, _| Box::pin(dialect.is_sound(connection)))
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            dialect,
            direct: Arc::new(direct),
            patience,
            begun: Arc::default(),
            max_connections: settings.max_connections,
            metrics: DatabaseMetrics::default(),
            actor: Actor::Service,
            addresses: Addresses::Full,
            entropy: Entropy::system(),
        })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// Whatever keeps it from answering.
    pub async fn ping(&self) -> Result<(), SqlError> {
        let mut tx = self.begin_read().await?;
        query("SELECT 1").execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// What database this is: its kind and its version.
    ///
    /// # Errors
    /// Whatever keeps it from answering.
    pub async fn describe(&self) -> Result<Description, SqlError> {
        let mut tx = self.begin_read().await?;
        let sql = match self.dialect {
            Dialect::Sqlite => "SELECT sqlite_version() AS version",
            Dialect::Postgres => "SELECT current_setting('server_version') AS version",
        };
        let version: String = query(sql).fetch_one(&mut *tx).await?.try_get("version")?;
        tx.commit().await?;
        Ok(match self.dialect {
            Dialect::Sqlite => Description::Sqlite { version },
            Dialect::Postgres => Description::Postgres { version },
        })
    }

    /// How many transactions have begun.
    pub fn transactions(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// The metrics of the connection pool.
    pub fn metrics(&self) -> &DatabaseMetrics {
        &self.metrics
    }

    /// Brings the gauges of the connection pool up to date.
    pub fn update_pool_metrics(&self) {
        let open = usize::try_from(self.pool.size()).unwrap_or(usize::MAX);
        self.metrics.set_pool(open, self.pool.num_idle(), self.max_connections);
    }

    /// Waits for connections in use to come back and closes them all. Calls after that are
    /// [unavailable](SqlError::Unavailable).
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// A transaction that sees one state of the database and changes nothing.
    async fn begin_read(&self) -> Result<Transaction<'static, Any>, SqlError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Ok(self.metrics.time_begin(self.pool.begin_with(self.dialect.begin_read())).await?)
    }

    /// The row that one query finds, if there is one: for what is asked often.
    async fn read_one(&self, sql: &'static str, key: String) -> Result<Option<AnyRow>, SqlError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        if self.dialect == Dialect::Sqlite {
            return Ok(self.metrics.time_lookup(sqlx::query(sql).bind(key).fetch_optional(&self.pool)).await?);
        }
        let lookup = async {
            let mut tx = self.pool.begin_with(self.dialect.begin_read()).await?;
            let row = query(sql).bind(key).fetch_optional(&mut *tx).await?;
            tx.commit().await?;
            Ok(row)
        };
        self.metrics.time_lookup(lookup).await
    }

    /// A transaction that may write, rolled back unless it is committed.
    async fn begin_write(&self) -> Result<Transaction<'static, Any>, SqlError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Ok(self.metrics.time_begin(self.pool.begin_with(self.dialect.begin_write())).await?)
    }

    /// A connection of its own, past the pool and past a pooler.
    async fn connect_directly(&self) -> Result<AnyConnection, SqlError> {
        let connecting = AnyConnection::connect_with(&self.direct);
        let mut connection =
            tokio::time::timeout(self.patience, connecting).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
        self.dialect.greet(&mut connection, self.patience).await?;
        Ok(connection)
    }
}

impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sql").field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

impl Dialect {
    fn of(url: &SecretText) -> Result<Self, SqlError> {
        match url.expose().split_once(':') {
            Some(("sqlite", _)) => Ok(Self::Sqlite),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres),
            _ => Err(SqlError::Address("must start with sqlite:// or postgres://".into())),
        }
    }

    fn options(self, url: &SecretText) -> Result<AnyConnectOptions, SqlError> {
        let options = match self {
            Self::Sqlite => sqlite::options(url)?,
            Self::Postgres => {
                let options: AnyConnectOptions = url.expose().parse()?;
                // Says now what is wrong with it, instead of at the first query.
                PgConnectOptions::from_url(&options.database_url)?;
                options
            }
        };
        // A slow statement would be logged as a whole: 30 kB for a batch of an import.
        Ok(options.disable_statement_logging())
    }

    /// What every new connection is told.
    async fn greet(self, connection: &mut AnyConnection, patience: Duration) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite => connection.execute(sqlite::pragmas(patience)).await.map(drop),
            Self::Postgres => Ok(()),
        }
    }

    /// Whether a connection may be used again. Where SQLite has rolled a transaction back by itself, as it does when the
    /// disk is full (<https://www.sqlite.org/lang_transaction.html>), sqlx's own rollback fails, and it takes the
    /// connection for one in a transaction ever after.
    async fn is_sound(self, connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
        match self {
            Self::Sqlite => {
                if connection.is_in_transaction() {
                    // comes after the rollback of a transaction that was dropped
                    connection.ping().await?;
                }
                Ok(!connection.is_in_transaction())
            }
            Self::Postgres => Ok(true),
        }
    }

    const fn begin_read(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN",
            Self::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
        }
    }

    /// SQLite is told at once that there will be a write: a transaction that begins by reading and then wants to write
    /// is refused, without waiting, if another wrote in between.
    const fn begin_write(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }

    /// Keeps other nodes out of `lock` until the transaction ends. On SQLite a write transaction does that by itself.
    async fn lock(self, tx: &mut Transaction<'_, Any>, lock: Lock) -> Result<(), sqlx::Error> {
        if self == Self::Postgres {
            query("SELECT pg_advisory_xact_lock($1)").bind(lock.number()).execute(&mut **tx).await?;
        }
        Ok(())
    }
}

impl Lock {
    /// Advisory locks share one space of numbers with whatever else uses the database.
    const fn number(self) -> i64 {
        match self {
            Self::Migrations => i64::from_be_bytes(*b"lk:migra"),
            Self::FirstKey => i64::from_be_bytes(*b"lk:keys1"),
        }
    }
}

/// A query that is prepared for this once.
fn query(sql: impl SqlSafeStr) -> Query<'static, Any, AnyArguments> {
    sqlx::query(sql).persistent(false)
}
