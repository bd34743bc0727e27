//! A PostgreSQL for tests, shared by the whole process, with one database per test.

use std::{
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::guard::{self, Guard, Spec};

/// The oldest major version with which the tests run.
const OLDEST_VERSION: u32 = 15;

/// How to install PostgreSQL, for the error of a machine without it.
const INSTALL: &str = "these tests need PostgreSQL 15 or newer: `apt-get install postgresql` (Debian, Ubuntu), \
                       `dnf install postgresql-server` (Fedora), `apk add postgresql` (Alpine), \
                       `brew install postgresql` (macOS); or run `make test`, which installs it";

/// A running server.
pub struct Postgres {
    guard: Guard,
    port: u16,
    folder: PathBuf,
}

/// Returns the server that all tests of this process share.
pub fn shared() -> &'static Postgres {
    static SHARED: OnceLock<Result<Postgres, String>> = OnceLock::new();
    match SHARED.get_or_init(Postgres::start) {
        Ok(postgres) => postgres,
        Err(error) => panic!("{error}"),
    }
}

impl Postgres {
    /// Starts a new server on its own port. Its folder is deleted when it stops.
    pub fn start() -> Result<Self, String> {
        let without_preparation = |_: &Path| {};
        let no_settings: [&str; 0] = [];
        Self::start_with(without_preparation, &no_settings)
    }

    /// Starts a server that requires TLS and a client certificate for the name `postgres`, signed by the authority in `folder`
    /// (see [`certificates`](super::certificates)).
    pub fn start_with_client_certificates(folder: &Path) -> Result<Self, String> {
        let prepare = |data: &Path| {
            for name in ["ca.pem", "server.pem", "server.key"] {
                let copy = data.join(name);
                std::fs::copy(folder.join(name), &copy).unwrap();
                // PostgreSQL refuses a private key that others can read
                std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o600)).unwrap();
                if let Some((uid, gid)) = guard::unprivileged_user() {
                    chown(&copy, Some(uid), Some(gid)).unwrap();
                }
            }
            std::fs::write(data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 cert clientcert=verify-full\n")
                .unwrap();
        };
        let tls = ["ssl=on", "ssl_ca_file=ca.pem", "ssl_cert_file=server.pem", "ssl_key_file=server.key"];
        Self::start_with(prepare, &tls)
    }

    /// Starts a server with these further settings. Before that, calls `prepare` with the data folder.
    fn start_with(prepare: impl Fn(&Path), settings: &[&str]) -> Result<Self, String> {
        let programs = programs().ok_or(INSTALL)?;
        let mut last_error = String::new();
        // another process may take the port first: retry with another port
        for _ in 0..5 {
            let folder = guard::folder("latchkey-postgres-");
            let data = folder.join("data");
            init(&programs, &data)?;
            prepare(&data);
            let port = guard::free_port();
            let owns_folder = true;
            match serve(&programs, &folder, port, owns_folder, settings) {
                Ok(guard) => return Ok(Self { guard, port, folder }),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    /// The folder of the server's Unix socket.
    pub fn socket_folder(&self) -> String {
        self.folder.display().to_string()
    }

    /// Starts the server of [`Postgres::start`] again on its data, once it has ended. Keep `self` while the new server runs: `self`
    /// deletes the folder when it is dropped.
    pub fn restart(&self) -> Guard {
        let owns_folder = false;
        let no_settings: [&str; 0] = [];
        serve(&programs().unwrap(), &self.folder, self.port, owns_folder, &no_settings)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Whether the server has ended: it then has removed its PID file.
    pub fn has_ended(&self) -> bool {
        !self.folder.join("data/postmaster.pid").exists()
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server process.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Creates an empty database and returns its name.
    pub async fn create_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        name
    }

    /// Returns the URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs a statement as the superuser, in the database `postgres`.
    pub async fn execute(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// The folder with the programs of the newest installed version.
fn programs() -> Option<PathBuf> {
    // Debian, Red Hat, Alpine and Homebrew keep the server's programs outside PATH, in one folder per version
    let mut versions = Vec::new();
    for (parent, programs_in_version) in [
        ("/usr/lib/postgresql", "bin"),
        ("/usr", "bin"),
        ("/usr/libexec", ""),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
    ] {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // the version is 15 in `15`, `postgresql15`, `postgresql@15` and `pgsql-15`
            let version: String =
                name.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
            let is_postgres =
                parent.ends_with("postgresql") || name.starts_with("postgresql") || name.starts_with("pgsql-");
            if is_postgres
                && let Ok(version) = version.parse::<u32>()
                && version >= OLDEST_VERSION
            {
                versions.push((version, entry.path().join(programs_in_version)));
            }
        }
    }
    versions.sort();
    guard::find_programs(&["initdb", "postgres"], versions.into_iter().rev().map(|(_, folder)| folder))
}

/// Creates the data folder of a server whose superuser is `postgres`.
fn init(programs: &Path, data: &Path) -> Result<(), String> {
    let mut initdb = Command::new(programs.join("initdb"));
    initdb
        .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync", "--pgdata"])
        .arg(data)
        // the unprivileged user may have no access to the current folder
        .current_dir("/");
    if let Some((uid, gid)) = guard::unprivileged_user() {
        initdb.uid(uid).gid(gid);
    }
    let output = initdb.output().map_err(|error| format!("initdb: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("initdb: {}\n{INSTALL}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Starts the server on its data in `folder`. With `owns_folder`, the returned guard deletes the folder when it is dropped.
fn serve(programs: &Path, folder: &Path, port: u16, owns_folder: bool, settings: &[&str]) -> Result<Guard, String> {
    let data = folder.join("data").display().to_string();
    let program = programs.join("postgres");
    let port = port.to_string();
    let sockets = format!("unix_socket_directories={}", folder.display());
    let mut command = vec![program.to_str().unwrap(), "-D", &data, "-p", &port, "-h", "127.0.0.1", "-c", &sockets];
    // without waiting for a disk: no test needs the data after a crash of the machine
    for setting in
        ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200"].iter().chain(settings)
    {
        command.extend(["-c", setting]);
    }
    // QUIT ends PostgreSQL without a checkpoint, which would only help the next start
    let spec = Spec {
        command: &command,
        stop: "QUIT",
        folder: owns_folder.then_some(folder),
        ready: "database system is ready to accept connections",
        // PostgreSQL refuses to run as root
        unprivileged: true,
    };
    Guard::start(&spec)
}
