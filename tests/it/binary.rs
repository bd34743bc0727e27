//! The binary itself, as a person runs it: an empty folder, no Redis, no database, no secret configured.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{
    client::{Client, Tokens},
    redis::Redis,
    wait,
};

/// A service that was started by the command line.
pub(crate) struct Service {
    child: Child,
    pub(crate) client: Client,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latchkey"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.env("LATCHKEY_LISTEN", "127.0.0.1:0");
    // quick hashing: these tests are about the rest
    command.env("LATCHKEY_PASSWORD_MEMORY_KIB", "64").env("LATCHKEY_PASSWORD_ITERATIONS", "1");
    command
}

pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

impl Service {
    /// Starts it and waits until it says where it listens.
    fn start(folder: &Path) -> Self {
        Self::start_with(folder, &["serve"])
    }

    /// The same with arguments.
    fn start_with(folder: &Path, arguments: &[&str]) -> Self {
        Self::try_start_with(folder, arguments).unwrap_or_else(|log| panic!("it didn't start: {log}"))
    }

    /// The same; gives its log if it doesn't start.
    pub(crate) fn try_start_with(folder: &Path, arguments: &[&str]) -> Result<Self, String> {
        let mut child = command(folder, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let reader = std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                let mut line = String::new();
                while stderr.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                    log.lock().unwrap().push_str(&std::mem::take(&mut line));
                }
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let address =
            stdout.find_map(|line| line.unwrap().trim().strip_prefix("API ").map(|url| url.trim().to_owned()));
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            let _ = reader.join();
            return Err(log.lock().unwrap().clone());
        };
        std::thread::spawn(move || stdout.for_each(drop));
        Ok(Self { child, client: Client::new(address), log, reader: Some(reader) })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end; gives its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Ends it by a signal; gives its exit code and its log.
    pub(crate) fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        self.signal(signal);
        let status = self.child.wait().unwrap();
        // a private Redis that outlives a killed service keeps the log's pipe open
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
async fn sessions_and_accounts_survive_a_restart_and_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    service.client.account("ada").await;
    let first = service.client.login("ada").await;
    let ended = service.client.login("ada").await;
    service.client.logout(&ended.refresh).await.expect(204);
    let (code, log) = service.end(Signal::TERM);
    assert_eq!(code, Some(0), "{log}");

    let service = Service::start(folder.path());
    let second = Tokens::of(&service.client.refresh(&first.refresh).await.expect(200));
    assert_eq!(service.client.refresh(&ended.refresh).await.problem().1, "invalid_refresh_token");
    assert_eq!(service.end(Signal::KILL).0, None);

    // its Redis was left behind, and is taken over
    let service = Service::start(folder.path());
    let third = Tokens::of(&service.client.refresh(&second.refresh).await.expect(200));
    assert_ne!(third.refresh, second.refresh);
    assert_eq!(service.client.refresh(&ended.refresh).await.problem().1, "invalid_refresh_token");
    let ready = service.client.get("/readyz", "").await.expect(200);
    assert_eq!(ready.json()["status"], "ok", "{}", ready.text);
    assert_eq!(service.end(Signal::INT).0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_makes_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let mode = |path: &str| folder.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("latchkey-data"), 0o700);
    assert_eq!(mode("latchkey-data/secret"), 0o600);
    assert_eq!(mode("latchkey-data/latchkey.db"), 0o600);
    assert_eq!(mode("latchkey-data/redis"), 0o700);
    drop(service.end(Signal::TERM));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_one_json_line_per_request_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    service.client.account("ada").await;
    let tokens = service.client.login("ada").await;
    let answer = service.client.get("/v1/me", &tokens.access).await.expect(200);
    let id = answer.header("x-request-id").to_owned();
    service.client.refresh(&tokens.refresh).await.expect(200);
    service.client.logout(&tokens.refresh).await.expect(204);
    let (_, log) = service.end(Signal::TERM);
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let mine: Vec<&Value> = lines.iter().filter(|line| line["request_id"] == id.as_str()).collect();
    let [line] = mine[..] else { panic!("{mine:?}") };
    assert_eq!((&line["route"], &line["status"], &line["method"]), (&"me".into(), &200.into(), &"GET".into()));
    assert!(line["micros"].is_u64());
    let mut secret = String::new();
    let path = folder.path().join("latchkey-data/secret");
    std::fs::File::open(path).unwrap().read_to_string(&mut secret).unwrap();
    for secret in [tokens.access.as_str(), &tokens.refresh, crate::harness::client::PASSWORD, secret.trim()] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let second = run(folder.path(), &["serve"]);
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{text}");
    assert!(text.contains("LATCHKEY_DATA_DIR"), "{text}");
    drop(service.end(Signal::TERM));
}

