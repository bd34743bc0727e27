//! The embedded Redis: its data survives restarts, kills and leftover servers, and unusable folders are refused.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use latchkey::store::redis::embedded::{EmbeddedError, EmbeddedRedis};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

#[tokio::test]
async fn key_survives_restart() {
    let (_keep, dir) = folder();
    let redis = EmbeddedRedis::start(&dir).await.unwrap();
    assert_eq!(send_command(redis.socket(), "SET k v").await, "+OK");
    redis.stop().await;
    let redis = EmbeddedRedis::start(&dir).await.unwrap();
    assert_eq!(send_command(redis.socket(), "GET k").await, "v");
    redis.stop().await;
}

#[tokio::test]
async fn key_survives_dropped_service() {
    let (_keep, dir) = folder();
    let redis = EmbeddedRedis::start(&dir).await.unwrap();
    assert_eq!(send_command(redis.socket(), "SET k v").await, "+OK");
    // without `stop`
    drop(redis);
    let redis = EmbeddedRedis::start(&dir).await.unwrap();
    assert_eq!(send_command(redis.socket(), "GET k").await, "v");
    redis.stop().await;
}

#[tokio::test]
async fn killed_server_is_restarted_with_acknowledged_writes() {
    let (_keep, dir) = folder();
    let redis = EmbeddedRedis::start(&dir).await.unwrap();
    // Twice, because the restarted server must be restarted as well.
    for round in 0..2 {
        assert_eq!(send_command(redis.socket(), &format!("SET k{round} v")).await, "+OK");
        let killed = server_pid(redis.socket()).await.unwrap();
        kill_process(killed, Signal::KILL).unwrap();
        within(async {
            while server_pid(redis.socket()).await.is_none_or(|current| current == killed) {
                tokio::task::yield_now().await;
            }
            // Until the server has loaded its data, it answers LOADING.
            while send_command(redis.socket(), "PING").await != "+PONG" {}
        })
        .await;
        assert_eq!(send_command(redis.socket(), &format!("GET k{round}")).await, "v");
    }
    redis.stop().await;
}

#[tokio::test]
async fn second_service_in_same_folder_is_refused() {
    let (_keep, dir) = folder();
    let redis = EmbeddedRedis::start(&dir).await.unwrap();
    let error = EmbeddedRedis::start(&dir).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("LATCHKEY_DATA_DIR"), "names the setting of the folder: {error}");
    assert_eq!(send_command(redis.socket(), "PING").await, "+PONG");
    redis.stop().await;
}

#[tokio::test]
async fn leftover_server_is_stopped_and_keys_kept() {
    let (_keep, dir) = folder();
    fs::create_dir_all(&dir).unwrap();
    let socket = dir.join("redis.sock");
    // A server that outlived its service still holds the lock, which it inherited as its standard input.
    let lock = fs::File::create(dir.join("server.lock")).unwrap();
    lock.lock().unwrap();
    let mut orphan = Command::new("redis-server")
        .args(["--port", "0", "--appendonly", "yes", "--appendfsync", "always", "--save", ""])
        .arg("--unixsocket")
        .arg(&socket)
        .arg("--dir")
        .arg(&dir)
        .stdin(lock)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    within(async {
        while server_pid(&socket).await.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(send_command(&socket, "SET k v").await, "+OK");

    let redis = EmbeddedRedis::start(&dir).await.unwrap();
    assert!(orphan.wait().unwrap().success(), "the leftover server stops without a kill");
    assert_eq!(send_command(redis.socket(), "GET k").await, "v");
    redis.stop().await;
}

#[tokio::test]
async fn server_is_private_and_durable() {
    let (_keep, dir) = folder();
    let redis = EmbeddedRedis::start(&dir).await.unwrap();
    let socket = redis.socket();
    for (key, value) in [
        ("port", "0"),
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("maxmemory-policy", "noeviction"),
        ("maxmemory", "0"),
        ("save", ""),
    ] {
        assert_eq!(config(socket, key).await, value, "{key}");
    }
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(socket).unwrap().permissions().mode() & 0o777, 0o700);
    let pid = server_pid(socket).await.unwrap();
    assert!(listening_tcp_sockets(pid).is_empty());
    redis.stop().await;
    assert!(!dir.join("redis.sock").exists());
}

#[tokio::test]
async fn socket_path_too_long_is_refused_before_any_change() {
    let (_keep, dir) = folder();
    // On Linux, the path of a socket has at most 107 bytes.
    let dir = dir.join("x".repeat(100));
    let error = EmbeddedRedis::start(&dir).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::SocketPathTooLong { .. }), "{error}");
    assert!(error.to_string().contains("LATCHKEY_DATA_DIR"), "names the setting of the folder: {error}");
    assert!(!dir.exists());
}

