//! The page of `examples/browser` in Chromium with virtual authenticators: passkeys that are discoverable or not, with and without user
//! verification, conditional UI, two devices, passkeys as second factors, and a removed passkey.

use latchkey::config::RelyingParty;

use crate::{
    accounts::remove_mail_and_login_limits,
    clients::browser::{PASSKEY_CHECKS, PageServer, build, drive},
    harness::{guard, test_cluster::TestCluster},
};

#[tokio::test(flavor = "multi_thread")]
async fn example_in_chromium_uses_passkeys_of_virtual_authenticators() {
    let browser_client = build();
    let page_port = guard::free_port();
    // Browsers allow passkeys without TLS at `localhost` only.
    let page_origin = format!("http://localhost:{page_port}");
    let mut cluster = TestCluster::new();
    // The checks sign in more often than the rate limits allow.
    remove_mail_and_login_limits(&mut cluster);
    cluster.config.http.allowed_origins = vec![page_origin.clone()];
    let relying_party = RelyingParty { id: "localhost".to_owned(), origins: vec![page_origin] };
    cluster.config.passkeys.relying_party = Some(relying_party);
    let node = cluster.node().await;
    node.register("ada").await;
    let _page_server = PageServer::start(&browser_client, page_port);
    drive(&node.base, page_port, "passkeys_browser.mjs", &PASSKEY_CHECKS).await;
}
