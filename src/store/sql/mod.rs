//! Accounts, imports, signing keys, clients, the audit log and the mail outbox in SQL: SQLite or PostgreSQL, through one set of queries.
//! Each entity has a file with its row type and its statements. This file opens the database, and defines the differences between the
//! dialects.
//!
//! PgBouncer in transaction mode may give each transaction another server connection, without the statements that were prepared before.
//! So on PostgreSQL no statement stays prepared, and every query runs in an explicit transaction, in which it is prepared and executed
//! on one server connection. On SQLite the statements of `read_one` stay prepared.

mod account_change;
mod account_life;
mod accounts;
mod audit;
mod clients;
mod consents;
mod copy;
mod dynamic_clients;
mod error;
mod factors;
mod imports;
mod migrate;
mod outbox;
mod passkeys;
mod profiles;
mod rekey;
mod remembered_devices;
mod secondary_emails;
mod session_mark;
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
    account_life::{AddressRecord, SetUsernameError, TakeAddressError},
    accounts::InsertError,
    audit::{AuditFilter, AuditRow},
    consents::{Consent, Permission},
    copy::sqlite_path,
    dynamic_clients::{AllowedClient, StoredDynamicClient},
    error::SqlError,
    factors::{SealedFactor, TotpFactor},
    imports::ImportOutcome,
    outbox::{ClaimedMail, DeliveryResult, OutboxRow, OutboxState, QueueState},
    passkeys::AddPasskeyError,
    remembered_devices::LiveDevices,
    secondary_emails::SecondaryEmail,
};
use crate::{
    config::{DatabaseSettings, store_url},
    domain::{
        audit::{Actor, AddressPrecision},
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
    /// Names the database in messages, without its password.
    label: Arc<str>,
    /// The options of connections outside the pool: of `database.migrate_url`, which leads past a pooler, or else of `database.url`.
    migrate_options: Arc<AnyConnectOptions>,
    /// The time limit for getting a connection.
    acquire_timeout: Duration,
    /// The number of transactions begun, and of queries outside transactions.
    transactions_begun: Arc<AtomicU64>,
    max_connections: u32,
    metrics: DatabaseMetrics,
    /// The actor of changes, for the audit log.
    actor: Actor,
    /// The part of client addresses that the audit log records.
    address_precision: AddressPrecision,
    /// The source of the ids of audit rows, and of workers' claims to mails.
    entropy: Entropy,
    /// Notified when this process has added a mail to the outbox.
    mail_enqueued: Arc<tokio::sync::Notify>,
}

/// The kind and version of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// A SQLite file.
    Sqlite {
        /// The library's version.
        version: String,
    },
    /// A PostgreSQL server.
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

/// A lock for work that one node at a time may do.
#[derive(Clone, Copy)]
enum Lock {
    /// Held while the schema is migrated.
    Migrations,
    /// Held while the first signing key is created.
    FirstKey,
}

impl Sql {
    /// Opens the pool. Creates a missing SQLite file, which only its owner may read. Connects to PostgreSQL only at the first query, which
    /// fails if the server is down.
    ///
    /// # Errors
    /// [`SqlError::Address`], and for SQLite any error of opening the file.
    pub async fn connect(settings: &DatabaseSettings) -> Result<Self, SqlError> {
        sqlx::any::install_default_drivers();
        let dialect = Dialect::from_url(&settings.url)?;
        let options = dialect.options(&settings.url)?;
        let migrate_options = match &settings.migrate_url {
            Some(url) if Dialect::from_url(url)? != dialect => {
                return Err(SqlError::Address("database.migrate_url leads to another kind of database".into()));
            }
            Some(url) => dialect.options(url)?,
            None => options.clone(),
        };
        let label = dialect.label(&settings.url)?.into();
        let acquire_timeout = settings.acquire_timeout;
        if dialect == Dialect::Sqlite {
            let path = sqlite::path(&settings.url)?;
            let creation = sqlite::create(&settings.url, &options, acquire_timeout).await;
            creation.map_err(|error| error.in_file(&path))?;
        }
        let pool = AnyPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(acquire_timeout)
            // A file does not disconnect, and each test is a round trip to the thread of the connection.
            .test_before_acquire(dialect != Dialect::Sqlite)
            .after_connect(move |connection, _| Box::pin(dialect.set_up(connection, acquire_timeout)))
            .after_release(move |connection, _| Box::pin(dialect.is_reusable(connection)))
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            dialect,
            label,
            migrate_options: Arc::new(migrate_options),
            acquire_timeout,
            transactions_begun: Arc::default(),
            max_connections: settings.max_connections,
            metrics: DatabaseMetrics::default(),
            actor: Actor::Service,
            address_precision: AddressPrecision::Full,
            entropy: Entropy::system(),
            mail_enqueued: Arc::default(),
        })
    }

    /// The name of the database in messages: the setting and the address, without the password.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Runs a query that reads no table.
    ///
    /// # Errors
    /// [`SqlError`]. If no connection can be opened, the error says why.
    pub async fn ping(&self) -> Result<(), SqlError> {
        let ping = async {
            let mut tx = self.begin_read().await?;
            query("SELECT 1").execute(&mut *tx).await?;
            Ok(tx.commit().await?)
        };
        match ping.await {
            // The pool retries until its timeout and does not report the reason.
            Err(SqlError::Unavailable(sqlx::Error::PoolTimedOut)) => Err(self.connection_error().await),
            other => other,
        }
    }

    /// The reason why the pool has no connection, from an attempt to open one.
    async fn connection_error(&self) -> SqlError {
        let options = self.pool.connect_options();
        // At most two seconds: the ping has waited for `acquire_timeout` before.
        let timeout = self.acquire_timeout.min(Duration::from_secs(2));
        match tokio::time::timeout(timeout, AnyConnection::connect_with(&options)).await {
            Ok(Err(error)) => error.into(),
            // The database accepts connections, so all those of the pool are in use.
            Ok(Ok(_)) => sqlx::Error::PoolTimedOut.into(),
            Err(_elapsed) => timed_out(NO_ANSWER).into(),
        }
    }

    /// The kind and version of the database.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn describe(&self) -> Result<DatabaseKind, SqlError> {
        let mut tx = self.begin_read().await?;
        let sql = match self.dialect {
            Dialect::Sqlite => "SELECT sqlite_version() AS version",
            Dialect::Postgres => "SELECT current_setting('server_version') AS version",
        };
        let version: String = query(sql).fetch_one(&mut *tx).await?.try_get("version")?;
        tx.commit().await?;
        Ok(match self.dialect {
            Dialect::Sqlite => DatabaseKind::Sqlite { version },
            Dialect::Postgres => DatabaseKind::Postgres { version },
        })
    }

    /// The number of transactions begun. A query outside a transaction counts as one.
    pub fn transactions(&self) -> u64 {
        self.transactions_begun.load(Ordering::Relaxed)
    }

    /// The metrics of the connection pool.
    pub fn metrics(&self) -> &DatabaseMetrics {
        &self.metrics
    }

    /// Updates the gauges of the connection pool.
    pub fn update_pool_metrics(&self) {
        let open = usize::try_from(self.pool.size()).unwrap_or(usize::MAX);
        self.metrics.set_pool(open, self.pool.num_idle(), self.max_connections);
    }

    /// Waits until no connection is in use, and closes all connections. Later calls fail with [`SqlError::Unavailable`].
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Begins a read-only transaction.
    async fn begin_read(&self) -> Result<Transaction<'static, Any>, SqlError> {
        self.transactions_begun.fetch_add(1, Ordering::Relaxed);
        Ok(self.metrics.time_begin(self.pool.begin_with(self.dialect.begin_read())).await?)
    }

    /// Runs a frequent query of one row, whose only parameter is `key`. On SQLite the statement stays prepared.
    async fn read_one(&self, sql: &'static str, key: String) -> Result<Option<AnyRow>, SqlError> {
        self.transactions_begun.fetch_add(1, Ordering::Relaxed);
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

    /// Begins a transaction that may write. It is rolled back unless it is committed.
    async fn begin_write(&self) -> Result<Transaction<'static, Any>, SqlError> {
        self.transactions_begun.fetch_add(1, Ordering::Relaxed);
        Ok(self.metrics.time_begin(self.pool.begin_with(self.dialect.begin_write())).await?)
    }

    /// Opens a connection outside the pool, to `database.migrate_url` if it is set.
    async fn connect_directly(&self) -> Result<AnyConnection, SqlError> {
        let connecting = tokio::time::timeout(self.acquire_timeout, AnyConnection::connect_with(&self.migrate_options));
        let mut connection = connecting.await.map_err(|_elapsed| timed_out(NO_ANSWER))??;
        self.dialect.set_up(&mut connection, self.acquire_timeout).await?;
        Ok(connection)
    }
}

impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sql").field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

impl Dialect {
    fn from_url(url: &SecretText) -> Result<Self, SqlError> {
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
                // The URL of a Unix socket may have no host, but the parser requires one.
                let text = store_url::insert_missing_host(url.expose());
                store_url::check_database(&text).map_err(SqlError::Address)?;
                let options: AnyConnectOptions = text.parse()?;
                // Reports an invalid value now rather than at the first query. The result has no other use.
                PgConnectOptions::from_url(&options.database_url)?;
                options
            }
        };
        // sqlx logs a slow statement as a whole: 30 kB for a batch of an import.
        Ok(options.disable_statement_logging())
    }

    /// See [`Sql::label`].
    fn label(self, url: &SecretText) -> Result<String, SqlError> {
        Ok(match self {
            Self::Sqlite => format!("database.url, {}", sqlite::path(url)?.display()),
            Self::Postgres => {
                let options: PgConnectOptions = store_url::insert_missing_host(url.expose()).parse()?;
                let location = match options.get_socket() {
                    Some(folder) => folder.display().to_string(),
                    None => format!("{}:{}", options.get_host(), options.get_port()),
                };
                format!("database.url, {location}/{}", options.get_database().unwrap_or_default())
            }
        })
    }

    /// Applies the settings of a new connection. SQLite waits at most `acquire_timeout` for a lock.
    async fn set_up(self, connection: &mut AnyConnection, acquire_timeout: Duration) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite => connection.execute(sqlite::connection_pragmas(acquire_timeout)).await.map(drop),
            Self::Postgres => Ok(()),
        }
    }

    /// Whether a connection may be reused. When the disk is full, SQLite rolls a transaction back by itself
    /// (<https://www.sqlite.org/lang_transaction.html>). sqlx's own rollback then fails, and for sqlx the connection stays in a transaction
    /// forever.
    async fn is_reusable(self, connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
        match self {
            Self::Sqlite => {
                if connection.is_in_transaction() {
                    // Waits for the rollback of a dropped transaction, which precedes the ping.
                    connection.ping().await?;
                }
                Ok(!connection.is_in_transaction())
            }
            Self::Postgres => Ok(true),
        }
    }

    /// The statement that begins a read-only transaction.
    const fn begin_read(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN",
            Self::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
        }
    }

    /// The statement that begins a transaction that may write. A SQLite transaction takes the write lock at its beginning: a transaction
    /// that reads first and writes later fails without waiting if another one has written in between.
    const fn begin_write(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }

    /// Holds `lock` until the transaction ends. On SQLite a write transaction is exclusive anyway.
    async fn lock(self, tx: &mut Transaction<'_, Any>, lock: Lock) -> Result<(), sqlx::Error> {
        if self == Self::Postgres {
            query("SELECT pg_advisory_xact_lock($1)").bind(lock.number()).execute(&mut **tx).await?;
        }
        Ok(())
    }
}

impl Lock {
    /// The number of the advisory lock. It is unlikely to collide with the locks of other programs that use the same database.
    const fn number(self) -> i64 {
        match self {
            Self::Migrations => i64::from_be_bytes(*b"lk:migra"),
            Self::FirstKey => i64::from_be_bytes(*b"lk:keys1"),
        }
    }
}

const NO_ANSWER: &str = "the server does not answer in time (database.acquire_timeout)";

/// The error of a time-out outside the pool. The database counts as unavailable.
fn timed_out(reason: &'static str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, reason))
}

/// A query whose statement does not stay prepared.
fn query(sql: impl SqlSafeStr) -> Query<'static, Any, AnyArguments> {
    sqlx::query(sql).persistent(false)
}
