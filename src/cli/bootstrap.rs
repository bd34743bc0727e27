//! Opens the resources of a command: the database, Redis (the embedded one if no other is configured), the service's state.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::serve::systemd;
use crate::{
    config::Config,
    domain::{audit::Actor, clock::Clock, entropy::Entropy, secret::SecretText},
    logging::LogLimit,
    password::PasswordHasher,
    runtime::Cores,
    state::{AppState, error::StateError},
    store::{
        redis::{
            RedisStores,
            embedded::{EmbeddedError, EmbeddedRedis},
        },
        sql::{Sql, SqlError},
    },
};

/// Pause between attempts to reach the database.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The state of the service, and the embedded Redis if this process started it.
pub struct Services {
    /// The state.
    pub state: Arc<AppState>,
    embedded_redis: Option<EmbeddedRedis>,
}

impl Services {
    /// Opens everything for `latchkey serve`: migrates the database, creates what is missing and starts the embedded Redis.
    /// Waits for a database that is down. Connections to Redis are spread over `cores`.
    ///
    /// # Errors
    /// If a setting can't work, the embedded Redis can't start, or another service uses the data directory.
    pub async fn open(config: Config, cores: &Cores) -> anyhow::Result<Self> {
        // The hasher starts first: while it allocates its memory, huge pages are enabled, and no other part should get them.
        let passwords = PasswordHasher::start(&config.password, Entropy::system())?;
        let sql = open_database(&config).await?;
        let (redis_url, embedded_redis) = redis_url(&config, Sharing::Refuse).await?;
        Self::assemble(config, passwords, sql, redis_url, embedded_redis, cores, OutagePolicy::Wait).await
    }

    /// Opens an existing service for a command, while nodes may be running. Creates no database. The audit log names the
    /// operator as the actor.
    ///
    /// # Errors
    /// If there is no such service, or it can't be reached.
    pub async fn open_existing(config: Config) -> anyhow::Result<Self> {
        let passwords = PasswordHasher::start(&config.password, Entropy::system())?;
        let sql = open_existing_database(&config).await?;
        let (redis_url, embedded_redis) = redis_url(&config, Sharing::Allow).await?;
        let cores = Cores::current_runtime();
        Self::assemble(config, passwords, sql, redis_url, embedded_redis, &cores, OutagePolicy::Fail).await
    }

    async fn assemble(
        config: Config,
        passwords: PasswordHasher,
        sql: Sql,
        redis_url: SecretText,
        embedded_redis: Option<EmbeddedRedis>,
        cores: &Cores,
        outage_policy: OutagePolicy,
    ) -> anyhow::Result<Self> {
        let redis = RedisStores::connect(&redis_url, &config.redis, &config.cache, cores)?;
        // The database is open, but it may go down before the state has been loaded from it.
        let outage = Outage::default();
        let state = loop {
            let entropy = Entropy::system();
            let passwords = passwords.clone();
            match AppState::new(config.clone(), Clock::System, entropy, passwords, sql.clone(), redis.clone()).await {
                Err(StateError::Sql(error)) if error.is_unavailable() && outage_policy == OutagePolicy::Wait => {
                    outage.report_and_pause(&error, sql.label()).await;
                }
                other => break other?,
            }
        };
        Ok(Self { state: Arc::new(state), embedded_redis })
    }

    /// Closes everything. The audit log writes to the database, so it is closed before the database.
    pub async fn close(self) {
        self.state.redis.close().await;
        self.state.audit.close().await;
        self.state.sql.close().await;
        if let Some(redis) = self.embedded_redis {
            redis.stop().await;
        }
    }
}

/// How to handle a database that becomes unreachable after it was opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OutagePolicy {
    /// Wait until it is reachable again: the service starts then.
    Wait,
    /// Fail: a command must not block.
    Fail,
}

/// Opens the database and migrates it; waits while it is unreachable.
///
/// # Errors
/// If the database refuses the connection, or a newer release has migrated it.
async fn open_database(config: &Config) -> anyhow::Result<Sql> {
    let outage = Outage::default();
    let sql = loop {
        match Sql::connect(&config.database).await {
            Err(error) if error.is_unavailable() => outage.report_and_pause(&error, "database.url").await,
            other => break other.context("database.url")?,
        }
    };
    loop {
        match sql.migrate().await {
            Ok(0) => return Ok(sql),
            Ok(migrations) => {
                tracing::info!(migrations, "database migrated to the schema of this release");
                return Ok(sql);
            }
            Err(error) if error.is_unavailable() => {
                outage.report_and_pause(&error, &migration_label(config, &sql)).await;
            }
            Err(error @ SqlError::Newer { .. }) => {
                return Err(error).context("a newer release has migrated the database");
            }
            Err(error) => return Err(error).with_context(|| migration_label(config, &sql)),
        }
    }
}

/// Names the database that migrations use, for messages.
pub(super) fn migration_label(config: &Config, sql: &Sql) -> String {
    match config.database.migrate_url {
        Some(_) => "database.migrate_url (LATCHKEY_DATABASE_MIGRATE_URL)".to_owned(),
        None => sql.label().to_owned(),
    }
}

