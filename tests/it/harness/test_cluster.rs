//! A test cluster: a Redis, a database and a clock, and as many nodes of Latchkey on them as a test wants.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use latchkey::{
    config::{
        AuditSettings, CacheSettings, Config, DatabaseSettings, FeedSettings, HttpSettings, KeySettings, LimitSettings,
        LogFormat, LogSettings, MetricsSettings, PasswordSettings, RedisSettings, Registration, Secrets,
        SessionSettings, TelemetrySettings, TokenSettings,
    },
    domain::{
        audit::Addresses,
        clock::{Clock, Timestamp},
        entropy::Entropy,
        key::Algorithm,
        limit::{Backoff, Quota},
    },
    http,
    password::PasswordHasher,
    runtime::Cores,
    server,
    service::clients::{self, NewClient},
    state::AppState,
    store::{redis::RedisStores, sql::Sql},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use super::{client::Client, redis::Redis, wait};

/// What the nodes of a test share.
pub struct TestCluster {
    pub redis: Redis,
    pub clock: Clock,
    /// What the next node is configured with.
    pub config: Config,
    folder: TempDir,
    nodes: Mutex<Vec<Weak<AppState>>>,
}

/// A service client, with the secret that was shown once.
#[derive(Clone)]
pub struct ServiceClient {
    pub id: String,
    pub secret: String,
}

/// A running node.
pub struct Node {
    pub state: Arc<AppState>,
    pub client: Client,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
    _cores: Arc<Cores>,
}

impl TestCluster {
    /// With a Redis as the documents prescribe, a SQLite database, and a clock that stands still.
    pub fn new() -> Self {
        Self::with_redis(Redis::start())
    }

    /// The same on this Redis.
    pub fn with_redis(redis: Redis) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&redis.url(), &format!("sqlite://{}/latchkey.db", folder.path().display()));
        Self {
            redis,
            clock: Clock::manual(Timestamp::from_millis(1_800_000_000_000)),
            config,
            folder,
            nodes: Mutex::default(),
        }
    }

    /// Where the nodes' files are.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Starts a node on a free port.
    pub async fn node(&self) -> Node {
        self.node_on(TcpListener::bind("127.0.0.1:0").await.unwrap()).await
    }

    /// Starts a node on a free port, whose address is the issuer: what clients that follow the metadata need.
    pub async fn node_at_issuer(&mut self) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.config.issuer = format!("http://{}", listener.local_addr().unwrap());
        self.node_on(listener).await
    }

    async fn node_on(&self, listener: TcpListener) -> Node {
        let sql = self.sql().await;
        let url = self.config.redis.url.clone().unwrap();
        let cores = Arc::new(Cores::start().unwrap());
        let redis = RedisStores::connect(&url, &self.config.redis, &self.config.cache, &cores).unwrap();
        redis.revocation_log.start_replication();
        let entropy = Entropy::system();
        let passwords = PasswordHasher::start(&self.config.password, entropy.clone()).unwrap();
        let state =
            AppState::new(self.config.clone(), self.clock.clone(), entropy, passwords, sql, redis).await.unwrap();
        let state = Arc::new(state);
        self.nodes.lock().unwrap().push(Arc::downgrade(&state));
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let endpoint = http::endpoint(Arc::clone(&state));
        let settings = self.config.http.clone();
        let serving = Arc::clone(&cores);
        let served = tokio::spawn(async move {
            server::run(endpoint, listener, &settings, &serving, async { drop(stopped.await) }).await.unwrap();
        });
        Node {
            state,
            client: Client::new(format!("http://{address}")),
            stop: Some(stop),
            served: Some(served),
            _cores: cores,
        }
    }

    /// Waits until all nodes remember sessions and know of each other.
    pub async fn acquainted(&self) {
        let nodes: Vec<_> = self.nodes.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        for node in &nodes {
            let knows = || async {
                node.redis.revocation_log.cache_is_valid() && node.redis.revocation_log.peers() == nodes.len() - 1
            };
            wait::until("a node knows the others", knows).await;
        }
    }

    /// Makes a service client of this name, with the scopes `read` and `write` and the audience of all tokens.
    pub async fn service_client(&self, name: &str) -> ServiceClient {
        let scopes = vec!["read".to_owned(), "write".to_owned()];
        self.service_client_with(NewClient { name: name.to_owned(), scopes, ..NewClient::default() }).await
    }

    /// Makes a service client. Every running node knows it at once.
    pub async fn service_client_with(&self, new: NewClient) -> ServiceClient {
        let sql = self.sql().await;
        let made = clients::add(&self.config.token, &self.clock, &Entropy::system(), &sql, new).await;
        let (client, secret) = made.unwrap();
        sql.close().await;
        self.reload_clients().await;
        ServiceClient { id: client.id.to_string(), secret: secret.expose().to_owned() }
    }

    /// Lets every running node see what became of the service clients, as it would within seconds by itself.
    pub async fn reload_clients(&self) {
        let nodes: Vec<_> = self.nodes.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        for app in nodes {
            // a node that was stopped can't
            drop(app.clients.reload().await);
        }
    }

    /// The database, brought up to date.
    pub async fn sql(&self) -> Sql {
        let sql = Sql::connect(&self.config.database).await.unwrap();
        sql.migrate().await.unwrap();
        sql
    }

    /// Moves the clock of all nodes.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

