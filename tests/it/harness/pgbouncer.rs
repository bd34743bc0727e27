//! A PgBouncer in transaction mode in front of the tests' PostgreSQL, shared by the whole process.

use std::sync::OnceLock;

use super::{
    guard::{self, Guard, Spec},
    postgres,
};

const INSTALL_HINT: &str = "these tests need PgBouncer: `apt-get install pgbouncer` (Debian, Ubuntu), \
                       `dnf install pgbouncer` (Fedora), `apk add pgbouncer` (Alpine), `brew install pgbouncer` \
                       (macOS); or run `make test`, which installs it";

/// sqlx sends this parameter when it connects. PgBouncer refuses parameters that it neither knows nor ignores.
const SETTING_FOR_SQLX: &str = "ignore_startup_parameters = extra_float_digits\n";

/// A running pooler.
pub struct PgBouncer {
    guard: Guard,
    port: u16,
}

/// Returns the pooler that all tests of this process share.
pub fn shared() -> &'static PgBouncer {
    static SHARED: OnceLock<Result<PgBouncer, String>> = OnceLock::new();
    match SHARED.get_or_init(|| PgBouncer::start(SETTING_FOR_SQLX)) {
        Ok(pgbouncer) => pgbouncer,
        Err(error) => panic!("{error}"),
    }
}

/// Starts a pooler without [`SETTING_FOR_SQLX`].
pub fn unconfigured() -> PgBouncer {
    let no_setting = "";
    PgBouncer::start(no_setting).unwrap_or_else(|error| panic!("{error}"))
}

impl PgBouncer {
    /// Starts a pooler whose configuration ends with `last_setting`.
    fn start(last_setting: &str) -> Result<Self, String> {
        let postgres = postgres::shared();
        let no_other_folders = [];
        let program_folder = guard::find_programs(&["pgbouncer"], no_other_folders).ok_or(INSTALL_HINT)?;
        let program = program_folder.join("pgbouncer");
        let mut last_error = String::new();
        // another process may take the port first: retry with another port
        for _ in 0..5 {
            let folder = guard::folder("latchkey-pgbouncer-");
            let settings_file = folder.join("pgbouncer.ini");
            let port = guard::free_port();
            std::fs::write(&settings_file, settings(port, postgres.port()) + last_setting).unwrap();
            let spec = Spec {
                command: &[program.to_str().unwrap(), settings_file.to_str().unwrap()],
                // other signals have different meanings in different releases, and a pooler has no state to lose
                stop: "KILL",
                folder: Some(&folder),
                ready: "process up",
                // PgBouncer refuses to run as root
                unprivileged: true,
            };
            match Guard::start(&spec) {
                Ok(guard) => return Ok(Self { guard, port }),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    /// Returns the URL of a database of the shared PostgreSQL, through the pooler.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The server process.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }
}

/// A configuration that checks no passwords. All clients share three server connections, so that a client's connection changes.
fn settings(port: u16, postgres_port: u16) -> String {
    format!(
        "[databases]\n\
         * = host=127.0.0.1 port={postgres_port} user=postgres\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = any\n\
         pool_mode = transaction\n\
         default_pool_size = 3\n\
         max_client_conn = 500\n"
    )
}
