//! Limits, what a refusal says, and who shares one with whom.

use std::time::Duration;

use latchkey::domain::limit::Quota;
use reqwest::Method;
use serde_json::json;

use super::{cluster, login};
use crate::{
    harness::{
        client::{Answer, PASSWORD, Tokens},
        test_cluster::{TestCluster, limits},
    },
    store::server::{DURABLE, Server},
};

#[expect(clippy::unnecessary_wraps, reason = "as the settings have it")]
fn quota(count: u32, secs: u64) -> Option<Quota> {
    Some(Quota { count, window: Duration::from_secs(secs) })
}

/// Asserts that an answer says which limit was reached and when to come again.
#[track_caller]
fn assert_limited(answer: &Answer, policy: &str, wait: u64) {
    assert_eq!(answer.problem(), (429, "too_many_requests".to_owned()), "{answer:?}");
    assert_eq!(answer.header("retry-after"), wait.to_string());
    assert!(answer.header("ratelimit-policy").starts_with(&format!("\"{policy}\";q=")), "{answer:?}");
    assert_eq!(answer.header("ratelimit"), format!("\"{policy}\";r=0;t={wait}"));
}

#[tokio::test]
async fn sign_ins_from_an_address_are_counted_on_all_nodes_together() {
    let mut cluster = cluster();
    cluster.config.limits.login_per_address = quota(4, 60);
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].account("ada").await;
    for node in nodes.iter().cycle().take(4) {
        node.send(login(node, "2001:db8::1", "ada", PASSWORD)).await.expect(200);
    }
    // another address of the same /64
    let refused = nodes[1].send(login(&nodes[1], "2001:db8::2:3", "ada", PASSWORD)).await;
    assert_limited(&refused, "login-address", 15);
    assert_eq!(refused.header("ratelimit-policy"), "\"login-address\";q=4;w=60");
    nodes[1].send(login(&nodes[1], "2001:db8:0:1::1", "ada", PASSWORD)).await.expect(200);
    cluster.advance(Duration::from_secs(15));
    nodes[1].send(login(&nodes[1], "2001:db8::1", "ada", PASSWORD)).await.expect(200);
    nodes[1].send(login(&nodes[1], "2001:db8::1", "ada", PASSWORD)).await.expect(429);
}

#[tokio::test]
async fn what_is_refused_is_not_hashed_and_takes_nobodys_place() {
    let mut cluster = cluster();
    cluster.config.limits.login_per_address = quota(1, 60);
    cluster.config.limits.login_service = quota(3, 60);
    let node = cluster.node().await;
    node.account("ada").await;
    node.send(login(&node, "192.0.2.1", "ada", PASSWORD)).await.expect(200);
    let before = (node.state.passwords.jobs(), node.state.sql.transactions());
    for _ in 0..10 {
        assert_limited(&node.send(login(&node, "192.0.2.1", "ada", PASSWORD)).await, "login-address", 60);
    }
    assert_eq!((node.state.passwords.jobs(), node.state.sql.transactions()), before);
    for address in ["192.0.2.2", "192.0.2.3"] {
        node.send(login(&node, address, "ada", PASSWORD)).await.expect(200);
    }
    assert_limited(&node.send(login(&node, "192.0.2.4", "ada", PASSWORD)).await, "login-service", 20);
}

#[tokio::test]
async fn registrations_have_a_budget_of_their_own() {
    let mut cluster = cluster();
    cluster.config.limits.registration_per_address = quota(3, 60);
    cluster.config.limits.registration_per_account = quota(2, 60);
    let node = cluster.node().await;
    let register = |from: &str, email: &str| {
        let body = json!({ "email": email, "password": PASSWORD });
        node.send(node.request(Method::POST, "/v1/users").header("x-forwarded-for", from).json(&body))
    };
    register("192.0.2.1", "ada@example.com").await.expect(201);
    register("192.0.2.2", "Ada@example.com").await.expect(409);
    assert_limited(&register("192.0.2.3", "ADA@example.com").await, "registration-account", 30);
    register("192.0.2.1", "grace@example.com").await.expect(201);
    register("192.0.2.1", "joan@example.com").await.expect(201);
    assert_limited(&register("192.0.2.1", "mary@example.com").await, "registration-address", 20);
    node.send(login(&node, "192.0.2.1", "ada@example.com", PASSWORD)).await.expect(200);
}