impl Node {
    /// Tells the node to stop as a signal would; it ends when it likes.
    pub fn tell_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Stops the node as a signal would, and waits for its end.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(served) = self.served.take() {
            served.await.unwrap();
        }
        self.state.redis.close().await;
        self.state.audit.close().await;
        self.state.sql.close().await;
    }
}

impl std::ops::Deref for Node {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

/// The defaults.
pub fn limits() -> LimitSettings {
    let quota = |count, secs| Some(Quota { count, window: Duration::from_secs(secs) });
    LimitSettings {
        login_per_address: quota(300, 300),
        login_service: quota(60_000, 60),
        backoff: Some(Backoff {
            free: 5,
            first: Duration::from_secs(1),
            most: Duration::from_mins(15),
            known_for: Duration::from_hours(90 * 24),
            max_known: 32,
        }),
        registration_per_address: quota(100, 3600),
        registration_per_account: quota(20, 3600),
        registration_service: quota(10_000, 600),
        password_change_per_address: quota(200, 600),
        password_change_per_account: quota(10, 600),
        password_change_service: quota(10_000, 600),
        refresh_per_address: quota(200_000, 10),
        refresh_per_account: quota(10_000, 10),
        refresh_service: None,
        introspection_per_client: quota(600_000, 10),
        introspection_service: None,
    }
}

/// The defaults of the audit log.
pub fn audit() -> AuditSettings {
    AuditSettings {
        retention: Some(Duration::from_hours(90 * 24)),
        addresses: Addresses::Full,
        queue: 10_000,
        max_refusals: 600,
    }
}

/// The defaults of what a node remembers.
pub fn cache() -> CacheSettings {
    CacheSettings { max_staleness: Duration::from_secs(1), max_sessions: 100_000, max_tokens: 20_000 }
}

/// The defaults, but for hashing, which is quick, and the addresses.
pub fn config(redis_url: &str, database_url: &str) -> Config {
    let seconds = Duration::from_secs;
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        issuer: "https://auth.example.com".to_owned(),
        data_dir: "/nonexistent".into(),
        multi_node: true,
        secrets: Secrets { current: "a test's secret that is long enough for it".into(), previous: Vec::new() },
        registration: Registration { open: true },
        http: HttpSettings {
            max_connections: 1000,
            max_requests: 1000,
            first_byte_timeout: seconds(10),
            header_timeout: seconds(10),
            body_timeout: seconds(10),
            request_timeout: seconds(30),
            idle_timeout: seconds(60),
            write_timeout: seconds(10),
            max_body_bytes: 64 * 1024,
            max_header_bytes: 32 * 1024,
            shutdown_timeout: seconds(10),
            drain_delay: Duration::ZERO,
            trusted_proxies: Vec::new(),
            allowed_origins: vec!["https://app.example.com".to_owned()],
        },
        redis: RedisSettings {
            url: Some(redis_url.into()),
            prefix: "lk:".to_owned(),
            pool_size: 2,
            command_timeout: seconds(1),
            event_retention: seconds(3600),
        },
        cache: cache(),
        database: DatabaseSettings {
            url: database_url.into(),
            migrate_url: None,
            max_connections: 4,
            acquire_timeout: seconds(5),
        },
        session: SessionSettings {
            idle_timeout: seconds(7 * 86_400),
            absolute_timeout: seconds(30 * 86_400),
            grace: seconds(10),
            max_per_account: 50,
        },
        token: TokenSettings {
            access_ttl: seconds(300),
            audience: "latchkey".to_owned(),
            client_id: "latchkey".to_owned(),
            scope: "account".to_owned(),
            leeway: seconds(5),
        },
        keys: KeySettings { algorithm: Algorithm::Es256, publish_before: seconds(600), refresh_interval: seconds(10) },
        limits: limits(),
        feed: FeedSettings { heartbeat: Duration::from_millis(100), max_subscribers: 100 },
        metrics: MetricsSettings { listen: None },
        telemetry: TelemetrySettings {
            otlp_endpoint: None,
            sample_ratio: 1.0,
            timeout: seconds(5),
            service_name: "latchkey".to_owned(),
        },
        password: PasswordSettings {
            min_length: 8,
            max_length: 128,
            min_score: 2,
            banned_words: vec!["latchkey".to_owned()],
            memory_kib: 64,
            iterations: 1,
            parallelism: 1,
            threads: 2,
            queue: 256,
            max_import_memory_kib: 65_536,
            pepper: None,
            previous_peppers: Vec::new(),
        },
        audit: audit(),
        warnings: Vec::new(),
        log: LogSettings { format: LogFormat::Text, filter: "info".to_owned() },
    }
}
