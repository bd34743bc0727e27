//! Measures the revocation feed:
//!
//! - the delay from a sign-out on one node to the event at a subscriber of another node, and to the close of a WebSocket at a
//!   service that follows the feed
//! - the delay from a change of roles on one node to the refusal of an older token by another node
//! - the processor time of a delivery
//!
//! Two node processes share one Redis (`appendfsync always`) and one SQLite database. A third node, in this process, changes the
//! roles. All of them and the callers run on this machine. `make bench-feed` runs the benchmark.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "feed_latency/fan_out.rs"]
mod fan_out;
#[path = "../tests/it/harness/mod.rs"]
mod harness;
mod node_process;
#[path = "feed_latency/roles.rs"]
mod roles;
#[path = "feed_latency/sockets.rs"]
mod sockets;

use std::{
    collections::HashMap,
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use harness::{
    client::{Client, Tokens},
    guard,
    redis::Redis,
    sse::Feed,
    test_cluster::{ServiceClient, TestCluster},
    wait,
};
use node_process::{NodeProcess, service_client};

/// Sequential sign-outs: each starts after the event of the previous one has arrived.
const SEQUENTIAL_SIGN_OUTS: usize = 1000;
/// Loads at a fixed rate: sign-outs per second, and the duration in seconds. A sign-out does not wait for earlier ones.
const RATES: [(usize, usize); 2] = [(100, 10), (500, 4)];
/// Open WebSockets of each measured app. Each belongs to a session, which is then signed out.
const SOCKETS: usize = 500;
/// Sessions of each account, fewer than the session cap (`session.max_per_account`).
const SESSIONS_PER_ACCOUNT: usize = 40;

/// The address of a node whose port nobody needs to know in advance.
const ANY_PORT: &str = "127.0.0.1:0";

/// The number of the next account.
static NEXT_ACCOUNT: AtomicUsize = AtomicUsize::new(0);

/// The times of a request, of its answer, and of its effect: an event, the close of a WebSocket, or a refused token.
#[derive(Clone, Copy)]
pub struct Times {
    pub requested: Instant,
    pub answered: Instant,
    pub effect: Instant,
}

#[tokio::main]
async fn main() {
    raise_open_files();
    let redis = Redis::start();
    let folder = tempfile::tempdir().unwrap();
    let peer_port = guard::free_port();
    // The apps' verifiers follow the feed at the issuer's address, so the peer has this address. `node` ends the sessions.
    let issuer = format!("http://127.0.0.1:{peer_port}");
    let peer_address = format!("127.0.0.1:{peer_port}");
    let database = format!("sqlite://{}/latchkey.db", folder.path().display());
    let start = |listen| NodeProcess::start(folder.path(), &redis, &settings(&issuer, listen, &database));
    let node = start(ANY_PORT);
    let peer = start(&peer_address);
    // this runs a command, which reads the listening address but does not listen
    let service = service_client(folder.path(), &redis, &settings(&issuer, ANY_PORT, &database));
    // The first argument selects one part: `cargo bench … -- fan-out`. Cargo itself adds `--bench`.
    let selected_part = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let measures = |part: &str| selected_part.as_deref().is_none_or(|selected| selected == part);

    if measures("sign-outs") {
        sign_outs(&node, &peer, &issuer, &service).await;
    }
    // the examples of two web frameworks, whose chats are WebSockets
    if measures("chats") {
        let apps = [
            ("Express", sockets::App::express(&issuer, &service)),
            ("FastAPI", sockets::App::fastapi(&issuer, &service)),
        ];
        for (name, app) in apps {
            let sessions = sign_in(&node.client, SOCKETS).await;
            println!("chat of the {name} example, sequential:");
            print_delays(&app.measure(&node.client, sessions).await, "close");
        }
    }
    if measures("fan-out") {
        let sessions = sign_in(&node.client, fan_out::EVENTS).await;
        fan_out::measure(&node.client, &peer, &service, sessions).await;
    }
    if measures("roles") {
        // the cluster of the third node
        let mut cluster = TestCluster::with_redis(redis);
        cluster.config.issuer = issuer;
        println!("changes of roles, sequential:");
        print_delays(&roles::measure(cluster, &database, &peer).await, "refusal");
    }
}

/// Measures sign-outs: one after the other, of sessions with an open WebSocket, and at fixed rates.
async fn sign_outs(node: &NodeProcess, peer: &NodeProcess, issuer: &str, service: &ServiceClient) {
    let arrivals = Arrivals::follow(&peer.client, service).await;
    let sign_outs_at_fixed_rates: usize = RATES.iter().map(|(rate, seconds)| rate * seconds).sum();
    let mut sessions = sign_in(&node.client, SEQUENTIAL_SIGN_OUTS + SOCKETS + sign_outs_at_fixed_rates).await;

    let mut times = Vec::new();
    for tokens in sessions.drain(..SEQUENTIAL_SIGN_OUTS) {
        times.push(sign_out(&node.client, &arrivals, tokens).await);
    }
    println!("sequential:");
    print_delays(&times, "event");
    let app = sockets::App::start(issuer, service).await;
    println!("WebSockets, sequential:");
    print_delays(&app.measure(&node.client, sessions.drain(..SOCKETS).collect()).await, "close");
    for (rate, seconds) in RATES {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
        let mut running = Vec::new();
        for tokens in sessions.drain(..rate * seconds) {
            ticks.tick().await;
            let (client, arrivals) = (node.client.clone(), arrivals.clone());
            running.push(tokio::spawn(async move { sign_out(&client, &arrivals, tokens).await }));
        }
        let mut times = Vec::new();
        for task in running {
            times.push(task.await.unwrap());
        }
        println!("{rate} a second:");
        print_delays(&times, "event");
    }
}

/// Raises the limit of open files: the subscribers are sockets of this process, and the nodes inherit the limit.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("the limit of open files can be raised");
}

