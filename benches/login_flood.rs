//! Measures refreshes and introspections while 2,000 users try to sign in at once.
//!
//! One node process uses a Redis (`appendfsync always`) and SQLite, with the default hashing parameters. The node, its stores and
//! the callers run on this machine. Refused users retry after `Retry-After`. `make bench-flood` runs the benchmark.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "../tests/it/harness/mod.rs"]
mod harness;
mod node_process;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use harness::{
    client::{Client, PASSWORD},
    redis::Redis,
    test_cluster::ServiceClient,
    wait,
    wire::{Reply, Wire, post, post_form},
};
use node_process::{NodeProcess, service_client};
use serde_json::json;
use tokio::task::JoinHandle;

/// Users that sign in.
const FLOOD_USERS: usize = 2000;
/// Callers of the measured operation, each with one request at a time.
const CALLERS: usize = 32;
/// Repetitions of each measurement, alternately alone and during the flood.
const ROUNDS: usize = 3;
/// Duration of each measurement.
const MEASUREMENT: Duration = Duration::from_secs(5);
/// Accounts that the users of the flood share.
const ACCOUNTS: usize = 64;
/// Turns off the rate limit for the sign-ins of all users together, so that the hashing queue refuses the flood.
const SETTINGS: [(&str, &str); 1] = [("LATCHKEY_LIMITS_LOGIN_SERVICE", "off")];

/// The measured operation.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Refresh,
    Introspect,
}

#[tokio::main]
async fn main() {
    let redis = Redis::start();
    let folder = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(folder.path(), &redis, &SETTINGS);
    let introspecting_client = service_client(folder.path(), &redis, &SETTINGS);
    let authorization = basic_authorization(&introspecting_client);
    let client = node.client.clone();
    for number in 0..ACCOUNTS {
        client.register(&format!("user{number}")).await;
    }
    println!(
        "{} cores; memory of the node before the floods: {} MiB",
        std::thread::available_parallelism().unwrap(),
        node.memory()
    );
    for kind in [Kind::Refresh, Kind::Introspect] {
        let mut callers = Callers::sign_in(&client, kind, &authorization).await;
        // Warm-up: the first requests open the connections.
        callers.measure(&node, &redis, Duration::from_secs(1)).await;
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let alone = callers.measure(&node, &redis, MEASUREMENT).await;
            println!("{kind:?} alone           {alone}");
            let flood = Flood::begin(&node.client.base).await;
            let with_flood = callers.measure(&node, &redis, MEASUREMENT).await;
            println!("{kind:?} during a flood  {with_flood}");
            println!("  sign-ins: {}", flood.end().await);
            ratios.push(with_flood.rate / alone.rate);
        }
        ratios.sort_by(f64::total_cmp);
        let percent: Vec<_> = ratios.iter().map(|ratio| format!("{:.0} %", ratio * 100.0)).collect();
        println!("{kind:?} keeps {} of its rate\n", percent.join(", "));
    }
    println!("peak memory of the node: {} MiB", node.peak_memory());
}

/// The result of a measurement.
struct Measured {
    /// Requests per second.
    rate: f64,
    /// Processor time of the node per measured request in microseconds. It includes the requests of the flood, but not the
    /// hashing threads.
    node_micros: f64,
    /// Processor time of Redis per measured request in microseconds.
    redis_micros: f64,
    /// Number of cores that the hashing threads used.
    hashing_cores: f64,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, node_micros, redis_micros, hashing_cores } = self;
        write!(
            f,
            "{rate:7.0}/s  node {node_micros:4.0} µs  Redis {redis_micros:4.0} µs  hashing {hashing_cores:.2} cores"
        )
    }
}

/// The callers whose rate is measured.
struct Callers {
    kind: Kind,
    /// The connection and the current token of each caller.
    callers: Vec<(Wire, String)>,
    authorization: String,
}

impl Callers {
    async fn sign_in(client: &Client, kind: Kind, authorization: &str) -> Self {
        let mut callers = Vec::new();
        let name_prefix = format!("{kind:?}").to_lowercase();
        for number in 0..CALLERS {
            // no account of the flood: those exceed the session cap, so each sign-in ends the oldest session
            let name = format!("{name_prefix}{number}");
            client.register(&name).await;
            let tokens = client.login(&name).await;
            let token = match kind {
                Kind::Refresh => tokens.refresh,
                Kind::Introspect => tokens.access,
            };
            callers.push((Wire::to(&client.base), token));
        }
        Self { kind, callers, authorization: authorization.to_owned() }
    }

    /// Runs all callers in a closed loop for a duration.
    async fn measure(&mut self, node: &NodeProcess, redis: &Redis, time: Duration) -> Measured {
        let done = Arc::new(AtomicBool::new(false));
        let node_process = node.child.id();
        let redis_process = redis.pid().unsigned_abs();
        let node_before = Cpu::of(node_process);
        let redis_before = Cpu::of(redis_process);
        let began = Instant::now();
        let tasks: Vec<_> = self
            .callers
            .drain(..)
            .map(|(wire, token)| {
                tokio::spawn(call(self.kind, wire, token, self.authorization.clone(), Arc::clone(&done)))
            })
            .collect();
        tokio::time::sleep(time).await;
        done.store(true, Ordering::SeqCst);
        let mut answered = 0;
        for task in tasks {
            let (wire, token, count) = task.await.unwrap();
            answered += count;
            self.callers.push((wire, token));
        }
        let seconds = began.elapsed().as_secs_f64();
        let node_after = Cpu::of(node_process);
        let redis_after = Cpu::of(redis_process);
        let answered = f64::from(answered);
        Measured {
            rate: answered / seconds,
            node_micros: (node_after.others - node_before.others) / answered * 1e6,
            redis_micros: (redis_after.others - redis_before.others) / answered * 1e6,
            hashing_cores: (node_after.hashing - node_before.hashing) / seconds,
        }
    }
}

