//! The embedded Redis, for installations without `redis.url`: a `redis-server` or `valkey-server` child process on a Unix
//! socket in the data folder. It syncs every write, opens no TCP port, and starts, restarts and stops with the service.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

mod binary;
mod child;
mod copy;
mod output;
mod supervisor;
mod wire;

use child::Launcher;
pub use copy::{copy, is_unused, restore};
pub use wire::server_process;

/// The maximum length of a Unix socket's path in bytes: `sun_path` without its terminating zero, see unix(7).
const SOCKET_PATH_LIMIT: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// How long a server that an earlier run left behind may take to stop.
const LEFTOVER_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval at which a starting or stopping server is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Why the embedded Redis didn't start, as a message for the operator.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The data folder's path is too long for a Unix socket.
    #[error(
        "the embedded Redis needs a socket at {path}, and a socket's path may have at most {limit} bytes: \
         set LATCHKEY_DATA_DIR to a shorter path"
    )]
    SocketPathTooLong {
        /// The path of the socket.
        path: PathBuf,
        /// Maximum length of a path in bytes.
        limit: usize,
    },
    /// The folder, or a file in it, can't be created or used.
    #[error("the embedded Redis can't use {path} (set LATCHKEY_DATA_DIR to a folder that can be written)")]
    Folder {
        /// The folder or the file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another Latchkey process uses the folder.
    #[error(
        "another Latchkey process uses the embedded Redis in {dir}: set LATCHKEY_DATA_DIR to another folder, or \
         LATCHKEY_REDIS_URL to a Redis that both can use"
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// No server program is installed.
    #[error(
        "neither redis-server nor valkey-server is on the PATH: install one (apt-get install redis-server, dnf install \
         valkey, apk add redis, brew install redis) or set LATCHKEY_REDIS_URL to a running server"
    )]
    NotFound,
    /// The program does not report its version as numbers.
    #[error("{} --version failed: {detail}", binary.display())]
    Unusable {
        /// The program.
        binary: PathBuf,
        /// The cause.
        detail: String,
    },
    /// The server is older than Redis 6.0.
    #[error(
        "{} is version {version}, and Redis 6.0 or newer is needed: install a newer redis-server or valkey-server, or \
         set LATCHKEY_REDIS_URL to a running server",
        binary.display()
    )]
    TooOld {
        /// The program.
        binary: PathBuf,
        /// The version.
        version: String,
    },
    /// The server can't be run.
    #[error("can't run {}", binary.display())]
    Spawn {
        /// The program.
        binary: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The server ended before it was ready.
    #[error("the embedded Redis ended at once ({status}); its output:\n{output}")]
    Exited {
        /// The exit status.
        status: String,
        /// The last lines that the server wrote.
        output: String,
    },
    /// The server runs, but is not ready.
    #[error("the embedded Redis isn't ready after {seconds} seconds; its output:\n{output}")]
    NotReady {
        /// The time limit.
        seconds: u64,
        /// The last lines that the server wrote.
        output: String,
    },
    /// The server of an earlier run doesn't stop.
    #[error("a Redis server of an earlier run in {dir} doesn't stop: stop it, then start the service")]
    Leftover {
        /// The folder.
        dir: PathBuf,
    },
}

/// A running embedded Redis. Call [`stop`](Self::stop) at the end. Dropping the value kills the server: no acknowledged write is lost,
/// but the next start may have to repair the append-only file.
#[derive(Debug)]
pub struct EmbeddedRedis {
    socket: PathBuf,
    stop_token: CancellationToken,
    /// The task that restarts the server. [`Self::stop`] takes it.
    supervisor: Option<JoinHandle<()>>,
    /// Locked for as long as the service uses the folder.
    _lock: File,
}

