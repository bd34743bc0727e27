//! Second factors on the plain page of `examples/browser` in Chromium: an authenticator app, recovery codes, step-up, and a sign-in that
//! requires the set-up of a factor.

use std::time::Duration;

use latchkey::{
    config::RelyingParty,
    domain::{account::Roles, factor::FactorPolicy},
    service::accounts::change_roles,
};

use super::cluster;
use crate::{
    clients::browser::{FACTOR_CHECKS, PageServer, build, drive_until_later},
    harness::guard,
};

#[tokio::test(flavor = "multi_thread")]
async fn example_in_chromium_enrols_signs_in_reauthenticates_and_recovers() {
    let client_package = build();
    let port = guard::free_port();
    let page = format!("http://localhost:{port}");
    let mut cluster = cluster();
    let admin = Roles::parse(["admin"]).unwrap();
    cluster.config.factors.required = FactorPolicy::Roles(admin.clone());
    // without a grace period, an admin must set up a factor at the next sign-in
    cluster.config.factors.grace = Duration::ZERO;
    cluster.config.http.allowed_origins = vec![page.clone()];
    cluster.config.passkeys.relying_party = Some(RelyingParty { id: "localhost".to_owned(), origins: vec![page] });
    let node = cluster.node().await;
    node.register("ada").await;
    // in the script, eve and bob must set up a factor when they sign in, as admins
    for name in ["eve", "bob"] {
        let id = node.register(name).await.text_of("id").parse().unwrap();
        let no_removed_roles = Roles::default();
        change_roles(&node.state, id, &admin, &no_removed_roles).await.unwrap();
    }
    let _page_server = PageServer::start(&client_package, port);
    let clock = cluster.clock.clone();
    // The step-up of the script needs an authentication that is older than `session.recent` (10 minutes).
    let later = Box::new(move || clock.advance(Duration::from_mins(11)));
    drive_until_later(&node.base, port, "factors_browser.mjs", &FACTOR_CHECKS, Some(later)).await;
}
