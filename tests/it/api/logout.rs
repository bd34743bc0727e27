//! `POST /v1/logout` with a refresh token in JSON or a bearer access token.

use reqwest::Method;

use super::problem;
use crate::harness::test_cluster::TestCluster;

#[tokio::test]
async fn signing_out_ends_the_session_and_may_be_repeated() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.account("ada").await;
    let by_refresh = node.login("ada").await;
    let by_access = node.login("ada").await;
    for _ in 0..2 {
        let answer = node.logout(&by_refresh.refresh).await.expect(204);
        assert_eq!((answer.text.as_str(), answer.header("set-cookie")), ("", ""));
        let bearer = node.request(Method::POST, "/v1/logout").bearer_auth(&by_access.access);
        node.send(bearer).await.expect(204);
    }
    for over in [by_refresh, by_access] {
        assert_eq!(node.refresh(&over.refresh).await.problem(), problem(401, "invalid_refresh_token"));
        assert_eq!(node.get("/v1/me", &over.access).await.problem(), problem(401, "invalid_token"));
    }
}

#[tokio::test]
async fn signing_out_needs_something_to_end() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let nothing = node.send(node.request(Method::POST, "/v1/logout")).await;
    assert_eq!(nothing.problem(), problem(401, "authentication_required"));
    assert_eq!(node.logout("lk_rt_x").await.problem(), problem(401, "invalid_refresh_token"));
    let bearer = node.send(node.request(Method::POST, "/v1/logout").bearer_auth("x")).await;
    assert_eq!(bearer.problem(), problem(401, "invalid_token"));
}