#[tokio::test]
async fn password_changes_are_counted_by_session() {
    let mut cluster = TestCluster::new();
    cluster.config.limits.password_change_per_account = quota(3, 60);
    let node = cluster.node().await;
    node.account("ada").await;
    let (thief, owner) = (node.login("ada").await, node.login("ada").await);
    for number in 0..3 {
        let guess = format!("guess {number}");
        node.change_password(&thief.access, &guess, "gravel lantern ostrich nine").await.expect(403);
    }
    let hashed = node.state.passwords.jobs();
    let refused = node.change_password(&thief.access, PASSWORD, "gravel lantern ostrich nine").await;
    assert_limited(&refused, "password-change-account", 20);
    assert_eq!(node.state.passwords.jobs(), hashed);
    node.change_password(&owner.access, PASSWORD, "gravel lantern ostrich nine").await.expect(204);
}

#[tokio::test]
async fn refreshes_are_counted_by_account_and_address() {
    let mut cluster = cluster();
    cluster.config.limits.refresh_per_account = quota(2, 60);
    cluster.config.limits.refresh_per_address = quota(4, 60);
    let node = cluster.node().await;
    for name in ["ada", "grace"] {
        node.account(name).await;
    }
    let (ada, grace) = (node.login("ada").await, node.login("grace").await);
    let refresh = |token: &str| {
        let body = json!({ "refresh_token": token });
        node.send(node.request(Method::POST, "/v1/refresh").header("x-forwarded-for", "192.0.2.1").json(&body))
    };
    let next = Tokens::of(&refresh(&ada.refresh).await.expect(200));
    let form = [("grant_type", "refresh_token"), ("refresh_token", &next.refresh)];
    let token = || node.send(node.request(Method::POST, "/oauth2/token").form(&form));
    token().await.expect(200);
    assert_limited(&token().await, "refresh-account", 30);
    let grace = Tokens::of(&refresh(&grace.refresh).await.expect(200));
    refresh("no token at all").await.expect(401);
    refresh("no token at all").await.expect(401);
    assert_limited(&refresh(&grace.refresh).await, "refresh-address", 15);
    cluster.advance(Duration::from_secs(60));
    refresh(&grace.refresh).await.expect(200);
    // the way out is never closed
    node.logout(&grace.refresh).await.expect(204);
}

#[tokio::test]
async fn service_clients_are_counted_each_for_itself() {
    let mut cluster = TestCluster::new();
    cluster.config.limits.introspection_per_client = quota(3, 60);
    let node = cluster.node().await;
    let (one, other) = (cluster.service_client("one").await, cluster.service_client("other").await);
    let call = |client: &crate::harness::test_cluster::ServiceClient, path: &str, form: &[(&str, &str)]| {
        node.send(node.request(Method::POST, path).form(form).basic_auth(&client.id, Some(&client.secret)))
    };
    for _ in 0..2 {
        call(&one, "/oauth2/introspect", &[("token", "x")]).await.expect(200);
    }
    call(&one, "/oauth2/token", &[("grant_type", "client_credentials")]).await.expect(200);
    assert_limited(&call(&one, "/oauth2/introspect", &[("token", "x")]).await, "introspection-client", 20);
    call(&one, "/oauth2/revoke", &[("token", "x")]).await.expect(200);
    call(&other, "/oauth2/introspect", &[("token", "x")]).await.expect(200);
}

#[tokio::test]
async fn limits_can_be_off() {
    let mut cluster = TestCluster::new();
    cluster.config.limits = latchkey::config::LimitSettings { login_per_address: None, backoff: None, ..limits() };
    let node = cluster.node().await;
    node.account("ada").await;
    for _ in 0..20 {
        node.try_login("ada", "not the password").await.expect(401);
    }
    node.login("ada").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_a_node_counts_registrations_by_itself() {
    let server = Server::stopped(DURABLE);
    let mut cluster = TestCluster::new();
    cluster.config.redis.url = Some(server.url().into());
    cluster.config.redis.command_timeout = Duration::from_millis(100);
    cluster.config.limits.registration_per_address = quota(2, 60);
    let node = cluster.node().await;
    for name in ["ada", "grace"] {
        node.account(name).await;
    }
    let body = json!({ "email": "joan@example.com", "password": PASSWORD });
    assert_limited(&node.post("/v1/users", body).await, "registration-address", 30);
    node.stop().await;
}
