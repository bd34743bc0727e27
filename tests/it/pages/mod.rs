//! The sign-in and account pages: over HTTP as browsers without scripts use them, and in Chromium.

mod account;
mod assets;
mod chromium;
mod errors;
mod forms;
mod headers;
mod journeys;
mod reauthenticate;
pub mod second_factor;
pub mod visitor;

use latchkey::config::Verification;

use self::visitor::Visitor;
use crate::harness::{
    client::PASSWORD,
    test_cluster::{Node, TestCluster},
};

/// The address of the account `ada`.
pub const ADA: &str = "ada@example.com";

/// A password that `ada` does not have at first.
pub const NEW_PASSWORD: &str = "gravel lantern ostrich nine";

/// A cluster where registrations send a mail for verification, which a sign-in does not wait for, and users may sign in by a code from a
/// mail.
pub fn cluster() -> TestCluster {
    let mut cluster = TestCluster::new();
    cluster.config.registration.verification = Verification::Later;
    cluster.config.login.email_code = true;
    cluster
}

/// A browser that has signed in as `ada`.
pub async fn signed_in(node: &Node) -> Visitor {
    let mut ada = Visitor::new(node);
    ada.open("/account/sign-in").await.expect(200);
    ada.submit("/account/sign-in", &[("identifier", "ada"), ("password", PASSWORD)]).await.expect(303);
    ada
}
