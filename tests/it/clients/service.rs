//! Latchkey as others use it: the binary, with a Redis of its own and a service client.

use std::fs;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    binary::{self, Service},
    harness::{client::Client, guard, redis::Redis},
};

/// Running until dropped.
pub(super) struct Latchkey {
    service: Option<Service>,
    folder: TempDir,
    _redis: Redis,
    id: String,
    secret: String,
}

impl Latchkey {
    /// Its keys sign soon after they were made, so that a test sees them rotate.
    pub(super) fn start() -> Self {
        let (folder, redis) = (tempfile::tempdir().unwrap(), Redis::start());
        let settings =
            format!("redis.url = \"{}\"\nkeys.publish_before = \"1s\"\nkeys.refresh_interval = \"1s\"\n", redis.url());
        fs::write(folder.path().join("latchkey.toml"), settings).unwrap();
        // the issuer is where it listens
        let start = || {
            let listen = format!("listen=127.0.0.1:{}", guard::free_port());
            Service::try_start_with(folder.path(), &["serve", "--set", &listen])
        };
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
        let (id, secret) = (line("client_id: "), line("client_secret: "));
        Self { service: Some(service), folder, _redis: redis, id, secret }
    }

    /// Calls it.
    pub(super) fn client(&self) -> &Client {
        &self.service.as_ref().unwrap().client
    }

    /// What the test suites of the clients are told by.
    pub(super) fn for_suites(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TEST_SERVICE_ISSUER", self.client().base.clone()),
            ("TEST_SERVICE_CLIENT_ID", self.id.clone()),
            ("TEST_SERVICE_CLIENT_SECRET", self.secret.clone()),
            ("TEST_SERVICE_BINARY", env!("CARGO_BIN_EXE_latchkey").to_owned()),
            ("TEST_SERVICE_FOLDER", self.folder.path().display().to_string()),
        ]
    }

    /// What the example apps and the READMEs' are told by.
    pub(super) fn for_apps(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AUTH_ISSUER", self.client().base.clone()),
            ("AUTH_CLIENT_ID", self.id.clone()),
            ("AUTH_CLIENT_SECRET", self.secret.clone()),
        ]
    }
}

impl Drop for Latchkey {
    fn drop(&mut self) {
        if let Some(service) = self.service.take() {
            service.end(Signal::TERM);
        }
    }
}
