//! Redis servers for tests, each on a Unix socket in its own folder.

use std::path::PathBuf;

use super::guard::{self, Guard, Spec};

/// A running server. Stopped, and its folder deleted, when dropped or when the test process ends.
pub struct Redis {
    pub guard: Guard,
    socket: PathBuf,
}

impl Redis {
    /// Starts the machine's `redis-server` with the documented persistence settings.
    pub fn start() -> Self {
        Self::start_with("redis-server", &["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts any server binary with these arguments.
    pub fn start_with(program: &str, arguments: &[&str]) -> Self {
        let folder = guard::folder_in_memory("redis");
        let socket = folder.join("redis.sock");
        let (folder_text, socket_text) = (folder.to_str().unwrap(), socket.to_str().unwrap());
        let mut command = vec![program, "--port", "0", "--unixsocket", socket_text, "--dir", folder_text, "--save", ""];
        command.extend(arguments);
        let spec = Spec {
            command: &command,
            stop: "KILL",
            folder: Some(&folder),
            ready: "eady to accept connections",
            unprivileged: false,
        };
        let guard = Guard::start(&spec).unwrap_or_else(|error| {
            panic!("{program} can't be started; `make test` installs what tests need.\n{error}")
        });
        Self { guard, socket }
    }

    /// Returns the value for `redis.url`.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }

    /// The Unix socket.
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// Runs one command with `redis-cli` and returns its raw output.
    pub fn command(&self, words: &[&str]) -> String {
        let output = std::process::Command::new("redis-cli").arg("-s").arg(&self.socket).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Dumps all keys, fields and values as bytes to search in.
    pub fn everything(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let scanned = self.command(&["--scan"]);
        // SCAN has no order, and rate-limit keys expire by themselves
        let mut keys: Vec<_> = scanned.lines().filter(|key| !key.starts_with("lk:l")).collect();
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
            let output = std::process::Command::new("redis-cli").arg("-s").arg(&self.socket).args(&dump).output();
            all.extend(output.unwrap().stdout);
        }
        all
    }
}
