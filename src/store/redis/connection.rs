//! The pool of connections to Redis. Opens the connections in the background, watches them, and reopens broken ones.

use std::{
    slice,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fred::{
    bytes::Bytes,
    clients::{Client, Pool},
    error::{Error as FredError, ErrorKind},
    interfaces::{ClientLike, EventInterface, PubsubInterface},
    types::{Builder, ClientState, ClusterHash, CustomCommand, RespVersion, Value, config::ReconnectPolicy},
    util::redis_keyslot,
};
use futures_util::future::join_all;
use tokio::{
    task::{AbortHandle, JoinHandle},
    time::timeout,
};

use super::{
    address::{Address, Label},
    failure,
    key::Keys,
    redis_clock::RedisClock,
    script::{self, Scripts},
    watchdog,
};
use crate::{
    config::RedisSettings,
    domain::secret::SecretText,
    logging::LogLimit,
    metrics::RedisMetrics,
    runtime::{self, Cores},
};

/// The pooled connections to one Redis deployment, with the key names, scripts and metrics that all stores share.
pub struct RedisConnection {
    pub(super) pool: Pool,
    pub(super) scripts: Scripts,
    pub(super) metrics: RedisMetrics,
    pub(super) keys: Keys,
    pub(super) event_retention: Duration,
    /// The possible first arguments of a session script, which say how it trims a stream of events: by length while `has_minid` is
    /// false, and by time while it is true.
    pub(super) event_trim_args: [Bytes; 2],
    /// Whether the server supports `XADD … MINID` (Redis 6.2); false until the first health check.
    pub(super) has_minid: AtomicBool,
    /// Whether a script may only use keys of one bucket (a group of accounts, whose keys share a hash slot). True for a Redis Cluster, and
    /// set once a server refuses keys of several slots.
    pub(super) per_slot: AtomicBool,
    /// Whether `redis.url` names a Redis Cluster.
    is_cluster: bool,
    /// Redis' clock.
    pub(super) clock: RedisClock,
    /// The channel on which revocations are published.
    pub(super) channel: String,
    /// The client for subscriptions, connected by the revocation log.
    pub(super) subscriber: Client,
    /// Whether Redis has denied the subscriber's last SUBSCRIBE.
    pub(super) subscribe_denied: AtomicBool,
    /// The name of the server in messages.
    pub(super) label: Label,
    /// Limits the line about connections that ended.
    ended_log: Arc<LogLimit>,
    /// Limits the line about a server that is no master any more.
    demoted_log: LogLimit,
    /// The tasks that connect and watch the pooled connections.
    tasks: Vec<AbortHandle>,
    /// Why the connections are down, if they are.
    outage: Arc<watchdog::Outage>,
    /// When all connections were last replaced.
    last_reconnect: Mutex<Option<Instant>>,
}

/// The maximum number of published messages that wait for the subscriber.
const MESSAGE_CAPACITY: usize = 2048;

/// The minimum interval between replacements of all connections.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// How long replacing a connection may take.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The pause before a client connects again after fred has stopped retrying.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Why a Redis command failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RedisError {
    /// A setting is unusable: `redis.url` or one of the TLS files.
    #[error("{name}: {detail}")]
    Setting {
        /// The key of the setting.
        name: &'static str,
        /// The problem; never the value.
        detail: String,
    },
    /// Redis can't be reached, doesn't answer in time, or can't take writes at the moment (out of memory, loading, a
    /// read-only replica). Whether the command was executed is unknown.
    #[error("Redis is unavailable: {0}")]
    Unavailable(String),
    /// Redis returned data that this release can't read: another program's key, a newer release's record.
    #[error("Redis holds unexpected data: {0}")]
    Unexpected(String),
}

impl RedisError {
    /// Whether Redis has answered, with an error such as `LOADING` or with unexpected data.
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Setting { .. } => false,
            Self::Unavailable(reason) => failure::is_answer(reason),
            Self::Unexpected(_) => true,
        }
    }
}

impl From<FredError> for RedisError {
    fn from(error: FredError) -> Self {
        let details = error.details();
        // Errors that the scripts raise themselves are permanent. `data string too short` is raised by struct.unpack, for damaged data.
        let is_raised_by_script = details.contains("latchkey:") || details.contains("data string too short");
        // a key holds another type of data, such as that of another program
        let is_wrong_type = details.starts_with("WRONGTYPE");
        if is_raised_by_script || is_wrong_type {
            return Self::Unexpected(details.to_owned());
        }
        match error.kind() {
            ErrorKind::Parse | ErrorKind::InvalidArgument | ErrorKind::InvalidCommand | ErrorKind::NotFound => {
                Self::Unexpected(details.to_owned())
            }
            _ => Self::Unavailable(failure::reason(&error)),
        }
    }
}

impl From<super::record::RecordError> for RedisError {
    fn from(error: super::record::RecordError) -> Self {
        Self::Unexpected(error.to_string())
    }
}

