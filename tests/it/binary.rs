//! Tests the binary as an operator runs it first: in an empty directory, without a configured Redis, database or secret.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{
    client::{Client, PASSWORD, Tokens},
    redis::Redis,
    wait,
};

/// A running `latchkey serve`.
pub(crate) struct Service {
    child: Child,
    pub(crate) client: Client,
    log: Arc<Mutex<String>>,
    /// The thread that reads the log from the node's standard error. `None` once it has been joined.
    reader: Option<JoinHandle<()>>,
}

/// The URL of the API, from the line `started` of a node's log.
pub(crate) fn api_url(log: &str) -> Option<String> {
    log.lines().find_map(|line| {
        let fields: Value = serde_json::from_str(line).ok()?;
        Some(fields["api"].as_str()?.to_owned())
    })
}

/// A `latchkey` command in this folder, with quick hashing and a free port.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latchkey"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.env("LATCHKEY_LISTEN", "127.0.0.1:0");
    command.env("LATCHKEY_PASSWORD_MEMORY_KIB", "64").env("LATCHKEY_PASSWORD_ITERATIONS", "1");
    command
}

/// Runs a `latchkey` command to its end.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

impl Service {
    /// Starts a node and waits until it listens.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(folder, &["serve"])
    }

    /// Starts a node with these arguments and waits until it listens.
    pub(crate) fn start_with(folder: &Path, arguments: &[&str]) -> Self {
        Self::try_start_with(folder, arguments).unwrap_or_else(|log| panic!("the node did not start: {log}"))
    }

    /// As [`Self::start_with`], but returns the log of a node that does not start.
    pub(crate) fn try_start_with(folder: &Path, arguments: &[&str]) -> Result<Self, String> {
        Self::spawn(command(folder, arguments))
    }

    /// Starts a node with this command and waits until it listens. Returns the log of a node that does not start.
    pub(crate) fn spawn(mut command: Command) -> Result<Self, String> {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (url_sender, url_receiver) = mpsc::channel();
        let reader = std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                let mut line = String::new();
                while stderr.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                    if let Some(url) = api_url(&line) {
                        // the receiver waits for the first URL only
                        let _ = url_sender.send(url);
                    }
                    log.lock().unwrap().push_str(&line);
                    line.clear();
                }
            }
        });
        let Ok(url) = url_receiver.recv() else {
            // the log ended before the line with the URL
            let _ = child.kill();
            let _ = child.wait();
            let _ = reader.join();
            return Err(log.lock().unwrap().clone());
        };
        Ok(Self { child, client: Client::new(url), log, reader: Some(reader) })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the process to end. Returns its exit code.
    pub(crate) fn wait_for_exit(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log contains a text.
    pub(crate) async fn wait_for_log(&self, text: &str) {
        wait::until(&format!("the log contains {text}"), || async { self.log().contains(text) }).await;
    }

    /// Ends the process by a signal. Returns its exit code, which is `None` if the signal killed the process, and its log.
    pub(crate) fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        self.signal(signal);
        let status = self.child.wait().unwrap();
        // a node that a signal has killed leaves its embedded Redis, which keeps the pipe of the log open: the reader does not end
        if status.code().is_some() {
            self.reader.take().unwrap().join().unwrap();
        }
        (status.code(), self.log.lock().unwrap().clone())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_accounts_survive_restart_and_kill() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    service.client.register("ada").await;
    let first = service.client.login("ada").await;
    // another session, which must stay ended
    let ended = service.client.login("ada").await;
    service.client.logout(&ended.refresh).await.expect(204);
    let (code, log) = service.end(Signal::TERM);
    assert_eq!(code, Some(0), "{log}");

    let service = Service::start(folder.path());
    let second = Tokens::of(&service.client.refresh(&first.refresh).await.expect(200));
    assert_eq!(service.client.refresh(&ended.refresh).await.problem().1, "invalid_refresh_token");
    let (code, _) = service.end(Signal::KILL);
    assert_eq!(code, None);

    // the embedded Redis was left running; the next node takes it over
    let service = Service::start(folder.path());
    let third = Tokens::of(&service.client.refresh(&second.refresh).await.expect(200));
    assert_ne!(third.refresh, second.refresh);
    assert_eq!(service.client.refresh(&ended.refresh).await.problem().1, "invalid_refresh_token");
    let ready = service.client.get_anonymously("/readyz").await.expect(200);
    assert_eq!(ready.json()["status"], "ok", "{}", ready.text);
    let (code, log) = service.end(Signal::INT);
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn created_files_are_readable_by_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    // the permission bits only
    let mode = |path: &str| folder.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("latchkey-data"), 0o700);
    assert_eq!(mode("latchkey-data/secret"), 0o600);
    assert_eq!(mode("latchkey-data/latchkey.db"), 0o600);
    assert_eq!(mode("latchkey-data/redis"), 0o700);
    service.end(Signal::TERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_log_has_one_json_line_per_request_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    service.client.register("ada").await;
    let tokens = service.client.login("ada").await;
    let answer = service.client.get("/v1/me", &tokens.access).await.expect(200);
    let request_id = answer.header("x-request-id").to_owned();
    service.client.refresh(&tokens.refresh).await.expect(200);
    service.client.logout(&tokens.refresh).await.expect(204);
    let (_, log) = service.end(Signal::TERM);
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    // the node logs once that it has stopped, and nothing afterwards
    let stopped_lines = lines.iter().filter(|line| line["message"] == "stopped").count();
    assert_eq!(stopped_lines, 1, "{log}");
    assert_eq!(lines.last().unwrap()["message"], "stopped", "{log}");
    let of_request: Vec<&Value> = lines.iter().filter(|line| line["request_id"] == request_id.as_str()).collect();
    let [line] = of_request[..] else { panic!("{of_request:?}") };
    assert_eq!(line["route"], "me");
    assert_eq!(line["status"], 200);
    assert_eq!(line["method"], "GET");
    assert!(line["micros"].is_u64());
    let node_secret = fs::read_to_string(folder.path().join("latchkey-data/secret")).unwrap();
    for secret in [tokens.access.as_str(), &tokens.refresh, PASSWORD, node_secret.trim()] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_directory_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let second = run(folder.path(), &["serve"]);
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{text}");
    assert!(text.contains("LATCHKEY_DATA_DIR"), "the error names the setting to change: {text}");
    service.end(Signal::TERM);
}

