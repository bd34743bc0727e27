//! Tests how a step-up changes a session, and for how long.

use std::time::Duration;

use latchkey::{domain::limit::Backoff, store::sql::AuditFilter};
use serde_json::json;

use super::{LONGER_THAN_RECENT, advance_and_refresh, problem, reauthenticate, try_reauthenticate};
use crate::harness::{client::PASSWORD, test_cluster::TestCluster};

#[tokio::test]
async fn reauthentication_renews_auth_time_of_the_session_and_refreshes_keep_it() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let signed_in_at = node.verified(&tokens.access).auth_time;
    let tokens = advance_and_refresh(&cluster, &node, &tokens, LONGER_THAN_RECENT).await;
    assert_eq!(node.verified(&tokens.access).auth_time, signed_in_at);
    let answer = try_reauthenticate(&node, &tokens.access, json!({ "password": PASSWORD })).await.expect(200);
    let now = cluster.clock.now().as_secs();
    assert_eq!(answer.json()["acr"], "aal1");
    assert_eq!(answer.json()["auth_time"], now);
    assert_eq!(answer.text_of("session_id"), tokens.session);
    let claims = node.verified(&answer.text_of("access_token"));
    assert_eq!(claims.auth_time, now);
    assert_eq!(claims.session_start, Some(signed_in_at));
    assert_eq!(claims.iat, now);
    assert_eq!(claims.acr, "aal1");
    assert_eq!(claims.amr, ["pwd"]);
    // The refresh token stays valid, and the step-up does not rotate it.
    let next = advance_and_refresh(&cluster, &node, &tokens, Duration::from_secs(1)).await;
    assert_eq!(node.verified(&next.access).auth_time, now);
    let much_later = advance_and_refresh(&cluster, &node, &next, Duration::from_hours(24)).await;
    assert_eq!(node.verified(&much_later.access).auth_time, now, "refreshes keep the time of the last authentication");
}

#[tokio::test]
async fn reauthentication_with_a_wrong_password_changes_nothing_and_is_throttled_like_a_sign_in() {
    let mut cluster = TestCluster::new();
    cluster.config.limits.login_backoff = backoff_after_one_failure();
    cluster.config.limits.login_per_address = None; // so that only the backoff refuses attempts
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let signed_in_at = node.verified(&tokens.access).auth_time;
    cluster.advance(Duration::from_secs(60));
    let mut answers = Vec::new();
    // The network is trusted, since the sign-in came from it. A trusted network has 20 times as many failures without a delay
    // (`Backoff::failures_without_delay_if_trusted`). So the 21st failure starts the delay, and the 22nd attempt is refused.
    for _ in 0..22 {
        answers.push(try_reauthenticate(&node, &tokens.access, json!({ "password": "not the password" })).await);
    }
    assert_eq!(answers[0].problem(), problem(403, "wrong_password"));
    let last = answers.pop().unwrap();
    assert_eq!(last.problem(), problem(429, "too_many_requests"), "the backoff of sign-ins applies");
    assert!(!last.header("retry-after").is_empty());
    assert_eq!(node.try_login("ada", PASSWORD).await.status, 429, "sign-ins and step-ups count the same failures");
    let refreshed = node.refresh(&tokens.refresh).await.expect(200).text_of("access_token");
    assert_eq!(node.verified(&refreshed).auth_time, signed_in_at);
}

/// A delay that begins with the second failure of a network that is not trusted.
fn backoff_after_one_failure() -> Option<Backoff> {
    Some(Backoff {
        failures_without_delay: 1,
        first_delay: Duration::from_secs(30),
        max_delay: Duration::from_secs(300),
        trust_ttl: Duration::from_hours(24),
        max_trusted: 10,
    })
}

#[tokio::test]
async fn reauthentication_needs_a_password_and_the_token_of_a_live_session_of_an_enabled_account() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let id = node.register("ada").await.text_of("id").parse().unwrap();
    let tokens = node.login("ada").await;
    let tokens_of_other_session = node.login("ada").await;
    let answer = try_reauthenticate(&node, &tokens.access, json!({})).await;
    assert_eq!(answer.problem(), problem(422, "invalid_fields"));
    let no_token = "";
    assert_eq!(try_reauthenticate(&node, no_token, json!({ "password": PASSWORD })).await.status, 401);
    node.logout(&tokens.refresh).await.expect(204);
    let answer = try_reauthenticate(&node, &tokens.access, json!({ "password": PASSWORD })).await;
    assert_eq!(answer.problem(), problem(401, "invalid_token"));
    latchkey::service::accounts::disable(&node.state, id).await.unwrap();
    let answer = try_reauthenticate(&node, &tokens_of_other_session.access, json!({ "password": PASSWORD })).await;
    assert_eq!(answer.problem(), problem(401, "invalid_token"));
}

/// I5: a changed password ends all sessions, and the caller gets a new one.
#[tokio::test]
async fn i5_changed_password_keeps_the_time_of_a_step_up_in_the_new_session() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let tokens = advance_and_refresh(&cluster, &node, &tokens, LONGER_THAN_RECENT).await;
    let access = reauthenticate(&node, &tokens.access, PASSWORD).await;
    let stepped_up_at = cluster.clock.now().as_secs();
    cluster.advance(Duration::from_secs(1));
    let changed = node.change_password(&access, PASSWORD, "gravel lantern ostrich nine").await.expect(200);
    assert_eq!(node.verified(&changed.text_of("access_token")).auth_time, stepped_up_at);
    assert_eq!(node.get("/v1/me", &access).await.status, 401, "the former session has ended");
}

#[tokio::test]
async fn step_up_is_in_the_audit_log_with_its_refusals() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    try_reauthenticate(&node, &tokens.access, json!({ "password": "wrong" })).await.expect(403);
    reauthenticate(&node, &tokens.access, PASSWORD).await;
    node.state.audit.flush().await.unwrap();
    let rows = node.state.sql.audit(&AuditFilter::default(), 100).await.unwrap();
    let step_ups: Vec<_> = rows.iter().filter(|row| row.event == "reauthentication").collect();
    let mut outcomes: Vec<_> = step_ups.iter().map(|row| (row.outcome.as_str(), row.reason.as_deref())).collect();
    outcomes.sort_unstable(); // both rows have the same time, so their order is not fixed
    // the reason of a success is the `acr`
    assert_eq!(outcomes, [("refused", Some("wrong_password")), ("success", Some("aal1"))]);
    for row in step_ups {
        assert_eq!(row.session_id.as_deref(), Some(tokens.session.as_str()));
    }
}