#[test]
fn configuration_errors_name_the_key_and_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, texts) in [
        (&["serve", "--set", "keys.algorithm=HS256"][..], &["keys.algorithm", "ES256", "EdDSA", "RS256", "PS256"][..]),
        (&["serve", "--set", "session.grace=2m"], &["session.grace", "0s to 1m"]),
        (&["serve", "--set", "session.grce=1s"], &["session.grce", "session.grace"]),
        (&["serve", "--set", "multi_node=true"], &["redis.url"]),
    ] {
        let output = run(folder.path(), arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        for expected in texts {
            assert!(text.contains(expected), "{arguments:?}: no {expected} in {text}");
        }
    }
    assert!(!folder.path().join("latchkey-data").exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_beside_a_running_service() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let keys = async || {
        let jwks = service.client.get("/.well-known/jwks.json", "").await.expect(200).json();
        jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = keys().await;
    let rotated = run(folder.path(), &["keys", "rotate"]);
    assert!(rotated.status.success(), "{rotated:?}");
    let listed = String::from_utf8(run(folder.path(), &["keys", "list"]).stdout).unwrap();
    assert!(listed.contains("signing") && listed.contains("published"), "{listed}");
    let retired = run(folder.path(), &["keys", "retire", &before[0]]);
    assert_eq!(retired.status.code(), Some(1), "the only one that signs");
    drop(service.end(Signal::TERM));
    let service = Service::start(folder.path());
    let after = service.client.get("/.well-known/jwks.json", "").await.expect(200).json();
    assert_eq!(after["keys"].as_array().unwrap().len(), 2, "{after}");
    drop(service.end(Signal::TERM));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_may_lose_sessions_is_told_of_at_start_up() {
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::start_with("redis-server", &["--appendonly", "no", "--maxmemory-policy", "allkeys-lru"]);
    let service = Service::start_with(folder.path(), &["serve", "--set", &format!("redis.url={}", redis.url())]);
    wait::until("the log tells what is wrong with this Redis", || async {
        let log = service.log.lock().unwrap();
        ["appendonly yes", "maxmemory-policy noeviction"].iter().all(|advice| log.contains(advice))
    })
    .await;
    let ready = service.client.get("/readyz", "").await.expect(200);
    assert_eq!(ready.json()["status"], "warning", "{}", ready.text);
    service.client.get("/livez", "").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_late_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("late.sock");
    let url = format!("redis.url=redis+unix://{}", socket.display());
    let service = Service::start_with(folder.path(), &["serve", "--set", &url]);
    service.client.get("/livez", "").await.expect(200);
    service.client.get("/readyz", "").await.expect(503);
    wait::until("the log says so", || async { service.log.lock().unwrap().contains("Redis doesn't answer") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_managed_beside_a_running_service() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let mut add = command(
        folder.path(),
        &["user", "add", "ada@example.com", "--username", "ada", "--role", "admin", "--password-stdin"],
    )
    .stdin(Stdio::piped())
    .spawn()
    .unwrap();
    writeln!(add.stdin.take().unwrap(), "{}", crate::harness::client::PASSWORD).unwrap();
    assert!(add.wait().unwrap().success());
    let tokens = service.client.login("ada").await;
    let listed = run(folder.path(), &["user", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((&listed["email"], &listed["roles"][0]), (&"ada@example.com".into(), &"admin".into()));
    assert!(run(folder.path(), &["user", "disable", "ada"]).status.success());
    assert_eq!(service.client.refresh(&tokens.refresh).await.problem().1, "invalid_refresh_token");
    service.client.try_login("ada", crate::harness::client::PASSWORD).await.expect(401);
    assert!(run(folder.path(), &["user", "enable", "ada@example.com"]).status.success());
    service.client.login("ada").await;
    assert!(run(folder.path(), &["user", "delete", "ada"]).status.success());
    service.client.try_login("ada", crate::harness::client::PASSWORD).await.expect(401);
    assert_eq!(run(folder.path(), &["user", "delete", "ada"]).status.code(), Some(1));
    drop(service.end(Signal::TERM));
}

#[tokio::test(flavor = "multi_thread")]
async fn service_clients_are_managed_beside_a_running_service() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let printed = |arguments: &[&str]| {
        let output = run(folder.path(), arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let secret_in = |text: &str| {
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("client_id: billing"));
        let secret = lines.next().unwrap().strip_prefix("client_secret: ").unwrap().to_owned();
        assert!(secret.starts_with("lk_cs_") && secret.len() == 49, "{secret}");
        assert_eq!(lines.next(), None);
        secret
    };
    let first = secret_in(&printed(&["client", "add", "billing", "--scope", "read", "--scope", "write"]));
    let token = async |secret: &str| {
        let request = service.client.request(reqwest::Method::POST, "/oauth2/token");
        let request = request.form(&[("grant_type", "client_credentials")]).basic_auth("billing", Some(secret));
        service.client.send(request).await
    };
    assert_eq!(token(&first).await.expect(200).json()["scope"], "read write");

    let second = secret_in(&printed(&["client", "rotate-secret", "billing", "--grace", "1h"]));
    wait::until("the service knows the new secret", async || token(&second).await.status == 200).await;
    token(&first).await.expect(200);
    let listed: Value = serde_json::from_str(&printed(&["client", "list", "--json"])).unwrap();
    assert_eq!((&listed["client_id"], &listed["secrets"]), (&"billing".into(), &2.into()));
    assert_eq!((&listed["scopes"][1], &listed["audiences"][0]), (&"write".into(), &"latchkey".into()));

    let pem = folder.path().join("key.pem");
    std::fs::write(&pem, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    for (arguments, text) in [
        (&["client", "add", "billing"][..], "billing: there is a client of this name already"),
        (&["client", "add", "a b"], "1 to 64 ASCII letters"),
        (&["client", "add", "latchkey"], "token.client_id"),
        (&["client", "add", "other", "--public-key", "key.pem"], "key.pem: holds a private key"),
        (&["client", "add", "other", "--jwks", "none.json"], "none.json"),
        (&["client", "disable", "other"], "other: there is no client of this name"),
        (&["client", "rotate-secret", "other"], "other: there is no client of this name"),
    ] {
        let output = run(folder.path(), arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
        assert!(said.contains(text), "{arguments:?}: no {text} in {said}");
    }
    printed(&["client", "disable", "billing"]);
    wait::until("the service knows that it is disabled", async || token(&second).await.status == 401).await;
    let table = printed(&["client", "list"]);
    assert!(table.contains("billing") && table.contains("disabled"), "{table}");
    let (_, log) = service.end(Signal::TERM);
    for secret in [first, second] {
        assert!(!log.contains(&secret) && !table.contains(&secret));
    }
}
