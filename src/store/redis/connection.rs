//! The connections to Redis: made in the background, watched, and made again when they break.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fred::{
    clients::Pool,
    error::{Error as FredError, ErrorKind},
    interfaces::ClientLike,
    types::{
        Builder, RespVersion,
        config::{Config, ReconnectPolicy},
    },
};

use super::{key::Keys, script::Scripts, watchdog};
use crate::{config::RedisSettings, domain::secret::SecretText};

/// The session store. Cheap to clone; all clones share the connections.
#[derive(Clone)]
pub struct Redis {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) pool: Pool,
    pub(super) scripts: Scripts,
    pub(super) keys: Keys,
    pub(super) event_retention: Duration,
    /// Whether the server knows `XADD … MINID` (6.2); until it is known, no.
    pub(super) has_minid: AtomicBool,
    watchdogs: Vec<tokio::task::AbortHandle>,
}

/// Why Redis didn't do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// `redis.url` can't be used.
    #[error("redis.url: {0}")]
    Url(String),
    /// It can't be reached, doesn't answer in time, or can't take writes at the moment (out of memory, loading, a
    /// read-only replica). Whether a command was carried out is unknown.
    #[error("Redis is unavailable: {0}")]
    Unavailable(FredError),
    /// It answered something that isn't ours: another program's key, a newer release's record.
    #[error("Redis holds something unexpected: {0}")]
    Unexpected(String),
}

impl From<FredError> for RedisError {
    fn from(error: FredError) -> Self {
        // A script of ours that failed by itself; everything else passes, and trying again is right.
        if error.details().contains("latchkey:") || error.details().starts_with("WRONGTYPE") {
            return Self::Unexpected(error.details().to_owned());
        }
        match error.kind() {
            ErrorKind::Parse | ErrorKind::InvalidArgument | ErrorKind::InvalidCommand | ErrorKind::NotFound => {
                Self::Unexpected(error.to_string())
            }
            _ => Self::Unavailable(error),
        }
    }
}

impl From<super::record::RecordError> for RedisError {
    fn from(error: super::record::RecordError) -> Self {
        Self::Unexpected(error.to_string())
    }
}

impl Redis {
    /// Starts to connect, in the background and for as long as it takes: a Redis that is down is an error of the
    /// commands meanwhile, each after at most `redis.command_timeout`. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`RedisError::Url`]
    pub fn connect(url: &SecretText, settings: &RedisSettings) -> Result<Self, RedisError> {
        // fred's errors quote the URL, password and all
        let mut config = Config::from_url(url.expose())
            .map_err(|error| RedisError::Url(format!("is not an address of a Redis ({})", error.kind().to_str())))?;
        config.version = RespVersion::RESP3;
        config.fail_fast = false;
        let pool = Builder::from_config(config)
            .with_performance_config(|performance| performance.default_command_timeout = settings.command_timeout)
            .with_connection_config(|connection| {
                // 1: nothing is sent twice. A command whose fate is unknown is its caller's to repeat, and safe to.
                connection.max_command_attempts = 1;
                connection.connection_timeout = Duration::from_secs(2);
                connection.internal_command_timeout = Duration::from_secs(2);
                connection.reconnect_on_auth_error = true;
                connection.max_command_buffer_len = 10_000;
                connection.tcp.nodelay = Some(true);
            })
            .set_policy(ReconnectPolicy::new_exponential(0, 20, 1000, 2))
            .build_pool(settings.pool_size)
            .map_err(|error| RedisError::Url(error.details().to_owned()))?;
        pool.connect_pool();
        let watchdogs =
            pool.clients().iter().enumerate().map(|(i, client)| watchdog::watch(client.clone(), i == 0)).collect();
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                scripts: Scripts::new(),
                keys: Keys::new(&settings.prefix),
                event_retention: settings.event_retention,
                has_minid: AtomicBool::new(false),
                watchdogs,
            }),
        })
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// [`RedisError::Unavailable`]
    pub async fn ping(&self) -> Result<(), RedisError> {
        Ok(self.inner.pool.next().ping::<()>(None).await?)
    }

    /// Closes the connections. Commands after this fail.
    pub async fn close(&self) {
        for watchdog in &self.inner.watchdogs {
            watchdog.abort();
        }
        if let Err(error) = self.inner.pool.quit().await {
            tracing::debug!(%error, "closing the connections to Redis");
        }
    }

    pub(super) fn trim(&self) -> &'static str {
        if self.inner.has_minid.load(Ordering::Relaxed) { "MINID" } else { "MAXLEN" }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for watchdog in &self.watchdogs {
            watchdog.abort();
        }
    }
}
