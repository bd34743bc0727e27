//! The service as a separate process, for the tests of the client packages: the binary, with a Redis of its own and a service client.

use std::{fs, path::Path};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    binary::{self, Service},
    harness::{client::Client, guard, redis::Redis},
};

/// A running service. Stops when dropped.
pub(super) struct ServiceProcess {
    /// `None` only while this value is dropped.
    service: Option<Service>,
    folder: TempDir,
    /// Kept, because dropping it stops the server. `None` if the Redis is embedded.
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
        // No further arguments: the default issuer is the address that the service listens on
        Self::start_on(Some(redis), &settings, |_| Vec::new())
    }

    /// Starts a service as `make run` does, with an embedded Redis and mails in the data folder, except that the issuer is at
    /// `localhost`: apps send the browser to the issuer, and browsers accept no passkeys at `127.0.0.1`. `lines` is the content of
    /// the configuration file.
    pub(super) fn start_as_make_run(lines: &str) -> Self {
        Self::start_on(None, lines, |port| vec!["--set".to_owned(), format!("issuer=http://localhost:{port}")])
    }

    /// Starts a service on a free port. `arguments_for` returns the further arguments of `latchkey serve` for that port.
    fn start_on(redis: Option<Redis>, settings: &str, arguments_for: impl Fn(u16) -> Vec<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("latchkey.toml"), settings).unwrap();
        let start = || {
            let port = guard::free_port();
            let listen = format!("listen=127.0.0.1:{port}");
            let further_arguments = arguments_for(port);
            let mut all_arguments = vec!["serve", "--set", &listen];
            all_arguments.extend(further_arguments.iter().map(String::as_str));
            Service::try_start_with(folder.path(), &all_arguments)
        };
        // Another process may take the port, so there are five attempts.
        let mut attempt = 1;
        let service = loop {
            match start() {
                Ok(service) => break service,
                Err(log) if attempt == 5 => panic!("{log}"),
                Err(_) => attempt += 1,
            }
        };
        let added = binary::run(folder.path(), &["client", "add", "shop"]);
        let printed = String::from_utf8(added.stdout).unwrap();
        let value_of = |name: &str| {
            let found = printed.lines().find_map(|line| line.strip_prefix(name));
            let errors = String::from_utf8_lossy(&added.stderr);
            found.unwrap_or_else(|| panic!("no {name} in {printed}: {errors}")).to_owned()
        };
        let (client_id, client_secret) = (value_of("client_id: "), value_of("client_secret: "));
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

    /// The environment variables of the clients' test suites.
    pub(super) fn suite_environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TEST_SERVICE_ISSUER", self.client().base.clone()),
            ("TEST_SERVICE_CLIENT_ID", self.client_id.clone()),
            ("TEST_SERVICE_CLIENT_SECRET", self.client_secret.clone()),
            ("TEST_SERVICE_BINARY", env!("CARGO_BIN_EXE_latchkey").to_owned()),
            ("TEST_SERVICE_FOLDER", self.folder.path().display().to_string()),
        ]
    }

    /// The environment variables of the example apps and the READMEs' programs.
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