impl EmbeddedRedis {
    /// Starts a server with its data in `dir`, which is created if missing, and waits until the server is ready.
    ///
    /// First stops a server that a killed service left behind in `dir`. If the new server exits later, a task restarts it after
    /// a pause of 100 ms to 5 s.
    ///
    /// # Errors
    /// [`EmbeddedError`]
    pub async fn start(dir: &Path) -> Result<Self, EmbeddedError> {
        let dir = std::path::absolute(dir).map_err(|source| folder_error(dir, source))?;
        let socket = Self::socket_in(&dir);
        if socket.as_os_str().as_bytes().len() > SOCKET_PATH_LIMIT {
            return Err(EmbeddedError::SocketPathTooLong { path: socket, limit: SOCKET_PATH_LIMIT });
        }
        let search_path = std::env::var_os("PATH").unwrap_or_default();
        let binary = binary::find(&search_path).await?;

        create_private_folder(&dir).map_err(|source| folder_error(&dir, source))?;
        let lock = open_lock_file(&dir.join("latchkey.lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(EmbeddedError::InUse { dir }),
            Err(TryLockError::Error(source)) => return Err(folder_error(&dir, source)),
        }
        let server_lock = stop_leftover_and_lock(&dir, &socket).await?;

        let launcher = Launcher::new(binary, dir, socket.clone(), server_lock);
        let server = launcher.launch().await?;
        let stop_token = CancellationToken::new();
        let supervisor = tokio::spawn(supervisor::supervise(launcher, server, stop_token.clone()));
        Ok(Self { socket, stop_token, supervisor: Some(supervisor), _lock: lock })
    }

    /// The socket of a server with its data in `dir`.
    #[must_use]
    pub fn socket_in(dir: &Path) -> PathBuf {
        dir.join("redis.sock")
    }

    /// The socket that the server listens on.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Stops the server, which completes its writes and exits. Kills the server if it still runs after 10 seconds.
    pub async fn stop(mut self) {
        self.stop_token.cancel();
        if let Some(supervisor) = self.supervisor.take()
            && let Err(error) = supervisor.await
        {
            tracing::error!(
                %error,
                "the task that supervises the embedded Redis has failed (a bug): the server may still run, and the next start stops it. Report \
                 this line"
            );
        }
    }
}

impl Drop for EmbeddedRedis {
    fn drop(&mut self) {
        if let Some(supervisor) = &self.supervisor {
            supervisor.abort(); // kills the child process
        }
    }
}

fn folder_error(path: &Path, source: io::Error) -> EmbeddedError {
    EmbeddedError::Folder { path: path.to_owned(), source }
}

/// Creates a folder if it is missing, and lets only its owner enter it.
fn create_private_folder(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    std::fs::set_permissions(dir, Permissions::from_mode(0o700))
}

/// Opens a lock file, which is created if missing. Does not lock it.
fn open_lock_file(path: &Path) -> Result<File, EmbeddedError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    file.map_err(|source| folder_error(path, source))
}

/// Makes sure that no server uses `dir`, and returns the locked file that the next server inherits.
///
/// The caller holds the service's lock, so a server that uses the folder was left behind. Two servers would corrupt the append-only
/// file. The socket alone does not show whether a server runs: while a server starts or stops, it does not listen. So each server has
/// the locked file as its standard input, and the kernel releases the lock when the process exits.
async fn stop_leftover_and_lock(dir: &Path, socket: &Path) -> Result<File, EmbeddedError> {
    let path = dir.join("server.lock");
    let lock = open_lock_file(&path)?;
    let deadline = Instant::now() + LEFTOVER_TIMEOUT;
    if wire::shut_down(socket, deadline).await {
        tracing::warn!(dir = %dir.display(), "stopped a Redis server left behind by an earlier run");
    }
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(source)) => return Err(folder_error(&path, source)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(EmbeddedError::Leftover { dir: dir.to_owned() });
            }
            Err(TryLockError::WouldBlock) => {
                tokio::time::sleep(POLL_INTERVAL).await;
                // A server that was starting may listen by now, and then accepts the command.
                wire::shut_down(socket, deadline).await;
            }
        }
    }
}