#[tokio::test]
async fn server_that_cannot_start_reports_its_output() {
    let (_keep, dir) = folder();
    // The server cannot replace this folder by its socket.
    fs::create_dir_all(dir.join("redis.sock")).unwrap();
    let error = EmbeddedRedis::start(&dir).await.unwrap_err();
    let EmbeddedError::Exited { output, .. } = &error else { panic!("{error}") };
    assert!(output.contains("socket"), "{error}");
}

#[tokio::test]
async fn folder_that_cannot_be_created_is_named() {
    let (_keep, dir) = folder();
    fs::write(&dir, "a file in place of the folder").unwrap();
    let error = EmbeddedRedis::start(&dir).await.unwrap_err();
    assert!(matches!(&error, EmbeddedError::Folder { path, .. } if *path == dir), "{error}");
}

/// A folder for an embedded Redis, with quotes and a space in its path. Dropping the first value deletes it.
fn folder() -> (TempDir, PathBuf) {
    let keep = tempfile::tempdir().unwrap();
    let dir = keep.path().join("a \"data\" folder/redis");
    fs::create_dir_all(dir.parent().unwrap()).unwrap();
    (keep, dir)
}

/// Waits for a future; a future that hangs fails the test.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("the future completes within 30 s")
}

/// The process that listens at `socket`, if any.
async fn server_pid(socket: &Path) -> Option<Pid> {
    let stream = UnixStream::connect(socket).await.ok()?;
    Pid::from_raw(stream.peer_cred().unwrap().pid()?)
}

/// Sends `command` and returns the answer, or the content of a bulk string.
async fn send_command(socket: &Path, command: &str) -> String {
    let mut answers = open_with_command(socket, command).await;
    let first = next_line(&mut answers).await;
    if first.starts_with('$') { next_line(&mut answers).await } else { first }
}

/// The value of a configuration key. The answer is an array of two bulk strings, name and value. The value is its fifth line.
async fn config(socket: &Path, key: &str) -> String {
    let mut answers = open_with_command(socket, &format!("CONFIG GET {key}")).await;
    for _ in 0..4 {
        next_line(&mut answers).await;
    }
    next_line(&mut answers).await
}

/// Opens a connection and sends `command`. Returns the connection, to read the answer from.
async fn open_with_command(socket: &Path, command: &str) -> BufReader<UnixStream> {
    let mut stream = within(UnixStream::connect(socket)).await.unwrap();
    within(stream.write_all(format!("{command}\r\n").as_bytes())).await.unwrap();
    BufReader::new(stream)
}

async fn next_line(answers: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    within(answers.read_line(&mut line)).await.unwrap();
    line.trim_end().to_owned()
}

/// The TCP sockets on which the process `pid` listens. See proc_pid_net(5) for the columns.
fn listening_tcp_sockets(pid: Pid) -> HashSet<String> {
    const LISTENING: &str = "0A";
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    // the sockets of all processes
    let mut listening = HashSet::new();
    for table in ["net/tcp", "net/tcp6"] {
        // A machine without IPv6 has one table only.
        let Ok(text) = fs::read_to_string(process.join(table)) else { continue };
        for line in text.lines().skip(1) {
            let columns: Vec<_> = line.split_whitespace().collect();
            let (state, inode) = (columns[3], columns[9]);
            if state == LISTENING {
                listening.insert(format!("socket:[{inode}]"));
            }
        }
    }
    let files = fs::read_dir(process.join("fd")).unwrap();
    let links = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).filter(|link| listening.contains(link)).collect()
}
