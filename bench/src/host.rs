//! The host of a run: programs, working folder, free ports and child processes.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::{load, procfs, resp::Resp};

/// Maximum time from the start of a server until it is ready.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The slots of a Redis Cluster.
const CLUSTER_SLOTS: usize = 16_384;

/// The paths of a run's programs and output, and the persistence of its Redis servers.
pub struct Host {
    /// The source tree of Latchkey.
    pub root: PathBuf,
    /// The folder of the benchmark's binaries.
    pub programs: PathBuf,
    /// The output folder: logs and data.
    pub folder: PathBuf,
    /// Persistence of the Redis servers, unless a measurement sets another.
    pub persistence: Persistence,
    /// Removes `folder` when dropped; `None` for a subfolder.
    _temporary: Option<TempDir>,
}

/// Redis persistence: `appendonly` and `appendfsync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Persistence {
    /// `appendfsync always`, which Latchkey's documentation requires: no acknowledged write is lost.
    Always,
    /// `appendfsync everysec`.
    Everysec,
    /// No append-only file.
    Off,
}

impl Host {
    /// Finds the programs in the folder of the running binary, and creates a temporary output folder in the source tree.
    pub fn find(persistence: Persistence) -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("finding the source tree")?.to_owned();
        let programs = std::env::current_exe()?.parent().context("finding the folder of this program")?.to_owned();
        fs::create_dir_all(root.join("target/bench"))?;
        let temporary = tempfile::tempdir_in(root.join("target/bench"))?;
        let folder = temporary.path().to_owned();
        Ok(Self { root, programs, folder, persistence, _temporary: Some(temporary) })
    }

    /// Returns a host whose output goes to a subfolder.
    pub fn subfolder(&self, name: &str) -> anyhow::Result<Self> {
        Ok(Self {
            root: self.root.clone(),
            programs: self.programs.clone(),
            folder: self.create_folder(name)?,
            persistence: self.persistence,
            _temporary: None,
        })
    }

    /// Creates a subfolder of the output folder, and returns its path.
    pub fn create_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Path of the `latchkey` binary, which the environment variable `LATCHKEY_PROGRAM` overrides.
    pub fn latchkey(&self) -> PathBuf {
        std::env::var_os("LATCHKEY_PROGRAM").map_or_else(|| self.programs.join("latchkey"), PathBuf::from)
    }

    /// Path of a program installed by `.ci/install.sh bench`.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.root.join("target/tools/bench").join(name)
    }
}

/// A process. Dropping it kills the process and its descendants.
pub struct Process {
    child: Child,
    /// Process ids of the server and its workers.
    pub pids: Vec<u32>,
    /// Time from start to the first response.
    pub started_in: Duration,
}

