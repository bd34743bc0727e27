//! Calls about the account that need a recent authentication.

use reqwest::Method;
use serde_json::{Value, json};

use super::{LONGER_THAN_RECENT, advance_and_refresh, assert_challenge, reauthenticate};
use crate::{
    accounts::signed_in,
    harness::{
        client::{PASSWORD, Tokens},
        test_cluster::TestCluster,
    },
};

/// Every sensitive call: method, path, body, and the status of its answer after a step-up. The two calls about one secondary address
/// get the id of the session `other` instead of an address's, so the answer is 404. The last call schedules the account's deletion.
fn calls(other: &Tokens) -> Vec<(Method, String, Value, u16)> {
    vec![
        (Method::PATCH, "/v1/me".to_owned(), json!({ "username": "lovelace" }), 200),
        (Method::POST, "/v1/me/email".to_owned(), json!({ "email": "new@example.com" }), 202),
        (Method::POST, "/v1/me/emails".to_owned(), json!({ "email": "work@example.com" }), 202),
        (Method::POST, format!("/v1/me/emails/{}/primary", other.session), json!({}), 404),
        (Method::DELETE, format!("/v1/me/emails/{}", other.session), json!({}), 404),
        (Method::GET, "/v1/me/export".to_owned(), json!({}), 200),
        (Method::DELETE, format!("/v1/sessions/{}", other.session), json!({}), 204),
        (Method::DELETE, "/v1/sessions?keep_current=true".to_owned(), json!({}), 200),
        (Method::DELETE, "/v1/me".to_owned(), json!({}), 202),
    ]
}

#[tokio::test]
async fn sensitive_call_long_after_the_sign_in_is_challenged_and_succeeds_after_a_step_up() {
    let mut cluster = TestCluster::new();
    crate::accounts::remove_mail_and_login_limits(&mut cluster);
    let node = cluster.node().await;
    node.register("ada").await;
    let (tokens, other) = (node.login("ada").await, node.login("ada").await);
    let tokens = advance_and_refresh(&cluster, &node, &tokens, LONGER_THAN_RECENT).await;
    for (method, path, body, _) in calls(&other) {
        let answer = signed_in(&node, &tokens, method, &path, body).await;
        // the default of `session.recent`, in seconds
        assert_challenge(&answer, ", max_age=\"600\"");
    }
    // Calls that are not sensitive need no step-up, such as a change of the display name, or the list of sessions.
    signed_in(&node, &tokens, Method::PATCH, "/v1/me", json!({ "display_name": "Ada" })).await.expect(200);
    node.get("/v1/sessions", &tokens.access).await.expect(200);
    let access = reauthenticate(&node, &tokens.access, PASSWORD).await;
    let tokens = Tokens { access, ..tokens };
    for (method, path, body, status) in calls(&other) {
        signed_in(&node, &tokens, method, &path, body).await.expect(status);
    }
}

#[tokio::test]
async fn end_of_own_session_and_password_change_need_no_step_up() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (tokens, other) = (node.login("ada").await, node.login("ada").await);
    let tokens = advance_and_refresh(&cluster, &node, &tokens, LONGER_THAN_RECENT).await;
    // The access token of the other session has expired.
    let other = Tokens::of(&node.refresh(&other.refresh).await.expect(200));
    node.delete(&format!("/v1/sessions/{}", tokens.session), &tokens.access).await.expect(204);
    // The current password is a recent authentication.
    node.change_password(&other.access, PASSWORD, "gravel lantern ostrich nine").await.expect(200);
}