impl RedisConnection {
    /// Starts to connect in the background and retries until it succeeds. Until then commands fail after at most
    /// `redis.command_timeout`; those of requests fail at once while the server refuses connections. Connections are spread over the
    /// cores. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`RedisError::Setting`]
    pub(super) fn open(url: &SecretText, settings: &RedisSettings, cores: &Cores) -> Result<Self, RedisError> {
        let Address { mut config, label } = Address::new(url, settings)?;
        config.version = RespVersion::RESP3;
        config.fail_fast = false; // retries the first connection, too
        let is_cluster = config.server.is_clustered();
        let keys = Keys::new(&settings.prefix);
        // all databases of a server share its channels, so the channel's name contains the database
        let channel = keys.channel(config.database.unwrap_or(0));
        let mut builder = Builder::from_config(config);
        builder
            .with_performance_config(|performance| {
                performance.default_command_timeout = settings.command_timeout;
            })
            .with_connection_config(|connection| {
                // One attempt, so that fred sends no command twice. The caller decides whether to repeat a command with an unknown outcome.
                connection.max_command_attempts = 1;
                connection.connection_timeout = Duration::from_secs(2);
                connection.internal_command_timeout = Duration::from_secs(2);
                connection.reconnect_on_auth_error = true;
                // Further commands fail at once (I10: everything is bounded).
                connection.max_command_buffer_len = 10_000;
                connection.tcp.nodelay = Some(true);
            })
            // Unlimited attempts (0). The pauses double from 20 ms to 1000 ms.
            .set_policy(ReconnectPolicy::new_exponential(0, 20, 1000, 2));
        let unusable = |error: FredError| RedisError::Setting { name: "redis.url", detail: error.details().to_owned() };
        let pool = builder.build_pool(settings.pool_size).map_err(unusable)?;
        // Only for the subscriber: each client has a dozen such channels, and allocates their capacity when it is created.
        builder.with_performance_config(|performance| performance.broadcast_channel_capacity = MESSAGE_CAPACITY);
        let subscriber = builder.build().map_err(unusable)?;
        let ended_log = Arc::<LogLimit>::default();
        let mut tasks = Vec::new();
        for (number, client) in pool.clients().iter().enumerate() {
            // the connection then runs on this core
            let _entered = cores.enter(number);
            tasks.push(keep_connected(client.clone(), label.clone(), Arc::clone(&ended_log)).abort_handle());
        }
        let outage = Arc::<watchdog::Outage>::default();
        for (number, client) in pool.clients().iter().enumerate() {
            // One connection logs outages for all of them.
            let log = (number == 0).then(|| watchdog::OutageLog::new(label.clone(), Arc::clone(&outage)));
            tasks.push(watchdog::watch(client.clone(), log));
        }
        let metrics = RedisMetrics::default();
        for client in pool.clients().iter().chain([&subscriber]) {
            let connects = metrics.connects.clone();
            client.on_reconnect(move |_| {
                connects.inc();
                async { Ok(()) }
            });
        }
        let connection = Self {
            pool,
            scripts: Scripts::new(&metrics, settings.pool_size),
            keys,
            event_retention: settings.event_retention,
            event_trim_args: script::event_trim_args(settings.event_retention, &channel),
            channel,
            clock: RedisClock::default(),
            has_minid: AtomicBool::new(false),
            per_slot: AtomicBool::new(is_cluster),
            is_cluster,
            metrics,
            subscriber,
            subscribe_denied: AtomicBool::new(false),
            label,
            ended_log,
            demoted_log: LogLimit::default(),
            tasks,
            outage,
            last_reconnect: Mutex::default(),
        };
        Ok(connection)
    }

    /// Connects the subscriber, and connects it again whenever its connection ends. Ends when the task is aborted or the client is closed.
    pub(super) fn keep_subscriber_connected(&self) -> JoinHandle<()> {
        keep_connected(self.subscriber.clone(), self.label.clone(), Arc::clone(&self.ended_log))
    }

    /// Subscribes to `channel` and `others` on the subscriber's connection, and records whether Redis denied it.
    pub(super) async fn subscribe(&self, channel: String, others: &[String]) -> Result<(), FredError> {
        let client = &self.subscriber;
        client.subscribe([slice::from_ref(&channel), others].concat()).await?;
        // fred reports success once SUBSCRIBE is sent. Whether Redis accepted it is known from the number of subscribers, read on the same
        // connection. fred drops a refusal of SUBSCRIBE, or returns it as the answer to this command.
        let server = ClusterHash::Custom(redis_keyslot(client.id().as_bytes())); // where fred sends SUBSCRIBE in a cluster
        let command = CustomCommand::new_static("PUBSUB", server, false);
        let count = client.custom::<(String, i64), _>(command, vec!["NUMSUB".to_owned(), channel]).await;
        let is_denied = match count {
            Ok((_, count)) => count == 0,
            // A refusal that names PUBSUB (an ACL, or a renamed command) says nothing about SUBSCRIBE. Any other is the refusal of SUBSCRIBE.
            Err(error) if failure::is_command_refused(error.details()) => {
                !error.details().to_ascii_lowercase().contains("pubsub")
            }
            Err(error) => return Err(error),
        };
        self.subscribe_denied.store(is_denied, Ordering::Relaxed);
        Ok(())
    }

