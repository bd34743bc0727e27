//! A test cluster: one Redis, one database, one clock, and any number of Latchkey nodes.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use latchkey::{
    config::{
        AuditSettings, CacheSettings, Config, LimitSettings, LinkTemplate, MailTransport, RelyingParty, Sources, load,
    },
    crypto::access_token::{IssuedToken, VerifiedToken},
    domain::{
        clock::{Clock, ClockOffset, Timestamp},
        entropy::Entropy,
    },
    http,
    password::PasswordHasher,
    runtime::Cores,
    server,
    service::{
        clients::{self, NewClient},
        mail_delivery,
    },
    state::AppState,
    store::{redis::RedisStores, sql::Sql},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use super::{client::Client, redis::Redis, wait};

/// The stores, clock and configuration that the nodes of a test share.
pub struct TestCluster {
    pub redis: Redis,
    pub clock: Clock,
    /// The clock of Redis, if the next node's own clock differs from it. `None` if `clock` stands for both.
    pub redis_clock: Option<Clock>,
    /// The configuration of the next node.
    pub config: Config,
    folder: TempDir,
    /// The states of all started nodes, also of those that have been dropped since.
    nodes: Mutex<Vec<Weak<AppState>>>,
}

/// A service client with its secret.
#[derive(Clone)]
pub struct ServiceClient {
    pub id: String,
    pub secret: String,
}

/// A running node.
pub struct Node {
    pub state: Arc<AppState>,
    pub client: Client,
    /// Dropping the sender shuts the server down.
    stop: Option<oneshot::Sender<()>>,
    server_task: Option<JoinHandle<()>>,
    mail_task: Option<JoinHandle<()>>,
    /// Dropping the sender stops the sending of mails.
    stop_mail: Option<oneshot::Sender<()>>,
    /// Held because dropping them ends their runtimes, which the node uses.
    _cores: Arc<Cores>,
}

impl TestCluster {
    /// Creates a cluster with a durable Redis, a SQLite database, and a stopped clock.
    pub fn new() -> Self {
        Self::with_redis(Redis::start())
    }

    /// Creates a cluster on this Redis.
    pub fn with_redis(redis: Redis) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&redis.url(), &format!("sqlite://{}/latchkey.db", folder.path().display()));
        config.mail.transport = MailTransport::Files(folder.path().join("mail"));
        Self {
            redis,
            // 2027-01-15T08:00:00Z
            clock: Clock::manual(Timestamp::from_millis(1_800_000_000_000)),
            redis_clock: None,
            config,
            folder,
            nodes: Mutex::default(),
        }
    }

    /// The folder of the nodes' files.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Starts a node on a free port.
    pub async fn node(&self) -> Node {
        self.node_on(TcpListener::bind("127.0.0.1:0").await.unwrap()).await
    }

    /// Starts a node whose own clock is ahead of the test's clock or behind it. Redis has the test's clock.
    pub async fn node_with_clock_skew(&mut self, skew: ClockOffset) -> Node {
        let redis_clock = self.clock.clone();
        self.clock = redis_clock.with_offset(skew);
        self.redis_clock = Some(redis_clock.clone());
        let node = self.node().await;
        self.clock = redis_clock;
        self.redis_clock = None;
        node
    }

    /// Starts a node on a free port with its own address as issuer, for clients that follow the metadata.
    pub async fn node_at_issuer(&mut self) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.config.issuer = format!("http://{}", listener.local_addr().unwrap());
        self.node_on(listener).await
    }

    /// Starts a node on a free port with `http://localhost:PORT` as issuer, for browsers, which treat this origin as secure.
    pub async fn node_at_localhost(&mut self) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.config.issuer = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        // the links of mails that tests open in a browser
        for (link, page) in [
            (&mut self.config.mail.links.verify_address, "verify-address"),
            (&mut self.config.mail.links.reset_password, "reset-password"),
            (&mut self.config.mail.links.sign_in_code, "sign-in-code"),
            (&mut self.config.mail.links.confirm_address, "confirm-address"),
        ] {
            *link = LinkTemplate::parse(&format!("{}/account/{page}#token={{token}}", self.config.issuer)).unwrap();
        }
        let origins = vec![self.config.issuer.clone()];
        self.config.passkeys.relying_party = Some(RelyingParty { id: "localhost".to_owned(), origins });
        self.node_on(listener).await
    }

    /// Starts a node that accepts connections from this listener.
    async fn node_on(&self, listener: TcpListener) -> Node {
        let sql = self.sql().await;
        let url = self.config.redis.url.clone().unwrap();
        let cores = Arc::new(Cores::start().unwrap());
        let redis = RedisStores::connect(&url, &self.config.redis, &self.config.cache, &cores).unwrap();
        redis.revocation_log.start_replication();
        let entropy = Entropy::system();
        let passwords = PasswordHasher::start(&self.config.password, entropy.clone()).unwrap();
        let clock = match &self.redis_clock {
            Some(redis_clock) => redis.follow_clock(&self.clock, Some(redis_clock.clone())).await,
            None => self.clock.clone(),
        };
        let state = AppState::new(self.config.clone(), clock, entropy, passwords, sql, redis).await.unwrap();
        let state = Arc::new(state);
        self.nodes.lock().unwrap().push(Arc::downgrade(&state));
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let endpoint = http::endpoint(Arc::clone(&state));
        let settings = self.config.http.clone();
        let serving_cores = Arc::clone(&cores);
        let server_task = tokio::spawn(async move {
            server::run(endpoint, listener, &settings, &serving_cores, async { drop(stopped.await) }).await.unwrap();
        });
        let (stop_mail, mail_stop_signal) = oneshot::channel::<()>();
        let mail_task = tokio::spawn({
            let state = Arc::clone(&state);
            async move { mail_delivery::run(&state, async { drop(mail_stop_signal.await) }).await }
        });
        Node {
            mail_task: Some(mail_task),
            stop_mail: Some(stop_mail),
            state,
            client: Client::new(format!("http://{address}")),
            stop: Some(stop),
            server_task: Some(server_task),
            _cores: cores,
        }
    }

    /// Waits until all nodes have valid session caches and know each other.
    pub async fn wait_for_peers(&self) {
        let nodes: Vec<_> = self.nodes.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        for node in &nodes {
            let knows_peers = || async {
                node.redis.revocation_log.cache_is_valid() && node.redis.revocation_log.peers() == nodes.len() - 1
            };
            wait::until("a node knows the others", knows_peers).await;
        }
    }

    /// Creates a service client with the scopes `read` and `write` and the default audience.
    pub async fn service_client(&self, name: &str) -> ServiceClient {
        let scopes = vec!["read".to_owned(), "write".to_owned()];
        self.service_client_with(NewClient { name: name.to_owned(), scopes, ..NewClient::default() }).await
    }

    /// Creates a client, a service or an app, and makes every running node load it.
    pub async fn service_client_with(&self, new: NewClient) -> ServiceClient {
        let sql = self.sql().await;
        let added = clients::add(&self.config.token, &self.clock, &Entropy::system(), &sql, new).await;
        let (client, secret) = added.unwrap();
        sql.close().await;
        self.reload_clients().await;
        ServiceClient { id: client.id.to_string(), secret: secret.expose().to_owned() }
    }

    /// Makes every running node reload the service clients now. Otherwise a node does so within seconds.
    pub async fn reload_clients(&self) {
        let nodes: Vec<_> = self.nodes.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        for node in nodes {
            // The result is ignored: a stopped node cannot reload.
            drop(node.clients.reload().await);
        }
    }

    /// Opens the database and migrates it.
    pub async fn sql(&self) -> Sql {
        let sql = Sql::connect(&self.config.database).await.unwrap();
        sql.migrate().await.unwrap();
        sql
    }

    /// Opens the database without migrating it, for a test that has changed the schema.
    pub async fn sql_unmigrated(&self) -> Sql {
        Sql::connect(&self.config.database).await.unwrap()
    }

    /// Moves the clock of all nodes.
    pub fn advance(&self, duration: Duration) {
        self.clock.advance(duration);
    }
}