#[test]
fn configuration_error_names_the_key_and_valid_values() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, expected_texts) in [
        (&["serve", "--set", "keys.algorithm=HS256"][..], &["keys.algorithm", "ES256", "EdDSA", "RS256", "PS256"][..]),
        (&["serve", "--set", "session.grace=2m"], &["session.grace", "0s to 1m"]),
        (&["serve", "--set", "session.grce=1s"], &["session.grce", "session.grace"]),
        (&["serve", "--set", "multi_node=true"], &["redis.url"]),
        (&["serve", "--set", "listen=0.0.0.0:8080"], &["issuer", "https://auth.example.com"]),
        (&["config", "check", "--set", "session.grace=2m"], &["session.grace", "0s to 1m"]),
    ] {
        let output = run(folder.path(), arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        for expected in expected_texts {
            assert!(text.contains(expected), "{arguments:?}: no {expected} in {text}");
        }
    }
    assert!(!folder.path().join("latchkey-data").exists(), "nothing was created");
}

#[tokio::test(flavor = "multi_thread")]
async fn start_up_warns_of_a_redis_without_persistence() {
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::start_with(&["--appendonly", "no", "--maxmemory-policy", "allkeys-lru"]);
    let service = Service::start_with(folder.path(), &["serve", "--set", &format!("redis.url={}", redis.url())]);
    wait::until("the log names the missing settings of this Redis", || async {
        let log = service.log();
        ["appendonly yes", "maxmemory-policy noeviction"].iter().all(|advice| log.contains(advice))
    })
    .await;
    let ready = service.client.get_anonymously("/readyz").await.expect(200);
    assert_eq!(ready.json()["status"], "ok", "{}", ready.text);
    service.client.get_anonymously("/livez").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_starts_without_redis_and_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let unused_socket = folder.path().join("redis.sock");
    let setting = format!("redis.url=redis+unix://{}", unused_socket.display());
    let service = Service::start_with(folder.path(), &["serve", "--set", &setting]);
    service.client.get_anonymously("/livez").await.expect(200);
    service.client.get_anonymously("/readyz").await.expect(503);
    service.wait_for_log("not ready: /readyz fails").await;
    assert!(!service.log().contains("\"message\":\"ready\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn start_up_line_has_version_and_node_and_stdout_has_no_banner() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(folder.path(), &["serve"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut log = log.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let started = log.find(|line| line["message"] == "started").unwrap();
    assert_eq!(started["version"], env!("CARGO_PKG_VERSION"));
    assert!(started["node"].is_string(), "{started}");
    assert_eq!(started["pid"], child.id());
    assert_eq!(started["redis"], "embedded");
    assert_eq!(started["database"], "SQLite");
    log.find(|line| line["message"] == "ready").unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    // read the log to its end, because a full pipe would block the process
    log.for_each(drop);
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    let code = child.wait().unwrap().code();
    assert_eq!(code, Some(0));
    assert_eq!(stdout, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reloads_the_log_filter_and_never_ends_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("latchkey.toml");
    fs::write(&config, "log.filter = \"info\"\n").unwrap();
    let service = Service::start(folder.path());
    service.client.get_anonymously("/livez").await.expect(200);
    // The file has not changed since the start.
    service.signal(Signal::HUP);
    service.wait_for_log("\"applied\":\"nothing\"").await;
    assert!(!service.log().contains("\"route\":\"livez\""), "probes are logged at DEBUG");

    fs::write(&config, "log.filter = \"info,latchkey::request=debug\"\nhttp.max_requests = 7\n").unwrap();
    service.signal(Signal::HUP);
    service.wait_for_log("\"applied\":\"log.filter\"").await;
    service.wait_for_log("\"needs_restart\":\"http.max_requests\"").await;
    service.client.get_anonymously("/livez").await.expect(200);
    service.wait_for_log("\"level\":\"DEBUG\"").await;

    // a misspelt level
    fs::write(&config, "log.filter = \"inof\"\n").unwrap();
    service.signal(Signal::HUP);
    service.wait_for_log("configuration not reloaded").await;
    service.client.get_anonymously("/livez").await.expect(200);
    let (code, log) = service.end(Signal::TERM);
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn missing_secret_file_beside_a_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("latchkey-data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("latchkey.db"), "").unwrap();
    let output = run(folder.path(), &["serve"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("secret is missing, although"), "{error}");
    assert!(error.contains("Restore the file from a backup"), "{error}");
    assert!(!data.join("secret").exists(), "the node has created no other secret");
}

#[test]
fn database_in_an_unreadable_folder_is_not_reported_as_missing() {
    // tests may run as root, who can read every folder: a file in place of the folder can't be entered by any user
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for [option, value] in [["--set", "database.url=sqlite:file/latchkey.db"], ["--data-dir", "file"]] {
        let mut list = command(folder.path(), &["user", "list", option, value]);
        // With these settings, the command needs no other file of the data folder.
        list.env("LATCHKEY_SECRET", "a secret of more than thirty-two bytes")
            .env("LATCHKEY_REDIS_URL", "redis://localhost");
        let output = list.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{error}");
        assert!(error.contains("can't be read"), "{error}");
        assert!(!error.contains("there is no "), "{error}");
    }
}
