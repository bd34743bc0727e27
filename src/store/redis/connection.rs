//! The connections to Redis: made in the background, watched, and made again when they break.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use fred::{
    bytes::Bytes,
    clients::{Client, Pool},
    error::{Error as FredError, ErrorKind},
    interfaces::{ClientLike, EventInterface},
    types::{
        Builder, RespVersion,
        config::{ClusterDiscoveryPolicy, Config, ReconnectPolicy, ServerConfig},
    },
};

use super::{
    batch,
    key::Keys,
    revocation_log::{Acknowledgements, SessionCache},
    script::Scripts,
    sessions, watchdog,
};
use crate::{
    config::{CacheSettings, RedisSettings},
    domain::secret::SecretText,
    metrics::{RedisMetrics, Timed},
    runtime::{self, Cores},
};

/// The session store. Cheap to clone; all clones share the connections.
#[derive(Clone)]
pub struct Redis {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) pool: Pool,
    pub(super) scripts: Scripts,
    pub(super) metrics: RedisMetrics,
    /// What is counted of sessions that are looked up.
    pub(super) look_ups: Timed,
    pub(super) keys: Keys,
    pub(super) event_retention: Duration,
    /// What scripts are told of how events are kept, without and with `has_minid`.
    pub(super) events_kept: [Bytes; 2],
    /// Whether the server knows `XADD … MINID` (6.2); until it is known, no.
    pub(super) has_minid: AtomicBool,
    /// Whether keys of several buckets can't be used in one script.
    pub(super) apart: AtomicBool,
    /// Where revocations are published.
    pub(super) channel: String,
    /// Listens to revocations, once [`Redis::start_replication`] is called.
    pub(super) listener: Client,
    pub(super) session_cache: Arc<SessionCache>,
    pub(super) acknowledgements: Arc<Acknowledgements>,
    pub(super) max_staleness: Duration,
    pub(super) replication: Mutex<Vec<tokio::task::AbortHandle>>,
    watchdogs: Vec<tokio::task::AbortHandle>,
    cause: watchdog::Cause,
}

/// What `redis.url` may begin with: fred takes anything else for `redis`.
const SCHEMES: [&str; 7] =
    ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel", "redis+unix"];

/// How many published revocations may wait to be heard.
const MESSAGES: usize = 2048;

/// How long to wait before a connection that was given up is made anew.
const AGAIN: Duration = Duration::from_millis(20);

