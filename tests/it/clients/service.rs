//! The service as a separate process: the binary, with a Redis of its own and a service client.

use std::{fs, path::Path};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    binary::{self, Service},
    harness::{client::Client, guard, redis::Redis},
};

/// A running service. Stops when dropped.
pub(super) struct ServiceProcess {
    /// Present until the process is dropped.
    service: Option<Service>,
    folder: TempDir,
    /// Kept, because the server stops when it is dropped. None for an embedded Redis.
    _redis: Option<Redis>,
    /// The id of the service client `shop`.
    client_id: String,
    client_secret: String,
}

impl ServiceProcess {
    /// Starts a service that uses new signing keys after a second, so that tests observe a rotation.
    pub(super) fn start() -> Self {
        Self::start_with("")
    }

    /// As [`ServiceProcess::start`], with these additional lines in the configuration file.
    pub(super) fn start_with(lines: &str) -> Self {
        let redis = Redis::start();
        let settings = format!(
            "redis.url = \"{}\"\nkeys.publish_before = \"1s\"\nkeys.refresh_interval = \"1s\"\n{lines}",
            redis.url()
        );
        // the default issuer is the address that the service listens on
        Self::start_on(Some(redis), &settings, |_| Vec::new())
    }

    /// Starts a service as `make run` does, with an embedded Redis and mails in the data folder. `lines` is the configuration file. The
    /// issuer is at `localhost`.
    pub(super) fn start_as_make_run(lines: &str) -> Self {
        Self::start_on(None, lines, |port| vec!["--set".to_owned(), format!("issuer=http://localhost:{port}")])
    }

    /// Starts a service on a free port. `arguments` returns the further arguments of `latchkey serve` for that port.
    fn start_on(redis: Option<Redis>, settings: &str, arguments: impl Fn(u16) -> Vec<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("latchkey.toml"), settings).unwrap();
        let start = || {
            let port = guard::free_port();
            let (listen, arguments) = (format!("listen=127.0.0.1:{port}"), arguments(port));
            let arguments = ["serve", "--set", &listen].into_iter().chain(arguments.iter().map(String::as_str));
            Service::try_start_with(folder.path(), &arguments.collect::<Vec<_>>())
        };
        // another process may take the port: five attempts, and the log of the last if all fail
        let service =
            (0..4).find_map(|_| start().ok()).unwrap_or_else(|| start().unwrap_or_else(|log| panic!("{log}")));
        let added = binary::run(folder.path(), &["client", "add", "shop"]);
        let printed = String::from_utf8(added.stdout).unwrap();
        let line = |name: &str| {
            let found = printed.lines().find_map(|line| line.strip_prefix(name));
            found
                .unwrap_or_else(|| panic!("no {name} in {printed}: {}", String::from_utf8_lossy(&added.stderr)))
                .to_owned()
        };
        let (client_id, client_secret) = (line("client_id: "), line("client_secret: "));
        Self { service: Some(service), folder, _redis: redis, client_id, client_secret }
    }

    /// An HTTP client of the service.
    pub(super) fn client(&self) -> &Client {
        &self.service.as_ref().unwrap().client
    }

    /// The issuer of a service of [`ServiceProcess::start_as_make_run`].
    pub(super) fn issuer(&self) -> String {
        self.client().base.replace("127.0.0.1", "localhost")
    }

    /// The working directory of the service.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The variables of the clients' test suites.
    pub(super) fn suite_environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TEST_SERVICE_ISSUER", self.client().base.clone()),
            ("TEST_SERVICE_CLIENT_ID", self.client_id.clone()),
            ("TEST_SERVICE_CLIENT_SECRET", self.client_secret.clone()),
            ("TEST_SERVICE_BINARY", env!("CARGO_BIN_EXE_latchkey").to_owned()),
            ("TEST_SERVICE_FOLDER", self.folder.path().display().to_string()),
        ]
    }

    /// The variables of the example apps and the READMEs' programs.
    pub(super) fn app_environment(&self) -> Vec<(String, String)> {
        let variables = [
            ("AUTH_ISSUER", self.client().base.clone()),
            ("AUTH_CLIENT_ID", self.client_id.clone()),
            ("AUTH_CLIENT_SECRET", self.client_secret.clone()),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        if let Some(service) = self.service.take() {
            service.end(Signal::TERM);
        }
    }
}
