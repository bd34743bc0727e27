//! `POST /v1/refresh` with the refresh token in JSON.

use std::time::Duration;

use serde_json::json;

use super::{assert_fields, problem};
use crate::harness::{client::Tokens, test_cluster::TestCluster};

#[tokio::test]
async fn refresh_returns_next_tokens() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let first = node.login("ada").await;
    cluster.advance(Duration::from_secs(60)); // the first access token is still valid
    let answer = node.refresh(&first.refresh).await.expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    let names = ["access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in", "session_id"];
    assert_fields(&answer.json(), &names);
    let next = Tokens::of(&answer);
    assert_eq!(next.session, first.session);
    assert_ne!(next.refresh, first.refresh);
    assert_ne!(next.access, first.access);
    node.get("/v1/me", &next.access).await.expect(200);
}

#[tokio::test]
async fn refused_refresh_tokens_have_distinct_codes() {
    let mut cluster = TestCluster::new();
    // so that every repeat after the grace window is reuse
    cluster.config.session.retry_window = Duration::ZERO;
    let node = cluster.node().await;
    node.register("ada").await;
    for malformed in ["", "x", "lk_rt_", "lk_rt_AAAA"] {
        assert_eq!(node.refresh(malformed).await.problem(), problem(401, "invalid_refresh_token"), "{malformed}");
    }
    let without_token = node.post("/v1/refresh", json!({})).await;
    assert_eq!(without_token.problem(), problem(401, "authentication_required"));
    let first = node.login("ada").await.refresh;
    let next = Tokens::of(&node.refresh(&first).await.expect(200)).refresh;
    // after the grace window of 10 s
    cluster.advance(Duration::from_secs(11));
    assert_eq!(node.refresh(&first).await.problem(), problem(401, "refresh_token_reused"));
    // the reuse has ended the session
    assert_eq!(node.refresh(&next).await.problem(), problem(401, "invalid_refresh_token"));
    let idle = node.login("ada").await.refresh;
    // after the idle timeout of 7 days
    cluster.advance(Duration::from_secs(7 * 86_400 + 1));
    assert_eq!(node.refresh(&idle).await.problem(), problem(401, "session_expired"));
}
