//! Measures memory, start-up times and the size of the binary, and describes the machine.

use std::{
    fmt::Write,
    fs,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::Serialize;

use crate::{
    Arguments,
    host::{Host, Persistence, RedisServer},
    measurement::{self, Scenario, Timing},
    target::{Common, Filler, HASH_MEMORY_KIB, Target},
    workload,
};

/// Number of accounts of the measured Latchkey.
const ACCOUNTS: usize = 256;

/// Number of connections during the measurement of [`Scenario::Mix`].
const MIX_CONNECTIONS: usize = 256;

/// Number of sessions that exist before [`Scenario::Mix`], which refreshes and introspects them.
const MIX_SESSIONS: usize = 20_000;

/// Number of different access tokens that [`Scenario::Mix`] introspects.
const MIX_ACCESS_TOKENS: usize = 1000;

/// Number of sessions of each account in the Redis that is filled.
const SESSIONS_PER_ACCOUNT: usize = 1;

/// Memory and start-up time of one measured server.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// The server's name.
    pub target: &'static str,
    /// Resident memory before the first request, MiB.
    pub idle_mib: f64,
    /// Resident memory after all measurements of the run, MiB.
    pub after_mib: f64,
    /// Time from the start of the process to its first response.
    pub started_in_ms: f64,
}

/// Memory and start-up times of the measured servers, and details of a Latchkey that is started for this measurement alone.
#[derive(Clone, Debug, Serialize)]
pub struct Footprint {
    /// One entry per server.
    pub servers: Vec<Memory>,
    /// Latchkey right after its start, MiB.
    pub idle_mib: f64,
    /// Latchkey after one sign-in, MiB.
    pub one_login_mib: f64,
    /// Latchkey during [`Scenario::Mix`] on `MIX_CONNECTIONS` connections, MiB.
    pub mix_mib: f64,
    /// Calculated size of the hashing threads' buffers, MiB.
    pub hashing_mib: f64,
    /// Start-up times of five starts, ascending.
    pub start_up_ms: Vec<f64>,
    /// Size of the binary, MiB.
    pub binary_mib: f64,
    /// Number of sessions, and Redis bytes per session.
    pub redis_bytes_per_session: Vec<(usize, f64)>,
    /// Sessions created per second while filling Redis.
    pub filled_per_second: f64,
}

#[expect(clippy::cast_precision_loss, reason = "the memory of a machine is far below 2^52 bytes")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Reads the memory and the start-up times of the measured servers.
pub fn servers(targets: &[Target]) -> Vec<Memory> {
    let memory = |target: &Target| Memory {
        target: target.name.text(),
        idle_mib: mib(target.resident_idle),
        after_mib: mib(target.process.usage().resident),
        started_in_ms: target.process.started_in.as_secs_f64() * 1e3,
    };
    targets.iter().map(memory).collect()
}

/// Measures the memory of a new Latchkey, the start-up times of five further nodes, and the memory of sessions in Redis. Copies `servers`
/// into the result.
pub fn measure(host: &Host, servers: &[Memory]) -> anyhow::Result<Footprint> {
    let common = Common::prepare(host, ACCOUNTS)?;
    // the folder of the run may hold the data of another Latchkey
    let host = host.subfolder("fresh")?;
    let mut target = Target::latchkey(&host, &common)?;
    let resident = |target: &Target| mib(target.process.usage().resident);
    // Lets the background work of the start-up end.
    std::thread::sleep(Duration::from_secs(1));
    let idle_mib = resident(&target);
    // directly in Redis, which does not change the node's memory
    target.sessions = target.seed(MIX_SESSIONS)?.into();
    let mut one_login = workload::Limited::new(workload::Login::new(ACCOUNTS), 1);
    crate::load::exhaust(target.address, 1, &mut one_login)?;
    let one_login_mib = resident(&target);
    target.collect_access_tokens(MIX_ACCESS_TOKENS)?;
    let timing = Timing { warm_up: Duration::from_millis(500), measured: Duration::from_secs(4) };
    let mix = measurement::measure(&mut target, Scenario::Mix, MIX_CONNECTIONS, ACCOUNTS, timing)?;
    let mut start_up_ms = Vec::new();
    for _ in 0..5 {
        let node = target.another_node("restarted", &[])?;
        start_up_ms.push(node.process.started_in.as_secs_f64() * 1e3);
    }
    start_up_ms.sort_by(f64::total_cmp);
    drop(target);

    let (redis_bytes_per_session, filled_per_second) = measure_sessions_in_redis(&host)?;
    let cores = std::thread::available_parallelism()?.get();
    // Latchkey has a hashing thread per core, each with a buffer for one hash.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let hashing_mib = cores as f64 * f64::from(HASH_MEMORY_KIB) / 1024.0;
    Ok(Footprint {
        servers: servers.to_vec(),
        idle_mib,
        one_login_mib,
        mix_mib: mix.resident_mib,
        hashing_mib,
        start_up_ms,
        binary_mib: mib(fs::metadata(host.latchkey())?.len()),
        redis_bytes_per_session,
        filled_per_second,
    })
}

