//! Two nodes behind nginx, restarted one after the other while users go on: not one of their requests fails.

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
/// How often each node is restarted.
const TIMES: usize = 2;
/// What a node that has come back serves before the other is restarted.
const SERVED: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_behind_nginx_are_restarted_and_no_request_fails() {
    let bench = Bench::new().await;
    let mut nodes = [bench.node(0), bench.node(1)];
    let (ports, listen) = (bench.ports, guard::free_port());
    let nginx = block_in_place(|| {
        nginx::run(
            "nginx/nodes.conf",
            &[
                ("127.0.0.1:8081", &format!("127.0.0.1:{}", ports[0])),
                ("127.0.0.1:8082", &format!("127.0.0.1:{}", ports[1])),
                ("127.0.0.1:8000", &format!("127.0.0.1:{listen}")),
                // as it is to http.drain_delay, but quicker
                ("keepalive_timeout 3s", "keepalive_timeout 1s"),
            ],
        )
    });
    let nginx = nginx.unwrap_or_else(|error| panic!("{error}"));
    let proxy = Client::new(format!("http://127.0.0.1:{listen}"));
    ready(&proxy).await;

    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut users = Vec::new();
    for number in 0..USERS {
        let name = format!("user{number}");
        proxy.account(&name).await;
        users.push(user(proxy.clone(), name, Arc::clone(&done), Arc::clone(&answered)));
    }
    for number in (0..TIMES).flat_map(|_| [0, 1]) {
        busy(&nodes[number], &users).await;
        restart(&bench, &mut nodes[number], number).await;
    }
    for node in &nodes {
        busy(node, &users).await;
    }
    done.store(true, Ordering::SeqCst);
    for user in users {
        user.await.unwrap_or_else(|_| panic!("a request failed; nginx says\n{}", nginx.log()));
    }
    println!("{} requests through {} restarts", answered.load(Ordering::SeqCst), 2 * TIMES);
    for node in nodes {
        let (code, log) = block_in_place(|| node.end(Signal::TERM));
        assert_eq!(code, Some(0), "{log}");
    }
}

/// Signs in, and refreshes and uses the session until all is done; every answer must be a good one.
fn user(proxy: Client, name: String, done: Arc<AtomicBool>, answered: Arc<AtomicUsize>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut tokens = proxy.login(&name).await;
        while !done.load(Ordering::SeqCst) {
            tokens = Tokens::of(&proxy.refresh(&tokens.refresh).await.expect(200));
            let verified = proxy.get("/v1/verify", &tokens.access).await.expect(200);
            assert_eq!(verified.header("x-auth-session"), tokens.session);
            answered.fetch_add(2, Ordering::SeqCst);
            if answered.load(Ordering::SeqCst).is_multiple_of(10) {
                let again = json!({ "identifier": name, "password": PASSWORD });
                proxy.post("/v1/login", again).await.expect(200);
                answered.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
}

/// Waits until a node has served some requests, with nobody's failed.
async fn busy(node: &Service, users: &[JoinHandle<()>]) {
    wait::until("requests come to the node", || async {
        let failed = users.iter().any(JoinHandle::is_finished);
        failed || node.log().matches("\"route\":\"refresh\"").count() >= SERVED
    })
    .await;
}

async fn ready(client: &Client) {
    wait::until("it is ready", || async {
        let answer = client.request(Method::GET, "/readyz").send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    })
    .await;
}

/// A node says that it isn't ready, then nobody can connect, then it has ended, and another takes its place.
async fn restart(bench: &Bench, node: &mut Service, number: usize) {
    node.signal(Signal::TERM);
    let client = Client::new(node.client.base.clone());
    wait::until("it isn't ready", || async {
        let answer = client.request(Method::GET, "/readyz").send().await.expect("it still serves");
        answer.status() == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    wait::until("it refuses connections", || async {
        match client.request(Method::GET, "/readyz").send().await {
            Ok(answer) => {
                assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
                false
            }
            Err(error) => error.is_connect(),
        }
    })
    .await;
    let code = wait_for_end(node);
    assert_eq!(code, Some(0), "{}", node.log());
    *node = bench.node(number);
}

fn wait_for_end(node: &mut Service) -> Option<i32> {
    block_in_place(|| node.ended())
}

/// What the nodes share.
struct Bench {
    redis: Redis,
    database: String,
    folder: tempfile::TempDir,
    ports: [u16; 2],
}

impl Bench {
    async fn new() -> Self {
        let database = postgres::shared().url(&postgres::shared().create_database().await);
        let ports = [lasting_port(), lasting_port()];
        Self { redis: Redis::start(), database, folder: tempfile::tempdir().unwrap(), ports }
    }

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
            "limits.login_per_address=off".to_owned(),
            "log.format=json".to_owned(),
        ];
        let mut arguments = vec!["serve"];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        block_in_place(|| Service::try_start_with(&folder, &arguments)).unwrap_or_else(|log| panic!("{log}"))
    }
}

/// A port that is free, and isn't one of those that are given to whoever asks for any: it is still free after a restart.
fn lasting_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::SeqCst) + std::process::id() as usize;
        let port = u16::try_from(12_000 + step * 7 % 18_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
