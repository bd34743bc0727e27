//! Tests Envoy with `ext_authz` over HTTP, in the configuration of `examples/envoy`.

use super::{Addresses, Proxy, copy_example};
use crate::{
    harness::guard::{self, Guard, Spec},
    openapi_external::tool,
};

#[tokio::test(flavor = "multi_thread")]
async fn envoy_passes_valid_tokens_only() {
    Proxy { start, has_short_timeout: true }.check().await;
}

fn start(addresses: &Addresses) -> Result<Guard, String> {
    let program = tool("envoy");
    let folder = guard::folder("latchkey-envoy-");
    let settings = folder.join("envoy.yaml");
    // The example's ports of Latchkey, the app and Envoy are replaced with free ones.
    let address = |port: u16| format!("address: 127.0.0.1, port_value: {port} ");
    copy_example(
        "envoy/envoy.yaml",
        &settings,
        &[
            (&address(8080), &address(addresses.latchkey.port())),
            (&address(3000), &address(addresses.app.port())),
            (&address(8000), &address(addresses.listen.port())),
        ],
    );
    Guard::start(&Spec {
        // The base id allows several Envoys on one machine. One thread is enough.
        command: &[
            program.to_str().unwrap(),
            "--config-path",
            settings.to_str().unwrap(),
            "--use-dynamic-base-id",
            "--concurrency",
            "1",
        ],
        stop: "TERM",
        folder: Some(&folder),
        ready: "starting main dispatch loop",
        unprivileged: false,
    })
}
