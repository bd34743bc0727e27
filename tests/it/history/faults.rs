//! Fault injection: one fault at a time for a random duration, chosen by the seed.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use super::{
    nodes::{Node, ProcessCluster},
    random::Random,
    record::Record,
};
use crate::harness::fault_proxy::Mode;

/// A fault of Redis.
#[derive(Clone, Copy, Debug)]
enum RedisFault {
    /// Killed, and restarted on its data.
    Killed,
    /// The process is stopped by the signal STOP, and later continued.
    Hung,
    /// `CLIENT PAUSE` delays all commands.
    Paused,
    /// `CLIENT PAUSE` delays commands that write.
    WritesPaused,
    /// The memory limit is reached: writes are refused.
    Full,
    /// Made a replica of a server that does not exist: writes are refused.
    ReadOnly,
    /// Runs an endless script.
    Busy,
    /// `SCRIPT FLUSH`
    ForgetsScripts,
    /// `CLIENT KILL` of all connections of clients.
    CutsConnections,
}

/// A fault of a node or of its connection to Redis.
#[derive(Clone, Copy, Debug)]
enum NodeFault {
    /// Killed, and restarted.
    Killed,
    /// The process is stopped by the signal STOP, and later continued.
    Hung,
    /// The connections to Redis are reset ([`Mode::Cut`]).
    Cut,
    /// The connections to Redis transfer nothing ([`Mode::Frozen`]).
    Frozen,
    /// The connections to Redis are slow ([`Mode::Slow`]).
    Slow,
}

/// Injects faults into Redis, with pauses between them, until `end`, a time since the history began.
pub async fn inject_into_redis(cluster: &ProcessCluster, record: &Record, mut random: Random, end: Duration) {
    use RedisFault::{Busy, CutsConnections, ForgetsScripts, Full, Hung, Killed, Paused, ReadOnly, WritesPaused};
    // a kill is twice as likely as any other fault
    let kinds = [Killed, Killed, Hung, Paused, WritesPaused, Full, ReadOnly, Busy, ForgetsScripts, CutsConnections];
    loop {
        tokio::time::sleep(random.millis(500, 4000)).await;
        if record.elapsed() >= end {
            return;
        }
        let kind = *random.pick(&kinds);
        let duration = random.millis(100, 2500);
        record.record_fault(format!("Redis: {kind:?} for {duration:?}"));
        inject_redis_fault(cluster, kind, duration).await;
        record.record_fault("Redis: recovered".to_owned());
    }
}

async fn inject_redis_fault(cluster: &ProcessCluster, kind: RedisFault, duration: Duration) {
    let command = |words: &[&str]| tokio::task::block_in_place(|| cluster.server.lock().unwrap().command(words));
    let signal = |signal| cluster.server.lock().unwrap().signal(signal);
    let millis = duration.as_millis().to_string();
    match kind {
        RedisFault::Killed => {
            signal(Signal::KILL);
            tokio::time::sleep(duration).await;
            tokio::task::block_in_place(|| cluster.server.lock().unwrap().restart());
        }
        RedisFault::Hung => {
            signal(Signal::STOP);
            tokio::time::sleep(duration).await;
            signal(Signal::CONT);
        }
        RedisFault::Paused | RedisFault::WritesPaused => {
            let paused_commands = if matches!(kind, RedisFault::Paused) { "ALL" } else { "WRITE" };
            command(&["CLIENT", "PAUSE", &millis, paused_commands]);
            tokio::time::sleep(duration).await;
        }
        RedisFault::Full => {
            // the server uses more already
            command(&["CONFIG", "SET", "maxmemory", "1mb"]);
            tokio::time::sleep(duration).await;
            // 0: no limit
            command(&["CONFIG", "SET", "maxmemory", "0"]);
        }
        RedisFault::ReadOnly => {
            // no server listens on port 1
            command(&["REPLICAOF", "127.0.0.1", "1"]);
            tokio::time::sleep(duration).await;
            command(&["REPLICAOF", "NO", "ONE"]);
        }
        RedisFault::Busy => {
            let socket = cluster.server.lock().unwrap().socket();
            let mut endless = Command::new("redis-cli")
                .arg("-s")
                .arg(socket)
                .args(["EVAL", "while true do end", "0"])
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            tokio::time::sleep(duration).await;
            // the script may not have started yet
            while endless.try_wait().unwrap().is_none() {
                command(&["SCRIPT", "KILL"]);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        // The last two faults take no time: they ignore the duration.
        RedisFault::ForgetsScripts => drop(command(&["SCRIPT", "FLUSH"])),
        RedisFault::CutsConnections => drop(command(&["CLIENT", "KILL", "TYPE", "normal"])),
    }
}

/// Injects faults into nodes, with pauses between them, until `end`, a time since the history began.
pub async fn inject_into_nodes(cluster: &ProcessCluster, record: &Record, mut random: Random, end: Duration) {
    use NodeFault::{Cut, Frozen, Hung, Killed, Slow};
    loop {
        tokio::time::sleep(random.millis(500, 5000)).await;
        if record.elapsed() >= end {
            return;
        }
        let number = random.below(cluster.nodes.len());
        let kind = *random.pick(&[Killed, Hung, Cut, Frozen, Slow]);
        let duration = random.millis(50, 2500);
        let node = &cluster.nodes[number];
        record.record_fault(format!("node {number}: {kind:?} for {duration:?}"));
        match kind {
            Killed => {
                node.kill();
                tokio::time::sleep(duration).await;
                node.restart();
            }
            Hung => {
                node.signal(Signal::STOP);
                tokio::time::sleep(duration).await;
                node.signal(Signal::CONT);
            }
            Cut => disturb_connections(node, Mode::Cut, duration).await,
            Frozen => disturb_connections(node, Mode::Frozen, duration).await,
            Slow => disturb_connections(node, Mode::Slow(Duration::from_millis(300)), duration).await,
        }
        record.record_fault(format!("node {number}: recovered"));
    }
}

/// Disturbs the connections between a node and Redis for this duration.
async fn disturb_connections(node: &Node, mode: Mode, duration: Duration) {
    node.proxy.set(mode);
    tokio::time::sleep(duration).await;
    node.remove_fault();
}
