//! Deletion of an account by its owner (`DELETE /v1/me`), and the export of the account's data (`GET /v1/me/export`).

use std::time::Duration;

use latchkey::service::delete_account::delete_due;
use reqwest::Method;
use serde_json::json;

use super::{email, problem, signed_in, verify_address};
use crate::harness::{client::PASSWORD, test_cluster::TestCluster};

/// The default of `account.deletion_grace`.
const GRACE: Duration = Duration::from_hours(14 * 24);

#[tokio::test]
async fn deletion_ends_sessions_at_once_and_removes_the_account_after_the_grace_period() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    // only a verified address gets the mail about the deletion
    verify_address(&cluster, &node, "ada", &tokens).await;
    let answer = signed_in(&node, &tokens, Method::DELETE, "/v1/me", json!({})).await.expect(202);
    // 14 days after 2027-01-15T08:00:00Z, at which the test's clock starts
    assert_eq!(answer.text_of("deletes_at"), "2027-01-29T08:00:00.000Z");
    node.refresh(&tokens.refresh).await.expect(401);
    cluster.mail_to(&email("ada"), "deletion_scheduled").await;
    assert_eq!(delete_due(&node.state).await.unwrap(), 0, "the grace period has not ended");
    cluster.advance(GRACE);
    // the grace period has ended, and the deletion has not run yet
    assert_eq!(node.try_login("ada", PASSWORD).await.problem(), problem(401, "invalid_credentials"));
    assert_eq!(delete_due(&node.state).await.unwrap(), 1);
    // the address is free again
    node.register("ada").await;
}

#[tokio::test]
async fn account_that_cannot_be_deleted_does_not_keep_later_accounts_from_deletion() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    for name in ["ada", "ben"] {
        node.register(name).await;
        let tokens = node.login(name).await;
        signed_in(&node, &tokens, Method::DELETE, "/v1/me", json!({})).await.expect(202);
        // the deletion of ada is due before that of ben
        cluster.advance(Duration::from_secs(1));
    }
    // makes the deletion of ada fail
    let create_trigger = "CREATE TRIGGER refuse BEFORE DELETE ON accounts WHEN OLD.email_key = 'ada@example.com' \
                  BEGIN SELECT RAISE(ABORT, 'refused'); END";
    cluster.execute_sql(create_trigger).await;
    cluster.advance(GRACE);
    assert_eq!(delete_due(&node.state).await.unwrap(), 1, "the account of ben");
    node.register("ben").await;
    assert_eq!(delete_due(&node.state).await.unwrap(), 0, "the new account of ben is not deleted");
    cluster.execute_sql("DROP TRIGGER refuse").await;
    assert_eq!(delete_due(&node.state).await.unwrap(), 1, "the account of ada");
}

#[tokio::test]
async fn sign_in_during_the_grace_period_cancels_the_deletion() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    signed_in(&node, &tokens, Method::DELETE, "/v1/me", json!({})).await.expect(202);
    let one_day = Duration::from_hours(24);
    cluster.advance(GRACE - one_day);
    node.login("ada").await;
    // a day after the end of the grace period
    cluster.advance(2 * one_day);
    assert_eq!(delete_due(&node.state).await.unwrap(), 0);
    node.login("ada").await;
}

#[tokio::test]
async fn export_has_all_data_and_no_secrets() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let body = json!({ "display_name": "Ada Lovelace", "user_metadata": { "theme": "dark" } });
    signed_in(&node, &tokens, Method::PATCH, "/v1/me", body).await.expect(200);
    // audit events are written with a delay
    node.state.audit.flush().await.unwrap();
    let export = node.get("/v1/me/export", &tokens.access).await.expect(200);
    let data = export.json();
    assert_eq!(data["account"]["display_name"], "Ada Lovelace");
    assert_eq!(data["account"]["user_metadata"]["theme"], "dark");
    assert_eq!(data["factors"], json!([]));
    assert_eq!(data["email_code"], false, "codes by mail are no factor of the account");
    assert_eq!(data["consents"], json!([]));
    assert_eq!(data["sessions"][0]["id"], tokens.session.as_str());
    let events = data["events"].as_array().unwrap();
    let mut names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    // The clock stands still, so all events have the same time and no defined order.
    names.sort_unstable();
    assert_eq!(names, ["account_added", "profile_changed", "sign_in"]);
    assert!(!export.text.contains("argon2"), "a password hash: {}", export.text);
    assert!(!export.text.contains("lk_rt_"), "a refresh token: {}", export.text);
}
