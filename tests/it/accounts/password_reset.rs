//! Password reset by mail: `POST /v1/password/forgot`, `POST /v1/password/reset`.

use std::time::Duration;

use latchkey::domain::{limit::Quota, one_time_token::CODE_ATTEMPTS};
use serde_json::json;

use super::{NEW_PASSWORD, email, problem, remove_mail_and_login_limits, request_reset, reset, signed_in};
use crate::harness::{client::PASSWORD, test_cluster::TestCluster, wait};

#[tokio::test]
async fn reset_by_link_sets_password_ends_all_sessions_and_verifies_address() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let (token, _) = request_reset(&cluster, &node, "ada").await;
    // a mail scanner that follows the link does not consume it
    for method in [reqwest::Method::GET, reqwest::Method::HEAD] {
        let path = format!("/v1/password/reset?token={token}");
        assert_eq!(node.send(node.request(method, &path)).await.status, 405);
    }
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    assert_eq!(node.refresh(&tokens.refresh).await.problem(), problem(401, "invalid_refresh_token"));
    node.try_login("ada", PASSWORD).await.expect(401);
    let tokens = node.login_with("ada", NEW_PASSWORD).await;
    let me = node.get("/v1/me", &tokens.access).await.expect(200).json();
    assert_eq!(me["email_verified"], true);
    assert_eq!(reset(&node, &token, PASSWORD).await.problem(), problem(401, "invalid_code"), "a link works once");
}

#[tokio::test]
async fn reset_by_code_accepts_any_case_and_grouping_and_the_username() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (token, code) = request_reset(&cluster, &node, "ada").await;
    let typed = code.to_lowercase().replace('-', " ");
    // the username, in another case
    let body = json!({ "identifier": "ADA", "code": typed, "new_password": NEW_PASSWORD });
    node.post("/v1/password/reset", body).await.expect(204);
    node.try_login("ada", NEW_PASSWORD).await.expect(200);
    // the link and the code of a mail work once together
    assert_eq!(reset(&node, &token, PASSWORD).await.problem(), problem(401, "invalid_code"));
}

#[tokio::test]
async fn weak_password_does_not_consume_the_link() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (token, _) = request_reset(&cluster, &node, "ada").await;
    for weak in ["password", "short", "ada@example.com"] {
        assert_eq!(reset(&node, &token, weak).await.problem(), problem(422, "weak_password"), "{weak}");
    }
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
}

#[tokio::test]
async fn wrong_codes_invalidate_the_code_and_not_the_link() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (token, code) = request_reset(&cluster, &node, "ada").await;
    let reset_by_code = |code: &str| {
        let body = json!({ "identifier": email("ada"), "code": code, "new_password": NEW_PASSWORD });
        node.post("/v1/password/reset", body)
    };
    for _ in 0..CODE_ATTEMPTS {
        assert_eq!(reset_by_code("2222-2222").await.problem(), problem(401, "invalid_code"));
    }
    // no attempt is left, so the right code is refused as well
    assert_eq!(reset_by_code(&code).await.problem(), problem(401, "invalid_code"));
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
}

#[tokio::test]
async fn link_and_code_expire() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (token, code) = request_reset(&cluster, &node, "ada").await;
    // the lifetime of the link and the code
    cluster.advance(Duration::from_hours(1));
    assert_eq!(reset(&node, &token, NEW_PASSWORD).await.problem(), problem(401, "invalid_code"));
    let body = json!({ "identifier": "ada", "code": code, "new_password": NEW_PASSWORD });
    assert_eq!(node.post("/v1/password/reset", body).await.problem(), problem(401, "invalid_code"));
}

#[tokio::test]
async fn flood_of_forgotten_password_calls_sends_one_mail_whose_link_works() {
    let mut cluster = TestCluster::new();
    // so that only the limit of mails per account applies
    cluster.config.limits.recovery_per_address = None;
    cluster.config.limits.recovery_service = None;
    let node = cluster.node().await;
    node.register("ada").await;
    let (token, _) = request_reset(&cluster, &node, "ada").await;
    // a hundred concurrent requests at a time, by e-mail address and by username
    for _ in 0..100 {
        let calls = (0..100).map(|call| {
            let identifier = if call % 2 == 0 { "ADA@example.com" } else { "ada" };
            node.post("/v1/password/forgot", json!({ "identifier": identifier }))
        });
        for answer in futures_util::future::join_all(calls).await {
            answer.expect(202);
        }
    }
    // mails are written after the response
    wait::until("all work is done", || async { node.state.background.is_empty() }).await;
    let (every_state, limit) = (None, 100);
    assert_eq!(node.state.sql.mails(every_state, limit).await.unwrap().len(), 1);
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    // the owner gets another mail after the window of `limits.mail_per_account`
    cluster.advance(Duration::from_mins(5));
    request_reset(&cluster, &node, "ada").await;
}

#[tokio::test]
async fn calls_above_the_limit_of_an_ip_address_are_refused() {
    let mut cluster = TestCluster::new();
    cluster.config.limits.recovery_per_address = Some(Quota { count: 3, window: Duration::from_mins(10) });
    let node = cluster.node().await;
    for _ in 0..3 {
        node.post("/v1/password/forgot", json!({ "identifier": "nobody" })).await.expect(202);
    }
    let answer = node.post("/v1/password/forgot", json!({ "identifier": "nobody" })).await;
    assert_eq!(answer.problem(), problem(429, "too_many_requests"));
    assert_eq!(answer.header("ratelimit-policy"), "\"recovery-address\";q=3;w=600");
}

#[tokio::test]
async fn disabled_account_gets_no_mail_and_its_links_stop_working() {
    let mut cluster = TestCluster::new();
    // so that no limit prevents the second mail
    remove_mail_and_login_limits(&mut cluster);
    let node = cluster.node().await;
    let id = node.register("ada").await.text_of("id").parse().unwrap();
    let (token, _) = request_reset(&cluster, &node, "ada").await;
    latchkey::service::accounts::disable(&node.state, id).await.unwrap();
    assert_eq!(reset(&node, &token, NEW_PASSWORD).await.problem(), problem(401, "invalid_code"));
    node.post("/v1/password/forgot", json!({ "identifier": "ada" })).await.expect(202);
    wait::until("all work is done", || async { node.state.background.is_empty() }).await;
    assert_eq!(cluster.mails_to(&email("ada")).len(), 1, "the second request sends no mail");
}

#[tokio::test]
async fn changed_password_invalidates_earlier_reset_links() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let (token, _) = request_reset(&cluster, &node, "ada").await;
    let body = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
    signed_in(&node, &tokens, reqwest::Method::POST, "/v1/me/password", body).await.expect(200);
    assert_eq!(reset(&node, &token, PASSWORD).await.problem(), problem(401, "invalid_code"));
}

#[tokio::test]
async fn reset_without_token_or_code_is_refused_with_the_alternatives() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    for mut body in [json!({}), json!({ "identifier": "ada" }), json!({ "code": "ABCD-EFGH" })] {
        body["new_password"] = json!(NEW_PASSWORD);
        let answer = node.post("/v1/password/reset", body).await;
        assert_eq!(answer.problem(), problem(422, "invalid_fields"));
        assert_eq!(answer.json()["errors"][0]["code"], "token_or_code");
    }
}
