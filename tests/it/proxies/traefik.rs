//! Tests Traefik with `ForwardAuth`, in the configuration of `examples/traefik`.

use super::{Addresses, Proxy, copy_example};
use crate::{
    harness::guard::{self, Guard, Spec},
    openapi_external::tool,
};

#[tokio::test(flavor = "multi_thread")]
async fn traefik_passes_valid_tokens_only() {
    // Traefik waits 30 s for a response, which cannot be changed.
    Proxy { start, has_short_timeout: false }.check().await;
}

fn start(addresses: &Addresses) -> Result<Guard, String> {
    let program = tool("traefik");
    let folder = guard::folder("latchkey-traefik-");
    // Traefik's static configuration names the file with the dynamic one.
    let settings = folder.join("traefik.yml");
    let dynamic = folder.join("dynamic.yml");
    copy_example(
        "traefik/traefik.yml",
        &settings,
        &[
            ("127.0.0.1:8000", &addresses.listen.to_string()),
            ("filename: dynamic.yml", &format!("filename: {}", dynamic.display())),
        ],
    );
    copy_example(
        "traefik/dynamic.yml",
        &dynamic,
        &[("127.0.0.1:8080", &addresses.latchkey.to_string()), ("127.0.0.1:3000", &addresses.app.to_string())],
    );
    Guard::start(&Spec {
        command: &[program.to_str().unwrap(), &format!("--configFile={}", settings.display())],
        stop: "TERM",
        folder: Some(&folder),
        ready: "Starting provider aggregator",
        unprivileged: false,
    })
}
