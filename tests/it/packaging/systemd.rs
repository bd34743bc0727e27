//! Tests the messages that a node sends to systemd, the socket that systemd passes to it, and the unit files.

use std::{
    fs,
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    binary::{Service, command},
    docs::code_blocks,
    harness::guard,
};

const INSTALL: &str = "this test needs systemd-analyze: `apt-get install systemd` (Debian, Ubuntu), `dnf install systemd` (Fedora); or \
                       run `make test`, which installs it";

/// Binds the socket to which a node reports to systemd. Waiting for a message fails after a minute.
fn notify_socket(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket
}

/// Receives messages until one contains this line. Returns that message.
fn receive(socket: &UnixDatagram, line: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).unwrap();
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if message.lines().any(|found| found == line) {
            return message;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_receives_readiness_heartbeats_and_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify.sock");
    let socket = notify_socket(&path);
    let mut serve = command(folder.path(), &["serve"]);
    // systemd expects a heartbeat at least every 200 ms
    serve.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut service = Service::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    assert!(receive(&socket, "READY=1").contains("STATUS=ready"));
    // the second message shows that the node repeats the heartbeat
    receive(&socket, "WATCHDOG=1");
    receive(&socket, "WATCHDOG=1");
    service.signal(Signal::TERM);
    receive(&socket, "STOPPING=1");
    assert_eq!(service.wait_for_exit(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn node_without_redis_reports_ready_with_its_problem_as_status() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify.sock");
    let socket = notify_socket(&path);
    let missing_socket = folder.path().join("none.sock");
    let setting = format!("redis.url=redis+unix://{}", missing_socket.display());
    let mut serve = command(folder.path(), &["serve", "--set", &setting]);
    serve.env("NOTIFY_SOCKET", &path);
    let _service = Service::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    let message = receive(&socket, "READY=1");
    assert!(message.contains("STATUS=serving, not ready: "), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_without_database_extends_its_start_and_reports_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify.sock");
    let socket = notify_socket(&path);
    // a free port: its listener is closed before the node connects
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let setting = format!("database.url=postgres://latchkey:secret@{}/latchkey", listener.local_addr().unwrap());
    drop(listener);
    let mut serve = command(folder.path(), &["serve", "--set", &setting]);
    let mut node = serve.env("NOTIFY_SOCKET", &path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // the node asks systemd for another 10 s
    let message = receive(&socket, "EXTEND_TIMEOUT_USEC=10000000");
    node.kill().unwrap();
    node.wait().unwrap();
    assert!(message.contains("STATUS=waiting for the database: "), "{message}");
    assert!(!message.contains("secret"), "the password: {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_that_systemd_passes_is_used() {
    // As systemd does, the script passes the socket as descriptor 3, and names the process that the socket is for. Its arguments are the
    // file for the port, and the command line of the node.
    const PASS_SOCKET: &str = "import os, socket, sys
s = socket.create_server(('127.0.0.1', 0))
os.dup2(s.fileno(), 3, inheritable=True)
os.set_inheritable(3, True)
open(sys.argv[1], 'w').write(str(s.getsockname()[1]))
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])";
    let folder = tempfile::tempdir().unwrap();
    let port_file = folder.path().join("port");
    // The configured port is in use, so that the node can't listen without the passed socket.
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut serve = Command::new("python3");
    serve
        .args(["-c", PASS_SOCKET])
        .arg(&port_file)
        .args([env!("CARGO_BIN_EXE_latchkey"), "serve"])
        .current_dir(folder.path());
    serve.env("LATCHKEY_LISTEN", occupied.local_addr().unwrap().to_string());
    serve.env("LATCHKEY_METRICS_LISTEN", "off"); // its default port may be in use
    let service = Service::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    let port = fs::read_to_string(port_file).unwrap();
    assert!(service.client.base.contains(&format!("127.0.0.1:{port}")), "{}", service.client.base);
    service.client.get_anonymously("/livez").await.expect(200);
    let (exit_code, _log) = service.end(Signal::TERM);
    assert_eq!(exit_code, Some(0));
}

/// Reads a file of the repository.
fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The first block of systemd settings in a document.
fn printed_unit(path: &str) -> String {
    code_blocks(path, "ini").remove(0)
}

/// `systemd-analyze verify` accepts the units. The test replaces the path of the binary, which exists only where the package is installed.
#[test]
fn unit_files_and_printed_units_have_no_mistakes() {
    let programs = guard::find_programs(&["systemd-analyze"], []).expect(INSTALL);
    let folder = tempfile::tempdir().unwrap();
    let service = read("packaging/systemd/latchkey.service");
    let cases = [
        ("packaged", service.clone(), Some(read("packaging/systemd/latchkey.socket"))),
        ("drop-in", service + &printed_unit("docs/installation.md"), None),
        ("printed", printed_unit("docs/operations.md"), None),
    ];
    for (name, service, socket) in cases {
        let folder = folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        assert!(service.contains("\nExecStart=/usr/bin/latchkey "), "{service}");
        let service = service.replace("/usr/bin/latchkey", env!("CARGO_BIN_EXE_latchkey"));
        let mut verify = Command::new(programs.join("systemd-analyze"));
        verify.args(["verify", "--man=no"]).current_dir(&folder);
        for (file, unit) in [("latchkey.service", Some(service)), ("latchkey.socket", socket)] {
            if let Some(unit) = unit {
                fs::write(folder.join(file), unit).unwrap();
                verify.arg(format!("./{file}"));
            }
        }
        let output = verify.output().unwrap();
        let messages = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && messages.is_empty(), "{name}: {messages}");
    }
}
