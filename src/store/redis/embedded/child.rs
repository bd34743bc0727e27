//! The process of the embedded Redis server: start, readiness, stop.

use std::{ffi::OsStr, fs::File, path::PathBuf, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    EmbeddedError, POLL_INTERVAL,
    output::Output,
    wire::{self, Pong},
};

/// How long a server may take from its start to its first answer to a ping.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server that reports that it loads its data may take from its start until it is ready.
const LOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a server may take to stop after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the rest of a server's output after its exit.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts the server of one data folder: at first, and again after each exit.
#[derive(Debug)]
pub(super) struct Launcher {
    binary: PathBuf,
    dir: PathBuf,
    socket: PathBuf,
    /// The locked file that each server inherits as its standard input (see `super::stop_leftover_and_lock`).
    lock: File,
}

impl Launcher {
    pub(super) fn new(binary: PathBuf, dir: PathBuf, socket: PathBuf, lock: File) -> Self {
        Self { binary, dir, socket, lock }
    }

    /// Starts a server and waits until it is ready.
    pub(super) async fn launch(&self) -> Result<Server, EmbeddedError> {
        let mut server = self.spawn().map_err(|source| EmbeddedError::Spawn { binary: self.binary.clone(), source })?;
        let started_at = Instant::now();
        let mut time_limit = START_TIMEOUT;
        loop {
            match wire::ping(&self.socket, server.child.id()).await {
                Pong::Ready => return Ok(server),
                Pong::Loading => time_limit = LOAD_TIMEOUT,
                Pong::Nothing => {}
            }
            let still_runs = matches!(server.child.try_wait(), Ok(None));
            if !still_runs {
                let status = server.wait_for_exit().await;
                return Err(EmbeddedError::Exited { status, output: server.output.last_lines() });
            }
            if started_at.elapsed() > time_limit {
                return Err(EmbeddedError::NotReady {
                    seconds: time_limit.as_secs(),
                    output: server.output.last_lines(),
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn spawn(&self) -> std::io::Result<Server> {
        let mut child = Command::new(&self.binary)
            // With options only, the server reads no configuration file.
            .args(self.arguments())
            // The lock is held until the server exits. The server reads nothing from its standard input.
            .stdin(self.lock.try_clone()?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A process group of its own: Ctrl-C reaches only the service, which then stops the server.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let output = Output::default();
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|stream| tokio::spawn(output.clone().follow(stream))));
        readers.extend(child.stderr.take().map(|stream| tokio::spawn(output.clone().follow(stream))));
        Ok(Server { child, output, readers })
    }

    /// The options of the server: no TCP port, a socket for its owner only, every write on disk before its answer, no eviction. The
    /// append-only file makes snapshots unnecessary: an empty `save` turns them off.
    fn arguments(&self) -> [&OsStr; 18] {
        [
            "--port".as_ref(),
            "0".as_ref(),
            "--unixsocket".as_ref(),
            self.socket.as_ref(),
            "--unixsocketperm".as_ref(),
            "700".as_ref(),
            "--dir".as_ref(),
            self.dir.as_ref(),
            "--appendonly".as_ref(),
            "yes".as_ref(),
            "--appendfsync".as_ref(),
            "always".as_ref(),
            "--maxmemory-policy".as_ref(),
            "noeviction".as_ref(),
            "--save".as_ref(),
            "".as_ref(),
            "--daemonize".as_ref(),
            "no".as_ref(),
        ]
    }
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    output: Output,
    /// The tasks that read the server's standard output and standard error.
    readers: Vec<JoinHandle<()>>,
}

impl Server {
    /// Waits for the exit of the server and the rest of its output. Returns the exit status.
    pub(super) async fn wait_for_exit(&mut self) -> String {
        let status = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        for reader in self.readers.drain(..) {
            // A process that inherited the server's output may keep it open.
            let _ = timeout(OUTPUT_TIMEOUT, reader).await;
        }
        status
    }

    /// The last lines of the server's output.
    pub(super) fn last_output(&self) -> String {
        self.output.last_lines()
    }

    /// Stops the server: sends SIGTERM, and kills the server if it does not exit within [`STOP_TIMEOUT`].
    pub(super) async fn stop(mut self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, Signal::TERM)
        {
            tracing::warn!(%error, pid = pid.as_raw_nonzero().get(), "sending SIGTERM to the embedded Redis failed: it is killed after {} s", STOP_TIMEOUT.as_secs());
        }
        if timeout(STOP_TIMEOUT, self.wait_for_exit()).await.is_err() {
            tracing::warn!(
                "the embedded Redis did not stop within {} s: killing it; no acknowledged write is lost",
                STOP_TIMEOUT.as_secs()
            );
            if let Err(error) = self.child.kill().await {
                tracing::error!(
                    %error,
                    pid = pid.map(|pid| pid.as_raw_nonzero().get()),
                    "killing the embedded Redis failed: the server may still run, and the next start stops it"
                );
            }
        }
    }
}
