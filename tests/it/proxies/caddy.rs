//! Tests Caddy with `forward_auth`, in the configuration of `examples/caddy`.

use super::{Addresses, Proxy, copy_example};
use crate::{
    harness::guard::{self, Guard, Spec},
    openapi_external::tool,
};

#[tokio::test(flavor = "multi_thread")]
async fn caddy_passes_valid_tokens_only() {
    Proxy { start, has_short_timeout: true }.check().await;
}

fn start(addresses: &Addresses) -> Result<Guard, String> {
    let program = tool("caddy");
    let folder = guard::folder("latchkey-caddy-");
    let caddyfile = folder.join("Caddyfile");
    copy_example(
        "caddy/Caddyfile",
        &caddyfile,
        // the addresses of the example, and those that take their place
        &[
            ("127.0.0.1:8080", &addresses.latchkey.to_string()),
            ("127.0.0.1:3000", &addresses.app.to_string()),
            ("http://:8000", &format!("http://:{}", addresses.listen.port())),
        ],
    );
    // Caddy creates a folder for certificates in its data folder, even if it serves none. Without the variables of XDG, the data folder is
    // below `HOME`.
    let home = format!("HOME={}", folder.display());
    let environment = ["env", "-u", "XDG_DATA_HOME", "-u", "XDG_CONFIG_HOME", &home];
    let run = [program.to_str().unwrap(), "run", "--adapter", "caddyfile", "--config", caddyfile.to_str().unwrap()];
    Guard::start(&Spec {
        command: &[&environment[..], &run].concat(),
        stop: "TERM",
        folder: Some(&folder),
        ready: "serving initial configuration",
        unprivileged: false,
    })
}
