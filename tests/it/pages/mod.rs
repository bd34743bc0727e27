//! Tests the sign-in and account pages over HTTP, as browsers without scripts use them, and in Chromium.

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

/// The password that `ada` gets in tests that change it.
pub const NEW_PASSWORD: &str = "gravel lantern ostrich nine";

/// A cluster where a registration sends a mail for verification, users can sign in before they verify the address, and codes from mails
/// sign in.
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
