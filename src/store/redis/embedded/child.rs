//! One run of the server: how it is started, when it is ready, how it is ended.

use std::{ffi::OsStr, fs::File, path::PathBuf, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    EmbeddedError, POLL,
    output::Output,
    wire::{self, Pong},
};

/// How long a server may take to answer, not counting the time that it reads its data.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to read its data.
const LOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// How long it may take to end after it was told to.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the rest of its output after it ended.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts servers in one folder.
#[derive(Debug)]
pub(super) struct Launcher {
    binary: PathBuf,
    dir: PathBuf,
    socket: PathBuf,
    /// Locked; each server has it as its standard input.
    lock: File,
}

impl Launcher {
    pub(super) fn new(binary: PathBuf, dir: PathBuf, socket: PathBuf, lock: File) -> Self {
        Self { binary, dir, socket, lock }
    }

    /// Starts a server and waits until it is ready.
    pub(super) async fn launch(&self) -> Result<Server, EmbeddedError> {
        let mut server = self.spawn().map_err(|source| EmbeddedError::Spawn { binary: self.binary.clone(), source })?;
        let started = Instant::now();
        let mut limit = START_TIMEOUT;
        loop {
            match wire::ping(&self.socket, server.child.id()).await {
                Pong::Ready => return Ok(server),
                Pong::Loading => limit = LOAD_TIMEOUT,
                Pong::Nothing => {}
            }
            if !matches!(server.child.try_wait(), Ok(None)) {
                let status = server.ended().await;
                return Err(EmbeddedError::Exited { status, output: server.output.last() });
            }
            if started.elapsed() > limit {
                return Err(EmbeddedError::NotReady { seconds: limit.as_secs(), output: server.output.last() });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn spawn(&self) -> std::io::Result<Server> {
        let mut child = Command::new(&self.binary)
            // With options and no file, no configuration of the user's is read.
            .args(self.arguments())
            .stdin(self.lock.try_clone()?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal is for the service, which then ends its server in its own time.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let output = Output::default();
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|stream| tokio::spawn(output.clone().follow(stream))));
        readers.extend(child.stderr.take().map(|stream| tokio::spawn(output.clone().follow(stream))));
        Ok(Server { child, output, readers })
    }

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

/// A server that runs. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    output: Output,
    readers: Vec<JoinHandle<()>>,
}

impl Server {
    /// Waits for its end, and says how it ended.
    pub(super) async fn ended(&mut self) -> String {
        let status = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        for reader in self.readers.drain(..) {
            let _ = timeout(OUTPUT_TIMEOUT, reader).await;
        }
        status
    }

    /// The last lines it wrote.
    pub(super) fn last_output(&self) -> String {
        self.output.last()
    }

    /// Tells it to end, and kills it if it doesn't.
    pub(super) async fn stop(mut self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, Signal::TERM)
        {
            tracing::warn!(%error, "can't tell the private Redis to end");
        }
        if timeout(STOP_TIMEOUT, self.ended()).await.is_err() {
            tracing::error!("killing the private Redis, which didn't end in time");
            if let Err(error) = self.child.kill().await {
                tracing::error!(%error, "can't kill the private Redis");
            }
        }
    }
}
