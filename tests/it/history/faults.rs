//! Fault injection: one fault at a time for a random duration, chosen by the seed.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use super::{nodes::Bench, random::Random, record::Record};
use crate::harness::fault_proxy::Mode;

/// A fault of Redis.
#[derive(Clone, Copy, Debug)]
enum Redis {
    Killed,
    Hung,
    Paused,
    WritesPaused,
    Full,
    ReadOnly,
    Busy,
    ForgetsScripts,
    CutsConnections,
}

/// A fault of a node or of its connection to Redis.
#[derive(Clone, Copy, Debug)]
enum Node {
    Killed,
    Hung,
    Cut,
    Frozen,
    Slow,
}

/// Injects faults into Redis until `done`, with pauses between them.
pub async fn inject_into_redis(bench: &Bench, record: &Record, mut random: Random, done: Duration) {
    use Redis::{Busy, CutsConnections, ForgetsScripts, Full, Hung, Killed, Paused, ReadOnly, WritesPaused};
    let kinds = [Killed, Killed, Hung, Paused, WritesPaused, Full, ReadOnly, Busy, ForgetsScripts, CutsConnections];
    loop {
        tokio::time::sleep(random.millis(500, 4000)).await;
        if record.elapsed() >= done {
            return;
        }
        let (kind, lasts) = (*random.pick(&kinds), random.millis(100, 2500));
        record.fault(format!("Redis: {kind:?} for {lasts:?}"));
        inject_redis_fault(bench, kind, lasts).await;
        record.fault("Redis: recovered".to_owned());
    }
}

async fn inject_redis_fault(bench: &Bench, kind: Redis, lasts: Duration) {
    let say = |words: &[&str]| tokio::task::block_in_place(|| bench.server.lock().unwrap().command(words));
    let signal = |signal| bench.server.lock().unwrap().signal(signal);
    let millis = lasts.as_millis().to_string();
    match kind {
        Redis::Killed => {
            signal(Signal::KILL);
            tokio::time::sleep(lasts).await;
            tokio::task::block_in_place(|| bench.server.lock().unwrap().restart());
        }
        Redis::Hung => {
            signal(Signal::STOP);
            tokio::time::sleep(lasts).await;
            signal(Signal::CONT);
        }
        Redis::Paused | Redis::WritesPaused => {
            say(&["CLIENT", "PAUSE", &millis, if matches!(kind, Redis::Paused) { "ALL" } else { "WRITE" }]);
            tokio::time::sleep(lasts).await;
        }
        Redis::Full => {
            say(&["CONFIG", "SET", "maxmemory", "1mb"]);
            tokio::time::sleep(lasts).await;
            say(&["CONFIG", "SET", "maxmemory", "0"]);
        }
        Redis::ReadOnly => {
            say(&["REPLICAOF", "127.0.0.1", "1"]);
            tokio::time::sleep(lasts).await;
            say(&["REPLICAOF", "NO", "ONE"]);
        }
        Redis::Busy => {
            let socket = bench.server.lock().unwrap().socket();
            let mut endless = Command::new("redis-cli")
                .arg("-s")
                .arg(socket)
                .args(["EVAL", "while true do end", "0"])
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            tokio::time::sleep(lasts).await;
            // the script may not have started yet
            while endless.try_wait().unwrap().is_none() {
                say(&["SCRIPT", "KILL"]);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Redis::ForgetsScripts => drop(say(&["SCRIPT", "FLUSH"])),
        Redis::CutsConnections => drop(say(&["CLIENT", "KILL", "TYPE", "normal"])),
    }
}

/// Injects faults into nodes until `done`.
pub async fn inject_into_nodes(bench: &Bench, record: &Record, mut random: Random, done: Duration) {
    use Node::{Cut, Frozen, Hung, Killed, Slow};
    loop {
        tokio::time::sleep(random.millis(500, 5000)).await;
        if record.elapsed() >= done {
            return;
        }
        let number = random.below(bench.nodes.len());
        let (kind, lasts) = (*random.pick(&[Killed, Hung, Cut, Frozen, Slow]), random.millis(50, 2500));
        let node = &bench.nodes[number];
        record.fault(format!("node {number}: {kind:?} for {lasts:?}"));
        match kind {
            Killed => {
                node.kill();
                tokio::time::sleep(lasts).await;
                node.restart();
            }
            Hung => {
                node.signal(Signal::STOP);
                tokio::time::sleep(lasts).await;
                node.signal(Signal::CONT);
            }
            Cut | Frozen | Slow => {
                node.proxy.set(match kind {
                    Cut => Mode::Cut,
                    Frozen => Mode::Frozen,
                    _ => Mode::Slow(Duration::from_millis(300)),
                });
                tokio::time::sleep(lasts).await;
                node.remove_fault();
            }
        }
        record.fault(format!("node {number}: recovered"));
    }
}
