//! Nodes as separate processes that share one Redis and one database; each reaches Redis through its own fault proxy.

use std::{
    path::Path,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use reqwest::{Method, RequestBuilder};
use rustix::process::Signal;
use tempfile::TempDir;

use super::model::Rules;
use crate::{
    binary::api_url,
    harness::{
        client::Client,
        fault_proxy::{FaultProxy, Mode},
        guard::{Guard, Spec},
        postgres, wait,
    },
    store::server::Redis,
};

/// The grace window: short enough for users to present tokens after it.
const GRACE: Duration = Duration::from_secs(1);
/// The retry window.
const RETRY: Duration = Duration::from_secs(2);
/// The idle timeout of sessions.
const IDLE: Duration = Duration::from_secs(30);
/// The absolute timeout of sessions.
const ABSOLUTE: Duration = Duration::from_secs(60);

/// How long a user's HTTP client waits for a response.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// One Redis, one database, and nodes as separate processes.
pub struct ProcessCluster {
    pub server: Mutex<Redis>,
    pub nodes: Vec<Node>,
}

/// One node.
pub struct Node {
    /// The proxy between the node and Redis.
    pub proxy: FaultProxy,
    command: Vec<String>,
    guard: Mutex<Option<Guard>>,
    client: RwLock<Client>,
    // dropped last, so that the node has ended before its files are deleted
    _folder: Arc<TempDir>,
}

impl ProcessCluster {
    /// Starts `count` nodes, and waits until they are ready.
    pub async fn start(count: usize) -> Self {
        // Every write is synced, so that a killed Redis loses none. During a slow script, Redis answers BUSY after 50 ms.
        let options = ["--appendonly", "yes", "--appendfsync", "always", "--lua-time-limit", "50"];
        let server = Redis::start_with(&options);
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let postgres = postgres::shared();
        let database_name = postgres.create_database().await;
        let database_url = postgres.url(&database_name);
        let mut cluster = Self { server: Mutex::new(server), nodes: Vec::new() };
        for number in 0..count {
            let socket = cluster.server.lock().unwrap().socket();
            let proxy = FaultProxy::start(socket).await;
            let data_dir = folder.path().join(number.to_string());
            let command = serve_command(&data_dir, &proxy.redis_url(), &database_url);
            let (guard, client) = tokio::task::block_in_place(|| launch(&command));
            cluster.nodes.push(Node {
                proxy,
                command,
                guard: Mutex::new(Some(guard)),
                client: RwLock::new(client),
                _folder: Arc::clone(&folder),
            });
        }
        cluster.wait_until_ready().await;
        cluster
    }

    /// The rules of the model for the configuration of these nodes.
    pub fn rules(&self) -> Rules {
        Rules::new(GRACE, RETRY, IDLE, ABSOLUTE)
    }

    /// Waits until all nodes are ready.
    pub async fn wait_until_ready(&self) {
        for node in &self.nodes {
            wait::until("the node is ready", || async {
                let answer = node.request(Method::GET, "/readyz").send().await;
                answer.is_ok_and(|answer| answer.status() == 200)
            })
            .await;
        }
    }
}

impl Node {
    /// Builds a request to the node's current address.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.read().unwrap().request(method, path).timeout(REQUEST_TIMEOUT)
    }

    /// Kills the node, as a power cut would.
    pub fn kill(&self) {
        if let Some(guard) = self.guard.lock().unwrap().take() {
            guard.signal(Signal::KILL);
            tokio::task::block_in_place(|| drop(guard));
        }
    }

    /// Starts the node after [`Node::kill`].
    pub fn restart(&self) {
        let (guard, client) = tokio::task::block_in_place(|| launch(&self.command));
        *self.guard.lock().unwrap() = Some(guard);
        *self.client.write().unwrap() = client;
    }

    /// Sends a signal to the node's process, if it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(guard) = &*self.guard.lock().unwrap() {
            guard.signal(signal);
        }
    }

    /// The node's latest log lines.
    pub fn log(&self) -> String {
        self.guard.lock().unwrap().as_ref().map_or_else(String::new, Guard::log)
    }

    /// Ends the fault between the node and Redis.
    pub fn remove_fault(&self) {
        self.proxy.set(Mode::Open);
    }
}

/// The command that starts a node.
fn serve_command(data_dir: &Path, redis_url: &str, database_url: &str) -> Vec<String> {
    let mut command = vec![
        "env".to_owned(),
        "LATCHKEY_SECRET=the secret of all nodes of a test, long enough".to_owned(),
        env!("CARGO_BIN_EXE_latchkey").to_owned(),
        "serve".to_owned(),
    ];
    for setting in [
        "listen=127.0.0.1:0",
        "issuer=https://auth.example.com",
        &format!("data_dir={}", data_dir.display()),
        "multi_node=true",
        &format!("redis.url={redis_url}"),
        &format!("database.url={database_url}"),
        &format!("session.grace={}ms", GRACE.as_millis()),
        &format!("session.retry_window={}ms", RETRY.as_millis()),
        &format!("session.idle_timeout={}s", IDLE.as_secs()),
        &format!("session.absolute_timeout={}s", ABSOLUTE.as_secs()),
        // more than a user starts, so that no session ends by the cap
        "session.max_per_account=1000",
        // the simulated users set X-Forwarded-For
        "http.trusted_proxies=127.0.0.1",
        // the simulated users exceed the default limits
        "limits.login_per_address=off",
        "limits.login_service=off",
        "limits.login_backoff_after=off",
        "limits.registration_per_address=off",
        "limits.password_change_per_address=off",
        "limits.password_change_per_account=off",
        // cheap hashes
        "password.memory_kib=64",
        "password.iterations=1",
        "log.filter=warn,latchkey::cli=info",
    ] {
        command.extend(["--set".to_owned(), setting.to_owned()]);
    }
    command
}

/// Starts a node, and returns its process and a client of its API.
fn launch(command: &[String]) -> (Guard, Client) {
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    // The log line `started` has the member `api`. `KILL` leaves the node no time to announce its shutdown.
    let spec = Spec { command: &command, stop: "KILL", folder: None, ready: "\"api\":", unprivileged: false };
    let guard = Guard::start(&spec).unwrap_or_else(|error| panic!("{error}"));
    let address = api_url(&guard.log()).unwrap();
    (guard, Client::new(address))
}