impl Process {
    /// Starts a program, writes its output to `log` and waits up to [`START_TIMEOUT`] until `is_ready` returns true.
    pub fn start(mut command: Command, log: &Path, is_ready: impl Fn() -> bool) -> anyhow::Result<Self> {
        let log_file = File::create(log)?;
        let command_line = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(log_file.try_clone()?).stderr(log_file);
        let start = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {command_line}"))?;
        // built before the program is ready: if the start fails, dropping this kills the program
        let mut process = Self { child, pids: Vec::new(), started_in: Duration::ZERO };
        while !is_ready() {
            let has_exited = process.child.try_wait()?.is_some();
            if has_exited || start.elapsed() > START_TIMEOUT {
                bail!("{command_line} doesn't start: {}", fs::read_to_string(log).unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(1));
        }
        process.started_in = start.elapsed();
        process.pids = procfs::process_tree(process.child.id());
        Ok(process)
    }

    /// Updates `pids`: some workers start only after the first response.
    pub fn update_pids(&mut self) {
        self.pids = procfs::process_tree(self.child.id());
    }

    /// CPU time and memory used so far.
    pub fn usage(&self) -> procfs::Usage {
        procfs::usage(&self.pids)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for pid in procfs::process_tree(self.child.id()) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

/// Picks a port of 127.0.0.1 that is free now.
///
/// The port, from 12,000 to 21,999, is outside the ephemeral range, so that no outgoing connection takes it before its server
/// starts. No two of these ports are 10,000 apart: a node of a Redis Cluster also listens on the port 10,000 above its own.
pub fn free_port() -> anyhow::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u16 = 12_000;
    const COUNT: u32 = 10_000;
    for _ in 0..COUNT {
        // Benchmarks that run at the same time begin at different ports: 251 apart if their process ids are consecutive.
        let number = std::process::id().wrapping_mul(251).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = FIRST + u16::try_from(number)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("none of {COUNT} ports is free")
}

/// Returns whether the server at this address answers `GET /livez` with 200.
pub fn is_alive(address: SocketAddr) -> bool {
    /// A workload of one request.
    struct LivenessProbe {
        is_sent: bool,
        is_alive: bool,
    }
    impl load::Workload for LivenessProbe {
        fn request(&mut self, _: usize, out: &mut Vec<u8>) -> Option<usize> {
            if self.is_sent {
                return None;
            }
            self.is_sent = true;
            out.extend(b"GET /livez HTTP/1.1\r\nHost: bench\r\n\r\n");
            Some(0) // the only class of requests
        }
        fn answer(&mut self, _: usize, _: usize, answer: &load::Answer<'_>) -> Result<(), String> {
            self.is_alive = answer.status == 200;
            Ok(())
        }
    }
    let mut probe = LivenessProbe { is_sent: false, is_alive: false };
    load::exhaust(address, 1, &mut probe).is_ok() && probe.is_alive
}

/// A Redis server of one target.
pub struct RedisServer {
    /// The server process.
    pub process: Process,
    /// The port on loopback.
    pub port: u16,
}

impl RedisServer {
    /// Starts an empty Redis.
    pub fn start(host: &Host, name: &str, persistence: Persistence) -> anyhow::Result<Self> {
        Self::start_with(host, name, persistence, &[])
    }

    /// Starts a Redis Cluster of three masters with evenly spread slots. Returns the masters and the URL of the cluster.
    pub fn start_cluster(host: &Host, name: &str) -> anyhow::Result<(Vec<Self>, String)> {
        let start = |i| Self::start_with(host, &format!("{name}-{i}"), host.persistence, &["--cluster-enabled", "yes"]);
        let masters = (0..3).map(start).collect::<anyhow::Result<Vec<_>>>()?;
        let ports: Vec<String> = masters.iter().map(|master| master.port.to_string()).collect();
        for (i, master) in masters.iter().enumerate() {
            let first = i * CLUSTER_SLOTS / 3;
            let last = (i + 1) * CLUSTER_SLOTS / 3 - 1;
            let mut redis = Resp::connect(master.port)?;
            redis.call(&[b"CLUSTER", b"ADDSLOTSRANGE", first.to_string().as_bytes(), last.to_string().as_bytes()])?;
            // masters with equal config epochs would first have to change them
            redis.call(&[b"CLUSTER", b"SET-CONFIG-EPOCH", (i + 1).to_string().as_bytes()])?;
            for port in &ports[..i] {
                redis.call(&[b"CLUSTER", b"MEET", b"127.0.0.1", port.as_bytes()])?;
            }
        }
        let start = Instant::now();
        for master in &masters {
            let mut redis = Resp::connect(master.port)?;
            loop {
                let info = redis.call(&[b"CLUSTER", b"INFO"])?;
                if info.contains(&format!("cluster_slots_ok:{CLUSTER_SLOTS}")) && info.contains("cluster_state:ok") {
                    break;
                }
                ensure!(start.elapsed() < START_TIMEOUT, "the Redis Cluster doesn't start: {info}");
                thread::sleep(Duration::from_millis(20));
            }
        }
        let url =
            format!("redis-cluster://127.0.0.1:{}?node=127.0.0.1:{}&node=127.0.0.1:{}", ports[0], ports[1], ports[2]);
        Ok((masters, url))
    }

    /// Starts an empty Redis with further arguments.
    fn start_with(host: &Host, name: &str, persistence: Persistence, further: &[&str]) -> anyhow::Result<Self> {
        let folder = host.create_folder(&format!("redis-{name}"))?;
        let port = free_port()?;
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--daemonize", "no"]);
        command.args(["--maxmemory-policy", "noeviction"]).arg("--dir").arg(&folder);
        // a rewrite of the append-only file would slow whichever target is measured at that moment
        command.args(["--auto-aof-rewrite-percentage", "0"]);
        match persistence {
            Persistence::Always => command.args(["--appendonly", "yes", "--appendfsync", "always"]),
            Persistence::Everysec => command.args(["--appendonly", "yes", "--appendfsync", "everysec"]),
            Persistence::Off => command.args(["--appendonly", "no"]),
        };
        command.args(further);
        let answers_ping = || Resp::connect(port).is_ok_and(|mut redis| redis.call(&[b"PING"]).is_ok());
        let process = Process::start(command, &folder.join("log"), answers_ping)?;
        Ok(Self { process, port })
    }

    /// Returns the URL of the server.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}
