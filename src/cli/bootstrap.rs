//! Opens what a command works with: the database, Redis (the private one if no other is configured), the service's parts.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;

use crate::{
    config::Config,
    domain::{audit::Actor, clock::Clock, entropy::Entropy, secret::SecretText},
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

/// The parts, and the private Redis if this process runs it.
pub struct Services {
    /// The parts.
    pub state: Arc<AppState>,
    private_redis: Option<EmbeddedRedis>,
}

/// What becomes of a private Redis that another process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivateRedis {
    /// It has to be this process's own.
    Own,
    /// It may be that of a service which is running.
    Shared,
}

impl Services {
    /// Opens everything, the connections to Redis on these cores. A database that is down is waited for; so is Redis, by the
    /// commands it is needed for.
    ///
    /// # Errors
    /// If something is configured wrong, can't be started, or is as it never should be.
    pub async fn open(config: Config, private: PrivateRedis, cores: &Cores) -> anyhow::Result<Self> {
        let entropy = Entropy::system();
        // first: what others make meanwhile would be in huge pages too
        let passwords = PasswordHasher::start(&config.password, entropy.clone())?;
        let (url, private_redis) = redis(&config, private).await?;
        let redis = RedisStores::connect(&url, &config.redis, &config.cache, cores)?;
        let sql = match private {
            PrivateRedis::Own => database(&config).await?,
            PrivateRedis::Shared => operators_database(&config).await?,
        };
        let state = loop {
            let (entropy, passwords) = (entropy.clone(), passwords.clone());
            match AppState::new(config.clone(), Clock::System, entropy, passwords, sql.clone(), redis.clone()).await {
                Err(StateError::Sql(error)) if error.is_unavailable() => wait_for("the database", &error).await,
                other => break other?,
            }
        };
        Ok(Self { state: Arc::new(state), private_redis })
    }

    /// Closes everything, the private Redis last.
    pub async fn close(self) {
        self.state.redis.close().await;
        self.state.audit.close().await;
        self.state.sql.close().await;
        if let Some(redis) = self.private_redis {
            redis.stop().await;
        }
    }
}

/// The database with its schema up to date, waited for as long as it takes.
///
/// # Errors
/// If it can't be used as it is.
pub async fn database(config: &Config) -> anyhow::Result<Sql> {
    let sql = loop {
        match Sql::connect(&config.database).await {
            Err(error) if error.is_unavailable() => wait_for("the database", &error).await,
            other => break other.context("database.url")?,
        }
    };
    loop {
        match sql.migrate().await {
            Ok(0) => return Ok(sql),
            Ok(count) => {
                tracing::info!(count, "the database was brought up to date");
                return Ok(sql);
            }
            Err(error) if error.is_unavailable() => wait_for("the database", &error).await,
            Err(error @ SqlError::Newer { .. }) => return Err(error).context("a newer release was here"),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The same, for what an operator does at the command line: the audit log says who.
///
/// # Errors
/// If it can't be used as it is.
pub async fn operators_database(config: &Config) -> anyhow::Result<Sql> {
    let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    Ok(database(config).await?.acting_as(Actor::operator(name.as_deref().unwrap_or("unknown"))))
}

async fn wait_for(what: &str, error: &dyn std::fmt::Display) {
    tracing::error!(%error, "{what} can't be reached; trying again until it can");
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// Redis alone, and the private one if this process has to run it: for commands that can't do with the rest, such as those
/// that mend it.
///
/// # Errors
/// If it is configured wrong or can't be started.
pub async fn redis_alone(config: &Config) -> anyhow::Result<(RedisStores, Option<EmbeddedRedis>)> {
    let (url, private_redis) = redis(config, PrivateRedis::Shared).await?;
    Ok((RedisStores::connect(&url, &config.redis, &config.cache, &Cores::current_runtime())?, private_redis))
}

/// Where Redis is, and the private one if this process has started it.
async fn redis(config: &Config, private: PrivateRedis) -> anyhow::Result<(SecretText, Option<EmbeddedRedis>)> {
    if let Some(url) = &config.redis.url {
        return Ok((url.clone(), None));
    }
    let folder = std::path::absolute(config.data_dir.join("redis")).context("data_dir")?;
    match EmbeddedRedis::start(&folder).await {
        Ok(redis) => Ok((socket_url(redis.socket().to_owned()), Some(redis))),
        Err(EmbeddedError::InUse { .. }) if private == PrivateRedis::Shared => {
            Ok((socket_url(folder.join("redis.sock")), None))
        }
        Err(error) => Err(error.into()),
    }
}

fn socket_url(socket: PathBuf) -> SecretText {
    // A folder's name may hold what means something in a URL.
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
