//! Rolling restart: two nodes behind nginx are restarted one after the other under load, and no request fails.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::json;
use tokio::task::{JoinHandle, block_in_place};

use crate::{
    binary::Service,
    harness::{
        client::{Client, PASSWORD, Tokens},
        guard, postgres,
        redis::Redis,
        wait,
    },
    proxies::nginx,
};

const USERS: usize = 6;
/// The number of restarts of each node.
const RESTARTS: usize = 2;
/// The number of refreshes that a restarted node serves before the other node is restarted.
const REFRESHES_BETWEEN_RESTARTS: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_behind_nginx_are_restarted_and_no_request_fails() {
    let deployment = Deployment::new().await;
    let mut nodes = [deployment.node(0), deployment.node(1)];
    let ports = deployment.ports;
    let proxy_port = guard::free_port();
    let nginx = block_in_place(|| {
        nginx::run(
            "nginx/nodes.conf",
            // texts of the recipe, and what replaces them
            &[
                ("127.0.0.1:8081", &format!("127.0.0.1:{}", ports[0])),
                ("127.0.0.1:8082", &format!("127.0.0.1:{}", ports[1])),
                ("127.0.0.1:8000", &format!("127.0.0.1:{proxy_port}")),
                // shorter than http.drain_delay, as in the recipe
                ("keepalive_timeout 3s", "keepalive_timeout 1s"),
            ],
        )
    });
    let nginx = nginx.unwrap_or_else(|error| panic!("{error}"));
    let proxy = Client::new(format!("http://127.0.0.1:{proxy_port}"));
    wait_until_ready(&proxy).await;

    let done = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut users = Vec::new();
    for number in 0..USERS {
        let name = format!("user{number}");
        proxy.register(&name).await;
        users.push(spawn_user(proxy.clone(), name, Arc::clone(&done), Arc::clone(&answered)));
    }
    for _ in 0..RESTARTS {
        for (number, node) in nodes.iter_mut().enumerate() {
            wait_until_busy(node, &users).await;
            restart(&deployment, node, number).await;
        }
    }
    // The node that was restarted last must serve requests, too.
    for node in &nodes {
        wait_until_busy(node, &users).await;
    }
    done.store(true, Ordering::SeqCst);
    for user in users {
        user.await.unwrap_or_else(|_| panic!("a request failed; log of nginx:\n{}", nginx.log()));
    }
    println!("{} requests through {} restarts", answered.load(Ordering::SeqCst), 2 * RESTARTS);
    for node in nodes {
        let (code, log) = block_in_place(|| node.end(Signal::TERM));
        assert_eq!(code, Some(0), "{log}");
    }
}

/// Spawns a user who signs in, refreshes and uses the session until `done`, and now and then signs in again. `answered` counts the requests
/// of all users. The task fails if a request does.
fn spawn_user(proxy: Client, name: String, done: Arc<AtomicBool>, answered: Arc<AtomicUsize>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut tokens = proxy.login(&name).await;
        while !done.load(Ordering::SeqCst) {
            tokens = Tokens::of(&proxy.refresh(&tokens.refresh).await.expect(200));
            let verified = proxy.get("/v1/verify", &tokens.access).await.expect(200);
            assert_eq!(verified.header("x-auth-session"), tokens.session);
            answered.fetch_add(2, Ordering::SeqCst);
            // about one sign-in for ten other requests
            if answered.load(Ordering::SeqCst).is_multiple_of(10) {
                let login = json!({ "identifier": name, "password": PASSWORD });
                proxy.post("/v1/login", login).await.expect(200);
                answered.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
}

/// Waits until a node has served [`REFRESHES_BETWEEN_RESTARTS`], or a user has failed. The log of a node begins with its start.
async fn wait_until_busy(node: &Service, users: &[JoinHandle<()>]) {
    wait::until("the node serves requests", || async {
        let failed = users.iter().any(JoinHandle::is_finished);
        failed || node.log().matches("\"route\":\"refresh\"").count() >= REFRESHES_BETWEEN_RESTARTS
    })
    .await;
}

async fn wait_until_ready(client: &Client) {
    wait::until("the service is ready", || async {
        let answer = client.request(Method::GET, "/readyz").send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    })
    .await;
}

/// Restarts a node: it fails its readiness check, then refuses connections, then exits, and a new process replaces it.
async fn restart(deployment: &Deployment, node: &mut Service, number: usize) {
    node.signal(Signal::TERM);
    let client = Client::new(node.client.base.clone());
    wait::until("the node is not ready", || async {
        let answer = client.request(Method::GET, "/readyz").send().await.expect("the draining node still serves");
        answer.status() == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    // Until the node refuses connections, it answers that it is not ready.
    wait::until("the node refuses connections", || async {
        match client.request(Method::GET, "/readyz").send().await {
            Ok(answer) => {
                assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
                false
            }
            Err(error) => error.is_connect(),
        }
    })
    .await;
    let code = block_in_place(|| node.wait_for_exit());
    assert_eq!(code, Some(0), "{}", node.log());
    *node = deployment.node(number);
}

/// The stores and addresses of the two nodes.
struct Deployment {
    redis: Redis,
    database: String,
    folder: tempfile::TempDir,
    ports: [u16; 2],
}

impl Deployment {
    async fn new() -> Self {
        let database = postgres::shared().url(&postgres::shared().create_database().await);
        let ports = [stable_port(), stable_port()];
        Self { redis: Redis::start(), database, folder: tempfile::tempdir().unwrap(), ports }
    }

    /// Starts the node 0 or 1, each time on the same port.
    fn node(&self, number: usize) -> Service {
        let folder = self.folder.path().join(number.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let settings = [
            format!("listen=127.0.0.1:{}", self.ports[number]),
            format!("redis.url={}", self.redis.url()),
            format!("database.url={}", self.database),
            "multi_node=true".to_owned(),
            "secret=the secret of both nodes, which is long enough".to_owned(),
            "issuer=https://auth.example.com".to_owned(),
            "http.trusted_proxies=127.0.0.1".to_owned(),
            "http.drain_delay=2s".to_owned(),
            // all users have one address
            "limits.login_per_address=off".to_owned(),
            "log.format=json".to_owned(),
        ];
        let mut arguments = vec!["serve"];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        block_in_place(|| Service::try_start_with(&folder, &arguments)).unwrap_or_else(|log| panic!("{log}"))
    }
}

/// Returns a free port from 12,000 to 29,999. Linux gives no port of this range to outgoing connections, so the port is still free after
/// a restart.
fn stable_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        // Each test process begins at another port, so that concurrent processes seldom try the same one.
        let step = NEXT.fetch_add(1, Ordering::SeqCst) + std::process::id() as usize;
        let port = u16::try_from(12_000 + (step * 7) % 18_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