/// Opens the database of an existing service, without waiting and without migrating it. The audit log names the
/// operator as the actor.
///
/// # Errors
/// If the database is unreachable, has no schema of Latchkey, or lacks migrations of this release.
pub async fn open_existing_database(config: &Config) -> anyhow::Result<Sql> {
    const SETTING: &str = "database.url (LATCHKEY_DATABASE_URL)";
    if let Some(path) = missing_sqlite_file(config)? {
        bail!("there is no database at {}; correct {SETTING}, or run `latchkey migrate` first", path.display());
    }
    let sql = Sql::connect(&config.database).await.context(SETTING)?;
    match sql.missing_migrations().await.context(SETTING)? {
        0 => Ok(sql.acting_as(operator())),
        count => bail!("the database lacks {count} migrations of this release: run `latchkey migrate` first"),
    }
}

/// The path of the SQLite file, or `None` if the database is not SQLite. Also `None` for a path with percent escapes, which
/// only the driver decodes.
fn sqlite_file(config: &Config) -> Option<PathBuf> {
    let url = config.database.url.expose().strip_prefix("sqlite:")?;
    let path = url.split('?').next()?; // without parameters
    if path.contains('%') {
        return None;
    }
    Some(path.trim_start_matches("//").into())
}

/// The path of the SQLite file, if the database is SQLite and the file does not exist.
///
/// # Errors
/// If the folder can't be read.
pub(super) fn missing_sqlite_file(config: &Config) -> anyhow::Result<Option<PathBuf>> {
    let Some(path) = sqlite_file(config) else { return Ok(None) };
    let exists = path.try_exists().with_context(|| {
        format!("the database {} can't be read; run the command as the user of the service", path.display())
    })?;
    Ok((!exists).then_some(path))
}

/// The operator who runs the command, by the user name in the environment.
fn operator() -> Actor {
    // SUDO_USER comes first: under sudo, USER and LOGNAME are root.
    let variables = ["SUDO_USER", "USER", "LOGNAME"];
    let name = variables.into_iter().find_map(|variable| std::env::var(variable).ok());
    Actor::operator(name.as_deref().unwrap_or("unknown"))
}

/// An outage of the database. It is logged at once, and then once a minute.
#[derive(Default)]
struct Outage {
    log_limit: LogLimit,
}

impl Outage {
    async fn report_and_pause(&self, error: &SqlError, label: &str) {
        systemd::notify_waiting(&format!("waiting for the database: {error}"));
        if self.log_limit.record_if_due(Instant::now()) {
            tracing::error!(
                %error,
                "the start waits for the database ({label}), and retries every second: this node serves nothing yet. Check the database and \
                 its address"
            );
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Connects to Redis, and does not open the database. Also returns the embedded Redis if this process
/// had to start it, because no node runs it.
///
/// # Errors
/// If the URL can't be used, or the embedded Redis can't start.
pub async fn connect_redis(config: &Config) -> anyhow::Result<(RedisStores, Option<EmbeddedRedis>)> {
    let (url, embedded_redis) = redis_url(config, Sharing::Allow).await?;
    let redis = RedisStores::connect(&url, &config.redis, &config.cache, &Cores::current_runtime())?;
    Ok((redis, embedded_redis))
}

/// The socket of the embedded Redis, and the server if this process started it.
///
/// # Errors
/// If the embedded Redis can't start.
pub(super) async fn embedded_redis_socket(config: &Config) -> anyhow::Result<(PathBuf, Option<EmbeddedRedis>)> {
    // absolute, because the socket becomes part of a URL
    let folder = std::path::absolute(config.data_dir.join("redis")).context("data_dir")?;
    match EmbeddedRedis::start(&folder).await {
        Ok(redis) => Ok((redis.socket().to_owned(), Some(redis))),
        // a running service has started it
        Err(EmbeddedError::InUse { .. }) => Ok((EmbeddedRedis::socket_in(&folder), None)),
        Err(error) => Err(error.into()),
    }
}

/// How to handle an embedded Redis that another process runs.
#[derive(Clone, Copy)]
enum Sharing {
    /// Fail: a second service must not use the data directory.
    Refuse,
    /// Connect to the running embedded Redis.
    Allow,
}

/// The URL of Redis, and the embedded server if this process started it.
async fn redis_url(config: &Config, sharing: Sharing) -> anyhow::Result<(SecretText, Option<EmbeddedRedis>)> {
    if let Some(url) = &config.redis.url {
        return Ok((url.clone(), None));
    }
    match sharing {
        Sharing::Allow => {
            let (socket, redis) = embedded_redis_socket(config).await?;
            Ok((socket_url(socket), redis))
        }
        Sharing::Refuse => {
            let redis = EmbeddedRedis::start(&config.data_dir.join("redis")).await?;
            Ok((socket_url(redis.socket().to_owned()), Some(redis)))
        }
    }
}

/// The URL of a Unix socket; characters with a meaning in URLs are percent-encoded.
fn socket_url(socket: PathBuf) -> SecretText {
    let path: String = socket
        .to_string_lossy()
        .bytes()
        .map(|byte| match byte {
            b'/' | b'.' | b'-' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    SecretText::from(format!("redis+unix://{path}"))
}
