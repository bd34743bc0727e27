//! Redis and Valkey servers for tests, each in a folder of its own, restartable in place.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;

use super::guard::{self, Guard, Spec};

/// The documented persistence settings: with them, no acknowledged write is lost.
pub const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// The port of a server that listens on its Unix socket only.
const NO_PORT: u16 = 0;

/// A running server. Stopped, and its folder deleted, when dropped or when the test process ends.
pub struct Redis {
    /// The server's processes since the start, the current one last. The first guard deletes the folder.
    guards: Vec<Guard>,
    command: Vec<String>,
    folder: PathBuf,
    port: u16,
}

impl Redis {
    /// Starts the machine's `redis-server` with the documented persistence settings.
    pub fn start() -> Self {
        Self::start_with(DURABLE)
    }

    /// Starts the machine's `redis-server` with these arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::launch("redis-server", NO_PORT, arguments)
    }

    /// Starts the machine's `redis-server` on its Unix socket and on a free port.
    pub fn with_port(arguments: &[&str]) -> Self {
        Self::launch("redis-server", guard::free_port(), arguments)
    }

    /// A server that has been killed. [`Redis::restart`] starts it.
    pub fn stopped(arguments: &[&str]) -> Self {
        let server = Self::start_with(arguments);
        server.kill();
        server
    }

    /// Starts this program on a Unix socket, and on `port` unless that is [`NO_PORT`]. `FOLDER` in an argument stands for the server's
    /// folder.
    pub fn launch(program: &str, port: u16, arguments: &[&str]) -> Self {
        let folder = guard::folder_in_memory("redis");
        let mut command = vec![program.to_owned()];
        // an empty `--save`: no snapshots
        let defaults =
            ["--port", &port.to_string(), "--unixsocket", "FOLDER/redis.sock", "--dir", "FOLDER", "--save", ""];
        let insert_folder = |text: &&str| text.replace("FOLDER", folder.to_str().unwrap());
        command.extend(defaults.iter().map(insert_folder));
        command.extend(arguments.iter().map(insert_folder));
        let guard = run(&command, Some(&folder)).unwrap_or_else(|error| {
            panic!("{program} can't be started; `make test` installs what tests need.\n{error}")
        });
        Self { guards: vec![guard], command, folder, port }
    }

    /// Kills the server, as a power cut would.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends the server a signal.
    pub fn signal(&self, signal: Signal) {
        self.guards.last().unwrap().signal(signal);
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.guards.last().unwrap().pid()
    }

    /// Starts the server again after [`Redis::kill`].
    pub fn restart(&mut self) {
        self.guards.push(run(&self.command, None).unwrap());
    }

    /// The server's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The port on 127.0.0.1, or [`NO_PORT`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    /// The value for `redis.url`.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Runs one command with `redis-cli` and returns its raw output.
    pub fn command(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli").arg("-s").arg(self.socket()).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Returns all keys, fields and values except those of rate limits, for tests that search or compare the bytes.
    pub fn dump(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let listing = self.command(&["--scan"]);
        // The keys of rate limits (`lk:l…`) may expire between two dumps.
        let mut keys: Vec<_> = listing.lines().filter(|key| !key.starts_with("lk:l")).collect();
        // SCAN returns the keys in no order.
        keys.sort_unstable();
        for key in keys {
            all.extend(key.as_bytes());
            let dump = match self.command(&["TYPE", key]).as_str() {
                "hash" => vec!["HGETALL", key],
                "stream" => vec!["XRANGE", key, "-", "+"],
                "string" => vec!["GET", key],
                // the key has expired meanwhile
                "none" => continue,
                other => panic!("a key of the type {other}"),
            };
            // not `Self::command`: values are not UTF-8
            let output = Command::new("redis-cli").arg("-s").arg(self.socket()).args(&dump).output();
            all.extend(output.unwrap().stdout);
        }
        all
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // last to first: the running process ends before the first guard deletes the folder
        while let Some(guard) = self.guards.pop() {
            drop(guard);
        }
    }
}

/// Starts a server. Its guard deletes `folder`, if given, when it is dropped.
fn run(command: &[String], folder: Option<&Path>) -> Result<Guard, String> {
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    Guard::start(&Spec {
        command: &command,
        stop: "KILL",
        folder,
        // `Ready` or `ready`, which depends on the release and the kind of socket
        ready: "eady to accept connections",
        unprivileged: false,
    })
}
