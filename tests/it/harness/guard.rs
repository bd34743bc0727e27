//! Servers that end with the test process, however it ends. `Drop` alone can't ensure this: statics are not dropped, and a killed
//! process drops nothing.
//!
//! Each server is the child of a small shell, which reads from a pipe whose other end the test process holds. When that end
//! closes, the shell stops the server and deletes its folder.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::process::{Pid, Signal, kill_process};

/// Runs the server. `$1` is the signal that stops the server, `$2` the folder to delete afterwards (empty for none), and the rest
/// is the server's command. The first line of output, `guarded PID`, names the server's process. The shell closes its own copy of the
/// output, so that a reader sees the end when the server ends. The loop ends when the test process has closed its end of the pipe.
const GUARDIAN: &str = r#"
signal=$1 folder=$2; shift 2
sh -c 'echo "guarded $$"; exec "$@"' sh "$@" 2>&1 </dev/null &
server=$!
exec >/dev/null 2>&1
while read -r _; do :; done
kill -s "$signal" "$server"
wait "$server"
[ -z "$folder" ] || rm -rf "$folder"
"#;

/// The maximum number of lines kept of a server's output.
const MAX_LINES: usize = 500;

/// A server to be started.
pub struct Spec<'a> {
    /// The program and its arguments; the program must stay in the foreground.
    pub command: &'a [&'a str],
    /// The signal that stops the server, by name: `TERM`, `INT`.
    pub stop: &'a str,
    /// A folder to delete after the server has stopped.
    pub folder: Option<&'a Path>,
    /// A part of the line by which the server reports that it is ready.
    pub ready: &'a str,
    /// Whether the program refuses to run as root, and so runs as [`unprivileged_user`].
    pub unprivileged: bool,
}

/// A running server. Stopped when dropped, or when the process ends.
pub struct Guard {
    /// The guardian. It runs until its standard input is closed.
    shell: Child,
    /// The process id of the server.
    pid: i32,
    /// The last lines of the server's output.
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Guard {
    /// Starts the server and waits for its ready line.
    pub fn start(spec: &Spec) -> Result<Self, String> {
        let mut command = Command::new("sh");
        command
            .args(["-c", GUARDIAN, "guardian", spec.stop])
            .arg(spec.folder.unwrap_or(Path::new("")))
            .args(spec.command)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // a process group of its own: Ctrl-C in the terminal would end the guardian before it has cleaned up
            .process_group(0);
        if spec.unprivileged
            && let Some((uid, gid)) = unprivileged_user()
        {
            command.uid(uid).gid(gid);
        }
        let mut shell = command.spawn().map_err(|error| format!("sh: {error}"))?;
        let mut lines = BufReader::new(shell.stdout.take().expect("standard output is piped")).lines();
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let mut guard = Self { shell, pid: 0, log: log.clone() };

        while let Some(Ok(line)) = lines.next() {
            if let Some(pid) = line.strip_prefix("guarded ") {
                guard.pid = pid.parse().expect("a shell's $$ is a number");
            }
            let ready = line.contains(spec.ready);
            append_line(&log, line);
            if ready {
                std::thread::spawn(move || drain(lines, &log));
                return Ok(guard);
            }
        }
        Err(format!("{} ended before it was ready:\n{}", spec.command[0], guard.log()))
    }

    /// The server's process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends the server a signal: `Signal::KILL` ends it as a power cut would, `Signal::STOP` hangs it.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid).expect("a process id is not 0");
        kill_process(pid, signal).expect("the process exists");
    }

    /// Returns the last lines of the server's output.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

impl Drop for Guard {
    /// Stops the server and waits until it has ended.
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        drop(self.shell.wait());
    }
}

/// Reads the output until the server ends, so that the server never blocks on a full pipe.
fn drain(lines: std::io::Lines<BufReader<ChildStdout>>, log: &Mutex<VecDeque<String>>) {
    for line in lines.map_while(Result::ok) {
        append_line(log, line);
    }
}

/// Appends a line, and removes the oldest if there are [`MAX_LINES`].
fn append_line(log: &Mutex<VecDeque<String>>, line: String) {
    let mut log = log.lock().unwrap();
    if log.len() == MAX_LINES {
        log.pop_front();
    }
    log.push_back(line);
}

/// User and group id for programs that refuse to run as root: `postgres`, or `nobody`. `None` if this process is not root.
pub fn unprivileged_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        users.lines().find_map(|line| {
            // name:password:uid:gid:…
            let fields: Vec<&str> = line.split(':').collect();
            let [user, _, uid, gid, ..] = fields.as_slice() else { return None };
            if *user == name { Some((uid.parse().ok()?, gid.parse().ok()?)) } else { None }
        })
    };
    // 65534 is `nobody` on most systems
    ids("postgres").or_else(|| ids("nobody")).or(Some((65534, 65534)))
}

/// Creates a folder that [`unprivileged_user`] may write to; the caller deletes it.
pub fn folder(prefix: &str) -> PathBuf {
    folder_in(&std::env::temp_dir(), prefix)
}

/// Creates a folder in memory, or on disk if little memory is free. In memory, a server that syncs every write does not wait for a
/// disk: on a shared machine, that may take longer than a node's command timeout.
pub fn folder_in_memory(prefix: &str) -> PathBuf {
    const MIN_FREE_BYTES: u64 = 2 << 30;
    let memory = Path::new("/dev/shm");
    let free_bytes = rustix::fs::statvfs(memory).map_or(0, |system| system.f_bavail * system.f_frsize);
    if free_bytes >= MIN_FREE_BYTES { folder_in(memory, prefix) } else { folder(prefix) }
}

fn folder_in(parent: &Path, prefix: &str) -> PathBuf {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(parent).unwrap().keep();
    if let Some((uid, gid)) = unprivileged_user() {
        chown(&folder, Some(uid), Some(gid)).unwrap();
    }
    folder
}

/// Picks a port of 127.0.0.1 that is free now. Another process may still take it: retry with another one.
///
/// The port, from 12,000 to 21,999, is outside the ephemeral range, so that no outgoing connection takes it while its server is down.
/// No two of these ports are 10,000 apart: a node of a Redis Cluster also listens on the port 10,000 above its own.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u16 = 12_000;
    const COUNT: u32 = 10_000;
    for _ in 0..COUNT {
        // Test processes that run at the same time begin at different ports: 251 apart if their ids are consecutive.
        let number = std::process::id().wrapping_mul(251).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = FIRST + u16::try_from(number).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("none of {COUNT} ports is free")
}

/// Finds the first folder that contains all `programs`. Searches `folders`, then `PATH`, then the system's folders.
pub fn find_programs(programs: &[&str], folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // servers are installed in folders that a user's `PATH` may lack
    let system_folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"].map(PathBuf::from);
    folders
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(system_folders)
        .find(|folder| programs.iter().all(|program| folder.join(program).is_file()))
}
