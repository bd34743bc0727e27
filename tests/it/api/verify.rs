//! `GET /v1/verify`: forward-auth.

use std::time::Duration;

use reqwest::Method;

use super::problem;
use crate::harness::{monitor::Monitor, test_cluster::TestCluster, wait::until};

#[tokio::test]
async fn a_valid_token_is_vouched_for_with_who_it_is() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let account = node.account("ada").await.text_of("id");
    let tokens = node.login("ada").await;
    let answer = node.get("/v1/verify", &tokens.access).await.expect(200);
    assert_eq!(answer.text, "");
    let said = ["subject", "session", "client", "scope", "roles", "expires"];
    let said = said.map(|name| answer.header(&format!("x-auth-{name}")).to_owned());
    assert_eq!(said, [&account, &tokens.session, "latchkey", "account", "", "1800000300"]);
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn any_method_and_any_path_below_will_do() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.account("ada").await;
    let tokens = node.login("ada").await;
    for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS] {
        for path in ["/v1/verify", "/v1/verify/", "/v1/verify/a/b%20c?d=e"] {
            let request = || node.request(method.clone(), path);
            node.send(request().bearer_auth(&tokens.access)).await.expect(200);
            assert_eq!(node.send(request()).await.status, 401, "{method} {path}");
        }
    }
    assert_eq!(node.get("/v1/verifying", &tokens.access).await.problem(), problem(404, "not_found"));
}

#[tokio::test]
async fn anything_else_is_challenged() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.account("ada").await;
    let tokens = node.login("ada").await;
    let nobody = node.send(node.request(Method::GET, "/v1/verify")).await;
    assert_eq!(nobody.problem(), problem(401, "authentication_required"));
    assert_eq!(nobody.header("www-authenticate"), "Bearer realm=\"latchkey\"");
    for token in [&tokens.refresh, "", "a.b.c", &tokens.access[1..]] {
        let answer = node.get("/v1/verify", token).await;
        assert_eq!(answer.problem(), problem(401, "invalid_token"));
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"latchkey\", error=\"invalid_token\"");
    }
    node.get("/v1/verify", &tokens.access).await.expect(200);
    cluster.advance(Duration::from_secs(306));
    assert_eq!(node.get("/v1/verify", &tokens.access).await.problem(), problem(401, "invalid_token"));
}

#[tokio::test]
async fn a_sign_out_is_seen_at_the_next_request_on_every_node() {
    let cluster = TestCluster::new();
    let (one, two) = (cluster.node().await, cluster.node().await);
    cluster.wait_for_peers().await;
    one.account("ada").await;
    for _ in 0..20 {
        let tokens = one.login("ada").await;
        for node in [&one, &two] {
            node.get("/v1/verify", &tokens.access).await.expect(200);
        }
        one.logout(&tokens.refresh).await.expect(204);
        for node in [&one, &two] {
            assert_eq!(node.get("/v1/verify", &tokens.access).await.problem(), problem(401, "invalid_token"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_vouched_for_lately_is_so_again_without_redis_and_without_a_signature() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.account("ada").await;
    let tokens = node.login("ada").await;
    until("it is in step", || async { node.state.redis.revocation_log.cache_is_valid() }).await;
    node.get("/v1/verify", &tokens.access).await.expect(200);
    let signatures = node.state.tokens.metrics().misses.get();
    let mut monitor = Monitor::start(&cluster.redis);
    for _ in 0..20 {
        node.get("/v1/verify", &tokens.access).await.expect(200);
    }
    let asked = monitor.commands(&cluster.redis);
    // a busy machine may lose a step, and ask once more
    assert!(asked.len() < 5, "{asked:?}");
    assert_eq!(node.state.tokens.metrics().misses.get(), signatures);
}