impl Node {
    /// The address of the node's API.
    pub fn address(&self) -> SocketAddr {
        self.client.base.trim_start_matches("http://").parse().unwrap()
    }

    /// Verifies the access token of a session and returns its claims.
    pub fn verified(&self, access_token: &str) -> Arc<VerifiedToken> {
        let now = self.state.clock.now();
        self.state.tokens.verify(access_token, now).and_then(IssuedToken::into_session).unwrap()
    }

    /// Triggers the shutdown of the node without waiting.
    pub fn trigger_shutdown(&mut self) {
        drop(self.stop.take());
    }

    /// Stops the sending of mails and waits for the attempts in progress.
    pub async fn stop_mail(&mut self) {
        drop(self.stop_mail.take());
        if let Some(mail_task) = self.mail_task.take() {
            mail_task.await.unwrap();
        }
    }

    /// Ends the sending of mails at once, as if the process were killed: cuts off the attempts in progress.
    pub fn kill_mail(&mut self) {
        if let Some(mail_task) = self.mail_task.take() {
            mail_task.abort();
        }
    }

    /// Shuts the node down and waits until it has ended.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(server_task) = self.server_task.take() {
            server_task.await.unwrap();
        }
        // first the background tasks, since they use the stores
        self.state.finish_background(Duration::from_secs(10)).await;
        self.stop_mail().await;
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

/// The default rate limits.
pub fn limits() -> LimitSettings {
    defaults().limits
}

/// The default settings of the audit log.
pub fn audit() -> AuditSettings {
    defaults().audit
}

/// The default settings of the caches.
pub fn cache() -> CacheSettings {
    defaults().cache
}

/// The settings of [`config`], of which tests take a section. No node can start with them: the stores do not exist.
fn defaults() -> Config {
    config("redis://127.0.0.1:1", "sqlite:///nonexistent/latchkey.db")
}

/// The default settings, except these stores and some values for tests: fast hashing, small pools, short heartbeats, any free port.
pub fn config(redis_url: &str, database_url: &str) -> Config {
    let variables = [
        ("LATCHKEY_DATA_DIR", "/nonexistent"),
        ("LATCHKEY_ISSUER", "https://auth.example.com"),
        ("LATCHKEY_SECRET", "a test's secret that is long enough for it"),
        ("LATCHKEY_REDIS_URL", redis_url),
        ("LATCHKEY_DATABASE_URL", database_url),
        ("LATCHKEY_HTTP_ALLOWED_ORIGINS", "https://app.example.com"),
        ("LATCHKEY_PASSWORD_BANNED_WORDS", "latchkey"),
        ("LATCHKEY_METRICS_LISTEN", "off"),
    ];
    let mut config = load(&Sources::from_environment("/", variables), &Entropy::system()).unwrap();
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.multi_node = true;
    config.http.max_connections = 1000;
    config.http.max_requests = 1000;
    config.http.shutdown_timeout = Duration::from_secs(10);
    config.http.drain_delay = Duration::ZERO;
    config.redis.pool_size = 2;
    config.redis.event_retention = Duration::from_hours(1);
    config.database.max_connections = 4;
    config.feed.heartbeat = Duration::from_millis(100);
    config.feed.max_subscribers = 100;
    config.password.memory_kib = 64;
    config.password.iterations = 1;
    config.password.threads = 2;
    config.password.max_import_memory_kib = 65_536;
    config.warnings.clear();
    config
}