/// Why Redis didn't do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
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
        let details = error.details();
        let ours = ["latchkey:", "data string too short"];
        if ours.iter().any(|mark| details.contains(mark)) || details.starts_with("WRONGTYPE") {
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
    /// commands meanwhile, each after at most `redis.command_timeout`. The connections are spread over the cores. Must be
    /// called in a tokio runtime.
    ///
    /// # Errors
    /// [`RedisError::Url`]
    pub fn connect(
        url: &SecretText,
        settings: &RedisSettings,
        cache: &CacheSettings,
        cores: &Cores,
    ) -> Result<Self, RedisError> {
        let scheme = url.expose().split_once("://").map_or("", |(scheme, _)| scheme);
        if !SCHEMES.iter().any(|known| scheme == *known || scheme.replacen("valkey", "redis", 1) == *known) {
            return Err(RedisError::Url(format!("must begin with one of {}://", SCHEMES.join("://, "))));
        }
        // fred's errors quote the URL, password and all
        let mut config = Config::from_url(url.expose())
            .map_err(|error| RedisError::Url(format!("is not an address of a Redis ({})", error.kind().to_str())))?;
        config.version = RespVersion::RESP3;
        config.fail_fast = false;
        // Otherwise a client whose configured address is that of a node which is gone never finds the others again.
        if let ServerConfig::Clustered { policy, .. } = &mut config.server {
            *policy = ClusterDiscoveryPolicy::UseCache;
        }
        let is_cluster = config.server.is_clustered();
        let keys = Keys::new(&settings.prefix);
        let channel = keys.channel(config.database.unwrap_or(0));
        let mut builder = Builder::from_config(config);
        builder
            .with_performance_config(|performance| {
                performance.default_command_timeout = settings.command_timeout;
            })
            .with_connection_config(|connection| {
                // 1: nothing is sent twice. A command whose fate is unknown is its caller's to repeat, and safe to.
                connection.max_command_attempts = 1;
                connection.connection_timeout = Duration::from_secs(2);
                connection.internal_command_timeout = Duration::from_secs(2);
                connection.reconnect_on_auth_error = true;
                connection.max_command_buffer_len = 10_000;
                connection.tcp.nodelay = Some(true);
            })
            .set_policy(ReconnectPolicy::new_exponential(0, 20, 1000, 2));
        let unusable = |error: FredError| RedisError::Url(error.details().to_owned());
        let pool = builder.build_pool(settings.pool_size).map_err(unusable)?;
        // only the listener: each client has a dozen such channels, whose places are all made at once
        builder.with_performance_config(|performance| performance.broadcast_channel_capacity = MESSAGES);
        let listener = builder.build().map_err(unusable)?;
        let connect = |(number, client): (usize, &Client)| {
            let _entered = cores.enter(number);
            keep_connected(client.clone()).abort_handle()
        };
        let connections: Vec<_> = pool.clients().iter().enumerate().map(connect).collect();
        let cause = watchdog::Cause::default();
        let watch = |(i, client): (usize, &Client)| watchdog::watch(client.clone(), i == 0, Arc::clone(&cause));
        let watchdogs = pool.clients().iter().enumerate().map(watch).chain(connections).collect();
        let acknowledgements = Arc::new(Acknowledgements::new(listener.id().to_string()));
        let metrics = RedisMetrics::default();
        let most = if cache.max_staleness.is_zero() { 0 } else { cache.max_sessions };
        for client in pool.clients().iter().chain([&listener]) {
            let connects = metrics.connects.clone();
            client.on_reconnect(move |_| {
                connects.inc();
                async { Ok(()) }
            });
        }
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                scripts: Scripts::new(&metrics, settings.pool_size),
                look_ups: metrics.timed("look_up"),
                keys,
                event_retention: settings.event_retention,
                events_kept: sessions::events_kept(settings.event_retention, &channel),
                channel,
                has_minid: AtomicBool::new(false),
                apart: batch::apart(is_cluster),
                listener,
                session_cache: Arc::new(SessionCache::new(most, metrics.cache.clone())),
                acknowledgements,
                metrics,
                max_staleness: cache.max_staleness,
                replication: Mutex::new(Vec::new()),
                watchdogs,
                cause,
            }),
        })
    }

    /// What is counted of what it does.
    pub fn metrics(&self) -> &RedisMetrics {
        &self.inner.metrics
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// [`RedisError::Unavailable`]
    pub async fn ping(&self) -> Result<(), RedisError> {
        self.client().ping::<()>(None).await.map_err(|error| self.explain(error))
    }

    /// An error with what is known of why the connection is down: a wrong password, a certificate, nobody there.
    pub(super) fn explain(&self, error: FredError) -> RedisError {
        let cause = self.inner.cause.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match cause {
            Some(cause) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Canceled | ErrorKind::IO) => {
                let details = format!("{} ({cause})", error.details());
                RedisError::Unavailable(FredError::new(error.kind().clone(), details))
            }
            _ => error.into(),
        }
    }

    /// Closes the connections. Commands after this fail.
    pub async fn close(&self) {
        self.inner.abort();
        self.announce_shutdown().await;
        if let Err(error) = self.inner.listener.quit().await {
            tracing::debug!(%error, "closing the connection that listens to Redis");
        }
        if let Err(error) = self.inner.pool.quit().await {
            tracing::debug!(%error, "closing the connections to Redis");
        }
    }

    /// The connection of this thread's core, or any.
    pub(super) fn client(&self) -> &Client {
        let clients = self.inner.pool.clients();
        match runtime::current() {
            Some(core) => &clients[core % clients.len()],
            None => self.inner.pool.next(),
        }
    }
}

/// Connects, and does so again whenever fred has given up: the task that drives a connection ends at errors that it
/// can't repeat its way out of, such as a cluster's ASK where nothing may be sent twice, and without it every command
/// would time out for ever. Until aborted, or until the client is closed.
pub(super) fn keep_connected(client: Client) -> tokio::task::JoinHandle<()> {
    let mut connection = client.connect();
    let keep = async move {
        while let Ok(Err(error)) = connection.await {
            tracing::warn!(%error, "a connection to Redis was given up; connecting anew");
            tokio::time::sleep(AGAIN).await;
            connection = client.connect();
        }
    };
    tokio::spawn(keep)
}

impl Inner {
    /// Ends what runs in the background.
    fn abort(&self) {
        let replication = self.replication.lock().unwrap_or_else(PoisonError::into_inner);
        for task in self.watchdogs.iter().chain(&*replication) {
            task.abort();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.abort();
    }
}