/// Repeats the operation until `done`. Returns the connection, the newest token and the number of answers.
async fn call(
    kind: Kind,
    mut wire: Wire,
    mut token: String,
    authorization: String,
    done: Arc<AtomicBool>,
) -> (Wire, String, u32) {
    let mut answered = 0;
    while !done.load(Ordering::SeqCst) {
        match kind {
            Kind::Refresh => {
                let reply = wire.call(&post("/v1/refresh", &json!({ "refresh_token": token }))).await.unwrap();
                assert_eq!(reply.status, 200, "{reply:?}");
                token = between(&reply.body, "\"refresh_token\":\"", "\"").to_owned();
            }
            Kind::Introspect => {
                let form = format!("token={token}");
                let reply = wire.call(&post_form("/oauth2/introspect", &authorization, &form)).await.unwrap();
                assert!(reply.body.contains("\"active\":true"), "{reply:?}");
            }
        }
        answered += 1;
    }
    (wire, token, answered)
}

/// The text between `from` and `to`.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from).and_then(|(_, rest)| rest.split_once(to)).unwrap_or_else(|| panic!("{text}")).0
}

/// Users that sign in repeatedly.
struct Flood {
    users: Vec<JoinHandle<()>>,
    statuses: Arc<Mutex<BTreeMap<u16, usize>>>,
    done: Arc<AtomicBool>,
    began: Instant,
}

impl Flood {
    /// Starts the flood and waits until every user has connected.
    async fn begin(base: &str) -> Self {
        let (statuses, done) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(AtomicBool::new(false)));
        let started = Arc::new(AtomicUsize::new(0));
        let users = (0..FLOOD_USERS)
            .map(|number| {
                let mut wire = Wire::to(base);
                let (statuses, done, started) = (Arc::clone(&statuses), Arc::clone(&done), Arc::clone(&started));
                let body = json!({ "identifier": format!("user{}", number % ACCOUNTS), "password": PASSWORD });
                tokio::spawn(async move {
                    let request = post("/v1/login", &body);
                    wire.connect().await.unwrap();
                    started.fetch_add(1, Ordering::SeqCst);
                    while !done.load(Ordering::SeqCst) {
                        let reply = wire.call(&request).await.unwrap();
                        *statuses.lock().unwrap().entry(reply.status).or_default() += 1;
                        tokio::time::sleep(retry_delay(&reply)).await;
                    }
                })
            })
            .collect();
        wait::until("every user of the flood has connected", || async {
            started.load(Ordering::SeqCst) == FLOOD_USERS
        })
        .await;
        Self { users, statuses, done, began: Instant::now() }
    }

    /// Ends the flood. Returns the rate of each status.
    async fn end(self) -> String {
        self.done.store(true, Ordering::SeqCst);
        let seconds = self.began.elapsed().as_secs_f64();
        // counted before the users' last requests, which end after the measured time
        let counts: Vec<_> = {
            let statuses = self.statuses.lock().unwrap();
            #[expect(clippy::cast_precision_loss)]
            statuses.iter().map(|(status, count)| format!("{status}: {:.0}/s", *count as f64 / seconds)).collect()
        };
        for user in self.users {
            user.await.unwrap();
        }
        counts.join(", ")
    }
}

/// The time after which a user signs in again.
fn retry_delay(reply: &Reply) -> Duration {
    match reply.status {
        200 => Duration::ZERO,
        503 => Duration::from_secs(reply.header("retry-after").parse().expect("a 503 has the header Retry-After")),
        _ => panic!("{reply:?}"),
    }
}

/// Processor time of a process in seconds: its hashing threads, and all others.
struct Cpu {
    hashing: f64,
    others: f64,
}

impl Cpu {
    fn of(process: u32) -> Self {
        let mut cpu = Self { hashing: 0.0, others: 0.0 };
        for thread in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
            // a thread may end meanwhile
            let Ok(stat) = std::fs::read_to_string(thread.unwrap().path().join("stat")) else { continue };
            let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
            // proc_pid_stat(5): item 0 is empty, and item 1 is field 3. Items 12 and 13 are utime and stime, in ticks of 10 ms.
            let ticks: f64 = rest.split(' ').skip(12).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum();
            let seconds = ticks / 100.0;
            // the hashing threads are called `password-N`
            if name.starts_with("password-") {
                cpu.hashing += seconds;
            } else {
                cpu.others += seconds;
            }
        }
        cpu
    }
}

/// Memory of the node.
impl NodeProcess {
    /// Resident memory in MiB.
    fn memory(&self) -> u64 {
        self.status("VmRSS:") / 1024
    }

    /// Peak resident memory in MiB.
    fn peak_memory(&self) -> u64 {
        self.status("VmHWM:") / 1024
    }

    /// A value of `/proc/PID/status` in KiB.
    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB")).unwrap();
        line.trim().parse().unwrap()
    }
}

/// The header `Authorization` of a service client.
fn basic_authorization(client: &ServiceClient) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", client.id, client.secret)))
}