    /// Converts an error into one that names the server. For a time-out or a broken connection, the error gives the reason why the
    /// connections are down, if it is known: a wrong password, a certificate, a refused connection.
    pub(super) fn explain(&self, error: FredError) -> RedisError {
        let unavailable = |reason: String| RedisError::Unavailable(format!("{reason} ({})", self.label));
        let is_broken = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Canceled | ErrorKind::IO);
        if is_broken && let Some(cause) = self.outage.reason() {
            return unavailable(cause);
        }
        match RedisError::from(error) {
            RedisError::Unavailable(reason) => unavailable(reason),
            other => other,
        }
    }

    /// Replaces all connections if a command failed because its server is no master any more.
    pub(super) fn reconnect_if_demoted(self: &Arc<Self>, error: &FredError) {
        if failure::is_demoted(error.details()) {
            self.reconnect();
        }
    }

    /// Replaces all connections, at most once a second. After an address has moved to another server, the existing connections
    /// still lead to the former server.
    pub(super) fn reconnect(self: &Arc<Self>) {
        let now = Instant::now();
        {
            let mut last = self.last_reconnect.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| now.duration_since(last) < RECONNECT_INTERVAL) {
                return;
            }
            *last = Some(now);
        }
        if self.demoted_log.record_if_due(now) {
            tracing::warn!(
                "Redis refuses writes as a replica, reconnecting to find its master: meanwhile sign-ins, refreshes and \
                 sign-outs get 503. If this lasts, redis.url must lead to the master ({})",
                self.label
            );
        }
        let connection = Arc::clone(self);
        tokio::spawn(async move {
            let clients = connection.pool.clients().iter().chain([&connection.subscriber]);
            // the others are being connected already
            let connected = clients.filter(|client| client.state() == ClientState::Connected);
            join_all(connected.map(|client| timeout(RECONNECT_TIMEOUT, client.force_reconnection()))).await;
        });
    }

    /// Closes the pooled connections. Later commands fail.
    pub(super) async fn close(&self) {
        self.abort_tasks();
        if let Err(error) = self.pool.quit().await {
            tracing::debug!(%error, "closing the connections to Redis at shutdown failed; nothing is lost");
        }
    }

    /// The connection of this thread's core. On a thread without a core, the next connection of the pool.
    pub(super) fn client(&self) -> &Client {
        let clients = self.pool.clients();
        match runtime::current_core() {
            Some(core) => &clients[core % clients.len()],
            None => self.pool.next(),
        }
    }

    /// The connection of this thread's core, for a request. While the connections reconnect, commands wait for up to
    /// `redis.command_timeout`.
    ///
    /// # Errors
    /// Fails at once while the server refuses connections, because the request would only wait. Does not fail in a cluster, of
    /// which other servers may answer.
    pub(super) fn client_for_request(&self) -> Result<&Client, FredError> {
        let all_are_down = || self.pool.clients().iter().all(|client| client.state() != ClientState::Connected);
        if self.outage.is_refused() && !self.is_cluster && all_are_down() {
            let reason = self.outage.reason().unwrap_or_else(|| "connection refused".to_owned());
            return Err(FredError::new(ErrorKind::IO, format!("{reason} ({})", self.label)));
        }
        Ok(self.client())
    }

    /// The first argument of every session script (`lua/lib.lua`).
    pub(super) fn event_trim_args(&self) -> Value {
        let [by_length, by_time] = &self.event_trim_args;
        Value::Bytes(if self.has_minid.load(Ordering::Relaxed) { by_time.clone() } else { by_length.clone() })
    }

    fn abort_tasks(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for RedisConnection {
    fn drop(&mut self) {
        self.abort_tasks();
    }
}

/// Connects a client, and connects it again whenever fred stops retrying. Ends when the task is aborted or the client is closed.
///
/// fred's connection task ends at errors that it can't retry, such as a cluster's ASK where no command may be sent twice.
/// Without this loop every later command would time out. While such an error lasts, each attempt fails at once: `log_limit` keeps the
/// attempts of all clients from filling the log.
fn keep_connected(client: Client, label: Label, log_limit: Arc<LogLimit>) -> JoinHandle<()> {
    let mut connection = client.connect();
    let reconnect = async move {
        while let Ok(Err(error)) = connection.await {
            if log_limit.record_if_due(Instant::now()) {
                tracing::warn!(
                    error = failure::reason(&error),
                    "a connection to Redis ({label}) ended; reconnecting at once. Requests that need it wait for at most \
                     redis.command_timeout. At most one such line a minute is logged"
                );
            }
            tokio::time::sleep(RETRY_PAUSE).await;
            connection = client.connect();
        }
    };
    tokio::spawn(reconnect)
}