/// Fills a new Redis with sessions. Returns [`Footprint::redis_bytes_per_session`] and [`Footprint::filled_per_second`].
fn measure_sessions_in_redis(host: &Host) -> anyhow::Result<(Vec<(usize, f64)>, f64)> {
    let redis = RedisServer::start(host, "fill", Persistence::Off)?;
    let filler = Filler::connect(&redis.url())?;
    let mut control = crate::resp::Resp::connect(redis.port)?;
    // What Redis allocates once, such as scripts and buffers of connections, does not count as memory of sessions.
    filler.fill(1000, SESSIONS_PER_ACCOUNT)?;
    control.call(&[b"FLUSHALL", b"SYNC"])?;
    let before = control.info("used_memory")?;
    let mut redis_bytes_per_session = Vec::new();
    let mut filled = 0;
    let start = Instant::now();
    for count in [200_000_usize, 1_000_000] {
        eprint!("\r\x1b[Kfilling Redis with {count} sessions");
        filler.fill(count - filled, SESSIONS_PER_ACCOUNT)?;
        filled = count;
        let used = control.info("used_memory")? - before;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        redis_bytes_per_session.push((count, used as f64 / count as f64));
    }
    eprintln!();
    #[expect(clippy::cast_precision_loss, reason = "at most a million")]
    let filled_per_second = filled as f64 / start.elapsed().as_secs_f64();
    Ok((redis_bytes_per_session, filled_per_second))
}

impl Footprint {
    /// Renders two Markdown tables: the details of Latchkey and Redis, and the memory of all servers.
    pub fn table(&self) -> String {
        let mut text = "\n### Memory, start-up, size\n\n| | |\n| --- | --- |\n".to_owned();
        let median_start_up = self.start_up_ms.get(self.start_up_ms.len() / 2).copied().unwrap_or_default();
        let _ = writeln!(
            text,
            "| latchkey, idle | {:.0} MiB ({:.0} of it hashing buffers) |",
            self.idle_mib, self.hashing_mib
        );
        let _ = writeln!(text, "| latchkey, after one sign-in | {:.0} MiB |", self.one_login_mib);
        let _ = writeln!(text, "| latchkey, at {MIX_CONNECTIONS} connections of the mix | {:.0} MiB |", self.mix_mib);
        let _ = writeln!(text, "| latchkey, from its start to its first answer | {median_start_up:.0} ms |");
        let _ = writeln!(text, "| latchkey, the program | {:.1} MiB |", self.binary_mib);
        for (count, bytes) in &self.redis_bytes_per_session {
            let _ = writeln!(text, "| Redis, for each of {count} sessions | {bytes:.0} bytes |");
        }
        text.push_str("\n| | MiB idle | MiB after all measurements | started in ms |\n| --- | ---: | ---: | ---: |\n");
        for server in &self.servers {
            let Memory { target, idle_mib, after_mib, started_in_ms } = server;
            let _ = writeln!(text, "| {target} | {idle_mib:.0} | {after_mib:.0} | {started_in_ms:.0} |");
        }
        text
    }
}

/// The machine, the version of Redis and the duration of a run.
#[derive(Debug, Serialize)]
pub struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    redis: String,
    persistence: String,
    rounds: usize,
    seconds_each: f64,
    took_seconds: u64,
}

/// Describes this machine and the run, which took `took`.
pub fn machine(host: &Host, arguments: &Arguments, cores: usize, took: Duration) -> anyhow::Result<Machine> {
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    // A line reads "model name : Intel(R) …".
    let model_line = cpu_info.lines().find(|line| line.starts_with("model name"));
    let processor = model_line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
    let output = std::process::Command::new("redis-server").arg("--version").output().context("redis-server")?;
    // "Redis server v=7.4.1 sha=…"
    let redis_version = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(Machine {
        processor: processor.unwrap_or("unknown").to_owned(),
        cores,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        redis: redis_version.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or_default().to_owned(),
        persistence: format!("{:?}", host.persistence).to_lowercase(),
        rounds: arguments.rounds,
        seconds_each: arguments.seconds,
        took_seconds: took.as_secs(),
    })
}

impl Machine {
    /// Renders the machine and the run in one sentence.
    pub fn text(&self) -> String {
        let Self { processor, cores, redis, persistence, rounds, seconds_each, took_seconds, .. } = self;
        format!(
            "{cores} cores of {processor}, everything on one machine, the load generator too; Redis {redis}, appendfsync {persistence}; \
             {rounds} rounds, each of which measures 64 connections three times; {seconds_each} s per measurement; \
             {took_seconds} s altogether.\n"
        )
    }
}
