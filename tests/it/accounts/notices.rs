//! Notices of changes to an account, and `POST /v1/account/secure`, by which an owner reports that an attacker made a change.

use std::time::Duration;

use serde_json::json;

use super::{NEW_PASSWORD, count_mails, email, problem, remove_mail_and_login_limits, reset, verify_address};
use crate::{
    harness::{
        client::{PASSWORD, Tokens},
        test_cluster::{Node, TestCluster},
    },
    mail::wait_until_mails_are_done,
};

/// The password that the owner sets after a report.
const RESET_PASSWORD: &str = "marble thicket saddle forty";

/// A cluster with a verified account.
async fn cluster_with_verified_account() -> (TestCluster, Node, Tokens) {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    (cluster, node, tokens)
}

#[tokio::test]
async fn changed_password_is_reported_and_the_report_secures_the_account() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let thief = Tokens::of(&node.change_password(&tokens.access, PASSWORD, NEW_PASSWORD).await.expect(200));
    let mail = cluster.mail_to(&email("ada"), "password_changed").await;
    let token = mail.token().to_owned();
    node.post("/v1/account/secure", json!({ "token": token })).await.expect(204);
    node.refresh(&thief.refresh).await.expect(401);
    node.try_login("ada", NEW_PASSWORD).await.expect(401);
    // the report has sent the owner a link that sets a new password
    let (link, _) = super::first_mail(&cluster, "ada", "password_reset").await;
    reset(&node, &link, RESET_PASSWORD).await.expect(204);
    node.login_with("ada", RESET_PASSWORD).await;
    let repeated = node.post("/v1/account/secure", json!({ "token": token })).await;
    assert_eq!(repeated.problem(), problem(401, "invalid_code"));
}

/// A factor that a thief has added must afterwards neither admit the thief nor keep the owner out.
#[tokio::test]
async fn report_removes_the_factors_that_were_added_within_its_validity() {
    let (cluster, node, _) = cluster_with_verified_account().await;
    crate::factors::enrol(&cluster, &node, "ada").await;
    // the sign-in now requires the factor
    crate::factors::challenge(&node, "ada").await;
    let token = cluster.mail_to(&email("ada"), "factor_changed").await.token().to_owned();
    // the link of a notice works for 72 hours
    cluster.advance(Duration::from_hours(71));
    node.post("/v1/account/secure", json!({ "token": token })).await.expect(204);
    let (link, _) = super::first_mail(&cluster, "ada", "password_reset").await;
    reset(&node, &link, RESET_PASSWORD).await.expect(204);
    let owner = node.login_with("ada", RESET_PASSWORD).await;
    let left = node.get("/v1/me/factors", &owner.access).await.expect(200).json();
    assert_eq!(left["factors"], json!([]));
    assert_eq!(left["recovery_codes_left"], 0);
    // audit events are written with a delay
    node.state.audit.flush().await.unwrap();
    let rows = node.state.sql.audit(&latchkey::store::sql::AuditFilter::default(), 100).await.unwrap();
    let suspect: Vec<_> = rows.iter().filter(|row| row.reason.as_deref() == Some("suspect")).collect();
    assert_eq!(suspect.len(), 2, "the app and the recovery codes: {suspect:?}");
}

#[tokio::test]
async fn new_device_and_network_are_reported_and_known_ones_are_not() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    // each sign-in states its address in `X-Forwarded-For`
    cluster.config.http.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let node = cluster.node().await;
    node.register("ada").await;
    let login = |address: &'static str| {
        let body = json!({ "identifier": "ada", "password": PASSWORD });
        let request = node.request(reqwest::Method::POST, "/v1/login").header("x-forwarded-for", address);
        node.send(request.header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Firefox/130.0").json(&body))
    };
    // not reported: the address is not verified yet
    let tokens = Tokens::of(&login("192.0.2.1").await.expect(200));
    verify_address(&cluster, &node, "ada", &tokens).await;
    // no sign-in sends a device token, so the account recognizes it by its network only
    login("192.0.2.1").await.expect(200);
    login("198.51.100.7").await.expect(200);
    let mail = cluster.mail_to(&email("ada"), "new_device").await;
    assert!(mail.text.contains("198.51.100.7") && mail.text.contains("Firefox, Linux"), "{}", mail.text);
    login("198.51.100.7").await.expect(200);
    wait_until_mails_are_done(&node.state.sql).await;
    assert_eq!(count_mails(&cluster, "ada", "new_device"), 1);
}

#[tokio::test]
async fn reuse_of_a_refresh_token_and_disabling_are_reported() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    let node = cluster.node().await;
    let id = node.register("ada").await.text_of("id").parse().unwrap();
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    node.refresh(&tokens.refresh).await.expect(200);
    // after the retry window of 24 hours, in which the superseded token would be answered
    cluster.advance(Duration::from_hours(48));
    node.refresh(&tokens.refresh).await.expect(401);
    cluster.mail_to(&email("ada"), "session_reuse").await;
    latchkey::service::accounts::disable(&node.state, id).await.unwrap();
    cluster.mail_to(&email("ada"), "account_disabled").await;
}

#[tokio::test]
async fn unverified_address_gets_no_notices() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    node.change_password(&tokens.access, PASSWORD, NEW_PASSWORD).await.expect(200);
    let (every_state, limit) = (None, 10);
    assert!(node.state.sql.mails(every_state, limit).await.unwrap().is_empty());
}