/// Signs out on one node and waits for the event at the subscriber of the other node.
async fn sign_out(client: &Client, arrivals: &Arrivals, tokens: Tokens) -> Times {
    let requested = Instant::now();
    client.logout(&tokens.refresh).await.expect(204);
    let answered = Instant::now();
    Times { requested, answered, effect: arrivals.wait_for(&tokens.session).await }
}

/// Prints the delays between request, answer and effect. An effect before the answer counts as 0 ms after the answer.
fn print_delays(times: &[Times], effect: &str) {
    let from_answer = times.iter().map(|times| times.effect.saturating_duration_since(times.answered));
    print_quantiles(&format!("from the answer to the {effect}"), from_answer.collect());
    let from_call = times.iter().map(|times| times.effect.duration_since(times.requested));
    print_quantiles(&format!("from the call to the {effect}"), from_call.collect());
    let to_answer = times.iter().map(|times| times.answered.duration_since(times.requested));
    print_quantiles("from the call to the answer", to_answer.collect());
}

fn print_quantiles(what: &str, mut delays: Vec<Duration>) {
    delays.sort();
    let millis = |quantile: f64| {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = ((delays.len() - 1) as f64 * quantile).round() as usize;
        delays[rank].as_secs_f64() * 1000.0
    };
    let (median, p99, max) = (millis(0.5), millis(0.99), millis(1.0));
    println!("  {what:28}  median {median:7.2} ms  p99 {p99:7.2} ms  max {max:7.2} ms  n {}", delays.len());
}

/// Registers as many accounts as `count` sessions need, and signs in to them.
async fn sign_in(client: &Client, count: usize) -> Vec<Tokens> {
    let mut sessions = Vec::new();
    while sessions.len() < count {
        let name = format!("user{}", NEXT_ACCOUNT.fetch_add(1, Ordering::Relaxed));
        client.register(&name).await;
        for _ in 0..SESSIONS_PER_ACCOUNT {
            sessions.push(client.login(&name).await);
        }
    }
    sessions.truncate(count);
    sessions
}

/// Arrival times of the sessions' events, by the ids of the sessions.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<HashMap<String, Instant>>>);

impl Arrivals {
    /// Subscribes to a node's feed in the background.
    async fn follow(client: &Client, service: &ServiceClient) -> Self {
        let arrivals = Self::default();
        let mut feed = Feed::open(client, service).await;
        feed.caught_up().await;
        tokio::spawn({
            let arrivals = arrivals.clone();
            async move {
                while let Some(event) = feed.next().await {
                    let now = Instant::now();
                    if let Some(session) = event.data["session_id"].as_str() {
                        arrivals.0.lock().unwrap().insert(session.to_owned(), now);
                    }
                }
            }
        });
        arrivals
    }

    /// Waits for the event that the session has ended. Returns the time when the event arrived.
    async fn wait_for(&self, session: &str) -> Instant {
        let take = || self.0.lock().unwrap().remove(session);
        // Most events have arrived already. The polling below finds the others up to 20 ms later. That changes no measurement,
        // because the time of arrival is recorded with the event.
        for _ in 0..100 {
            if let Some(arrival) = take() {
                return arrival;
            }
            tokio::task::yield_now().await;
        }
        let mut arrival = None;
        wait::until("the event has arrived", || {
            arrival = take();
            ready(arrival.is_some())
        })
        .await;
        arrival.unwrap()
    }
}

/// Settings of a node: limits above what this benchmark needs, and fast hashing, since it does not measure hashing.
fn settings<'a>(issuer: &'a str, listen: &'a str, database: &'a str) -> [(&'static str, &'a str); 8] {
    [
        ("LATCHKEY_ISSUER", issuer),
        ("LATCHKEY_LISTEN", listen),
        ("LATCHKEY_DATABASE_URL", database),
        ("LATCHKEY_FEED_MAX_SUBSCRIBERS", "2000"),
        ("LATCHKEY_FEED_MAX_SUBSCRIBERS_PER_CLIENT", "2000"),
        ("LATCHKEY_LIMITS_REFRESH_PER_ACCOUNT", "off"),
        ("LATCHKEY_PASSWORD_MEMORY_KIB", "64"),
        ("LATCHKEY_PASSWORD_ITERATIONS", "1"),
    ]
}
