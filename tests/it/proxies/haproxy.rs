//! Tests the example of `examples/haproxy`: HAProxy with a Lua action that calls Latchkey.

use std::fs;

use super::{Addresses, Proxy, copy_example};
use crate::harness::guard::{self, Guard, Spec};

const INSTALL: &str = "this test needs HAProxy: `apt-get install haproxy` (Debian, Ubuntu), `dnf install haproxy` (Fedora), \
                       `apk add haproxy` (Alpine), `brew install haproxy` (macOS); or run `make test`, which installs it";

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_passes_valid_tokens_only() {
    Proxy { start, has_short_timeout: true }.check().await;
}

/// Starts HAProxy with the example's files, in which only addresses and the path of the script are replaced.
fn start(addresses: &Addresses) -> Result<Guard, String> {
    let program = guard::find_programs(&["haproxy"], []).ok_or(INSTALL)?.join("haproxy");
    let folder = guard::folder("latchkey-haproxy-");
    let script = folder.join("latchkey.lua");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/haproxy/latchkey.lua"), &script).unwrap();
    let settings = folder.join("haproxy.cfg");
    copy_example(
        "haproxy/haproxy.cfg",
        &settings,
        &[
            ("lua-load latchkey.lua", &format!("lua-load {}", script.display())),
            ("127.0.0.1:8080", &addresses.latchkey.to_string()),
            ("127.0.0.1:3000", &addresses.app.to_string()),
            ("127.0.0.1:8000", &addresses.listen.to_string()),
        ],
    );
    // -W -db: a master and a worker, in the foreground. The master reports "Loading success" when the worker is ready.
    Guard::start(&Spec {
        command: &[program.to_str().unwrap(), "-W", "-db", "-f", settings.to_str().unwrap()],
        stop: "TERM",
        folder: Some(&folder),
        ready: "Loading success",
        unprivileged: false,
    })
}
