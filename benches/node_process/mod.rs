//! A node process for benchmarks, with the Redis and the folder of the benchmark, and without rate limits.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::harness::{client::Client, redis::Redis, test_cluster::ServiceClient};

/// The nodes' setting `secret`.
pub const SECRET: &str = "a benchmark's secret that is long enough";

/// A running node. Killed when dropped.
pub struct NodeProcess {
    pub child: Child,
    /// A client of the node's API.
    pub client: Client,
}

/// The `latchkey` command with these arguments. `settings` are further environment variables.
fn latchkey_command(folder: &Path, redis: &Redis, settings: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latchkey"));
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .env("LATCHKEY_LISTEN", "127.0.0.1:0")
        .env("LATCHKEY_ISSUER", "https://auth.example.com")
        .env("LATCHKEY_REDIS_URL", redis.url())
        .env("LATCHKEY_SECRET", SECRET)
        // info includes the line `started`, from which `NodeProcess::start` reads the address
        .env("LATCHKEY_LOG_FILTER", "error,latchkey::cli=info")
        // without rate limits, because all callers share one IP address
        .env("LATCHKEY_LIMITS_LOGIN_PER_ADDRESS", "off")
        .env("LATCHKEY_LIMITS_LOGIN_BACKOFF_AFTER", "off")
        .env("LATCHKEY_LIMITS_REGISTRATION_PER_ADDRESS", "off")
        .envs(settings.iter().copied());
    command
}

impl NodeProcess {
    /// Starts a node and waits until it listens.
    pub fn start(folder: &Path, redis: &Redis, settings: &[(&str, &str)]) -> Self {
        let mut command = latchkey_command(folder, redis, settings, &["serve"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        // the line `started` is the first with the address of the API
        let api = lines.find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).ok()?;
            Some(line["api"].as_str()?.to_owned())
        });
        // a node whose pipe is full would block
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, client: Client::new(api.expect("the node starts")) }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Adds a service client, and returns its id and secret.
pub fn service_client(folder: &Path, redis: &Redis, settings: &[(&str, &str)]) -> ServiceClient {
    let added = latchkey_command(folder, redis, settings, &["client", "add", "bench"]).output().unwrap();
    assert!(added.status.success(), "{added:?}");
    let text = String::from_utf8(added.stdout).unwrap();
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    ServiceClient { id: value("client_id: "), secret: value("client_secret: ") }
}
