//! Rate limits: whose requests each limit counts together, and the responses to refused requests.

use std::time::Duration;

use latchkey::{
    config::{Ipv6Network, LimitSettings},
    domain::limit::Quota,
};
use reqwest::Method;
use serde_json::json;

use super::{cluster, login};
use crate::{
    harness::{
        client::{Answer, PASSWORD, Tokens},
        test_cluster::{ServiceClient, TestCluster, limits},
    },
    store::server::{DURABLE, Redis},
};

/// The password to which tests change [`PASSWORD`].
const NEW_PASSWORD: &str = "gravel lantern ostrich nine";

/// A limit of `count` requests in `secs` seconds. A caller who has used it up may send another request after `secs / count` seconds.
#[expect(clippy::unnecessary_wraps, reason = "the settings are optional")]
fn quota(count: u32, secs: u64) -> Option<Quota> {
    Some(Quota { count, window: Duration::from_secs(secs) })
}

/// Asserts that a limit has refused a request: `policy` is its name in the response.
#[track_caller]
fn assert_limited(answer: &Answer, policy: &str, wait_secs: u64) {
    assert_eq!(answer.problem(), (429, "too_many_requests".to_owned()), "{answer:?}");
    assert_eq!(answer.header("retry-after"), wait_secs.to_string());
    assert!(answer.header("ratelimit-policy").starts_with(&format!("\"{policy}\";q=")), "{answer:?}");
    assert_eq!(answer.header("ratelimit"), format!("\"{policy}\";r=0;t={wait_secs}"));
}

#[tokio::test]
async fn logins_from_one_address_are_counted_across_nodes() {
    // it trusts `X-Forwarded-For`, unlike `TestCluster::new()`
    let mut cluster = cluster();
    cluster.config.limits.login_per_address = quota(4, 60);
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    // twice on each node
    for node in nodes.iter().cycle().take(4) {
        node.send(login(node, "2001:db8::1", "ada", PASSWORD)).await.expect(200);
    }
    // another address of the same /64
    let refused = nodes[1].send(login(&nodes[1], "2001:db8::2:3", "ada", PASSWORD)).await;
    assert_limited(&refused, "login-address", 15);
    assert_eq!(refused.header("ratelimit-policy"), "\"login-address\";q=4;w=60");
    // an address of another /64
    nodes[1].send(login(&nodes[1], "2001:db8:0:1::1", "ada", PASSWORD)).await.expect(200);
    // after this time, the quota allows one more request
    cluster.advance(Duration::from_secs(15));
    nodes[1].send(login(&nodes[1], "2001:db8::1", "ada", PASSWORD)).await.expect(200);
    nodes[1].send(login(&nodes[1], "2001:db8::1", "ada", PASSWORD)).await.expect(429);
}

#[tokio::test]
async fn login_refused_by_a_limit_is_not_hashed_and_uses_no_wider_quota() {
    let mut cluster = cluster();
    cluster.config.limits.login_per_address = quota(1, 60);
    cluster.config.limits.login_service = quota(3, 60);
    let node = cluster.node().await;
    node.register("ada").await;
    node.send(login(&node, "192.0.2.1", "ada", PASSWORD)).await.expect(200);
    let hashed_before = node.state.passwords.jobs();
    let transactions_before = node.state.sql.transactions();
    for _ in 0..10 {
        assert_limited(&node.send(login(&node, "192.0.2.1", "ada", PASSWORD)).await, "login-address", 60);
    }
    assert_eq!(node.state.passwords.jobs(), hashed_before);
    assert_eq!(node.state.sql.transactions(), transactions_before);
    // the quota of the service still has two requests: only the first login has used it
    for address in ["192.0.2.2", "192.0.2.3"] {
        node.send(login(&node, address, "ada", PASSWORD)).await.expect(200);
    }
    assert_limited(&node.send(login(&node, "192.0.2.4", "ada", PASSWORD)).await, "login-service", 20);
}

#[tokio::test]
async fn registrations_are_limited_by_address_and_by_email_per_network() {
    let mut cluster = cluster();
    cluster.config.limits.registration_per_address = quota(3, 60);
    cluster.config.limits.registration_per_account = quota(2, 60);
    let node = cluster.node().await;
    let register = |from: &str, email: &str| {
        let body = json!({ "email": email, "password": PASSWORD });
        node.send(node.request(Method::POST, "/v1/users").header("x-forwarded-for", from).json(&body))
    };
    register("192.0.2.1", "ada@example.com").await.expect(201);
    // the limit by e-mail address ignores case, and counts each network on its own
    register("192.0.2.2", "Ada@example.com").await.expect(409);
    register("192.0.2.2", "ADA@example.com").await.expect(409);
    assert_limited(&register("192.0.2.2", "ada@Example.com").await, "registration-account", 30);
    register("192.0.2.3", "ada@example.com").await.expect(409);
    register("192.0.2.1", "grace@example.com").await.expect(201);
    register("192.0.2.1", "joan@example.com").await.expect(201);
    assert_limited(&register("192.0.2.1", "mary@example.com").await, "registration-address", 20);
    // sign-ins have limits of their own
    node.send(login(&node, "192.0.2.1", "ada@example.com", PASSWORD)).await.expect(200);
}

/// Attack: registrations with a weak password, from one address, to use up the limit of the owner's e-mail address.
#[tokio::test]
async fn registration_attempts_of_a_stranger_do_not_keep_the_owner_from_registering() {
    let mut cluster = cluster();
    cluster.config.limits.registration_per_account = quota(20, 3600);
    let node = cluster.node().await;
    let register = |from: &str, password: &str| {
        let body = json!({ "email": "ada@example.com", "password": password });
        node.send(node.request(Method::POST, "/v1/users").header("x-forwarded-for", from).json(&body))
    };
    // more attempts than the limit of the e-mail address, all from the network of the stranger
    for _ in 0..25 {
        register("203.0.113.7", "password").await.expect(422);
    }
    register("192.0.2.1", PASSWORD).await.expect(201);
}

#[tokio::test]
async fn ipv6_addresses_are_counted_by_64_bit_prefix_and_by_wider_network() {
    let mut cluster = cluster();
    let limits = &mut cluster.config.limits;
    // so that only the limits by address refuse the failed logins
    limits.login_backoff = None;
    limits.login_per_address = quota(5, 60);
    // a /48 may send twice as many requests as one of its /64
    limits.ipv6_network = Some(Ipv6Network { prefix: 48, factor: 2 });
    limits.client_authentication_failures_per_address = quota(5, 60);
    limits.refresh_per_address = quota(5, 60);
    limits.registration_per_address = quota(5, 60);
    let node = cluster.node().await;
    node.register("ada").await;
    // a request that fails, from the /64 with this number
    let call = |kind: &str, subnet: usize| {
        let from = format!("2001:db8:1:{subnet:x}::1");
        let request = |path: &str| node.request(Method::POST, path).header("x-forwarded-for", &from);
        let introspection = [("token", "x"), ("client_id", "nobody"), ("client_secret", "wrong")];
        node.send(match kind {
            "login" => login(&node, &from, &format!("nobody{subnet}"), "wrong"),
            "refresh" => request("/v1/refresh").json(&json!({ "refresh_token": "x" })),
            "registration" => request("/v1/users").json(&json!({ "email": "ada@example.com", "password": PASSWORD })),
            "client-authentication" => request("/oauth2/introspect").form(&introspection),
            _ => unreachable!("an unknown kind: {kind}"),
        })
    };
    for kind in ["login", "refresh", "registration", "client-authentication"] {
        // one request from each of 10 /64, which is twice the limit of 5
        for subnet in 0..10 {
            let status = call(kind, subnet).await.status;
            assert!(status == 401 || status == 409, "{kind} {subnet}: {status}");
        }
        // the quota of the /48 regains a request every 60 / 10 seconds
        assert_limited(&call(kind, 10).await, &format!("{kind}-network"), 6);
    }
    // another /48 and an IPv4 address are not limited
    node.send(login(&node, "2001:db8:2::1", "nobody", "wrong")).await.expect(401);
    node.send(login(&node, "192.0.2.1", "nobody", "wrong")).await.expect(401);
}

#[tokio::test]
async fn client_authentication_failures_above_the_limit_answer_429_and_do_not_affect_valid_clients() {
    let mut cluster = cluster();
    cluster.config.limits.client_authentication_failures_per_address = quota(3, 60);
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    let introspect = |from: &str, id: &str, secret: &str| {
        let request = node.request(Method::POST, "/oauth2/introspect").header("x-forwarded-for", from);
        node.send(request.form(&[("token", "x")]).basic_auth(id, Some(secret)))
    };
    for id in ["billing", "nobody", "billing"] {
        introspect("192.0.2.1", id, "wrong").await.expect(401);
    }
    for id in ["billing", "nobody"] {
        assert_limited(&introspect("192.0.2.1", id, "wrong").await, "client-authentication-address", 20);
    }
    introspect("192.0.2.1", "billing", &client.secret).await.expect(200);
    introspect("192.0.2.2", "billing", "wrong").await.expect(401);
}

#[tokio::test]
async fn password_changes_are_limited_by_session() {
    let mut cluster = TestCluster::new();
    cluster.config.limits.password_change_per_account = quota(3, 60);
    let node = cluster.node().await;
    node.register("ada").await;
    // two sessions of one account: the limit counts each alone
    let (thief, owner) = (node.login("ada").await, node.login("ada").await);
    for number in 0..3 {
        let guess = format!("guess {number}");
        node.change_password(&thief.access, &guess, NEW_PASSWORD).await.expect(403);
    }
    let hashed_before = node.state.passwords.jobs();
    let refused = node.change_password(&thief.access, PASSWORD, NEW_PASSWORD).await;
    assert_limited(&refused, "password-change-account", 20);
    assert_eq!(node.state.passwords.jobs(), hashed_before);
    node.change_password(&owner.access, PASSWORD, NEW_PASSWORD).await.expect(200);
}

#[tokio::test]
async fn refreshes_are_limited_by_account_and_address() {
    let mut cluster = cluster();
    cluster.config.limits.refresh_per_account = quota(2, 60);
    cluster.config.limits.refresh_per_address = quota(4, 60);
    let node = cluster.node().await;
    for name in ["ada", "grace"] {
        node.register(name).await;
    }
    let (ada, grace) = (node.login("ada").await, node.login("grace").await);
    let refresh = |token: &str| {
        let body = json!({ "refresh_token": token });
        node.send(node.request(Method::POST, "/v1/refresh").header("x-forwarded-for", "192.0.2.1").json(&body))
    };
    let next = Tokens::of(&refresh(&ada.refresh).await.expect(200));
    let form = [("grant_type", "refresh_token"), ("refresh_token", &next.refresh)];
    // from the test's own address, so that the limit of 192.0.2.1 does not count it
    let refresh_at_token_endpoint = || node.send(node.request(Method::POST, "/oauth2/token").form(&form));
    refresh_at_token_endpoint().await.expect(200);
    assert_limited(&refresh_at_token_endpoint().await, "refresh-account", 30);
    // with the refresh of ada, these are four requests from 192.0.2.1
    let grace = Tokens::of(&refresh(&grace.refresh).await.expect(200));
    refresh("no token at all").await.expect(401);
    refresh("no token at all").await.expect(401);
    assert_limited(&refresh(&grace.refresh).await, "refresh-address", 15);
    cluster.advance(Duration::from_secs(60));
    refresh(&grace.refresh).await.expect(200);
    // no limit applies to a logout
    node.logout(&grace.refresh).await.expect(204);
}

#[tokio::test]
async fn introspections_are_limited_by_client() {
    let mut cluster = TestCluster::new();
    cluster.config.limits.introspection_per_client = quota(3, 60);
    let node = cluster.node().await;
    let (one, other) = (cluster.service_client("one").await, cluster.service_client("other").await);
    let call = |client: &ServiceClient, path: &str, form: &[(&str, &str)]| {
        node.send(node.request(Method::POST, path).form(form).basic_auth(&client.id, Some(&client.secret)))
    };
    for _ in 0..2 {
        call(&one, "/oauth2/introspect", &[("token", "x")]).await.expect(200);
    }
    // the limit also counts requests for tokens, but not revocations
    call(&one, "/oauth2/token", &[("grant_type", "client_credentials")]).await.expect(200);
    assert_limited(&call(&one, "/oauth2/introspect", &[("token", "x")]).await, "introspection-client", 20);
    call(&one, "/oauth2/revoke", &[("token", "x")]).await.expect(200);
    call(&other, "/oauth2/introspect", &[("token", "x")]).await.expect(200);
}

#[tokio::test]
async fn login_without_limits_is_never_refused() {
    let mut cluster = TestCluster::new();
    cluster.config.limits = LimitSettings { login_per_address: None, login_backoff: None, ..limits() };
    let node = cluster.node().await;
    node.register("ada").await;
    for _ in 0..20 {
        node.try_login("ada", "not the password").await.expect(401);
    }
    node.login("ada").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_without_redis_are_limited_by_the_node() {
    // the settings that nodes require
    let server = Redis::stopped(DURABLE);
    let mut cluster = crate::degradation::cluster(&server);
    // so that calls to the stopped Redis server fail soon
    cluster.config.redis.command_timeout = Duration::from_millis(100);
    cluster.config.limits.registration_per_address = quota(2, 60);
    let node = cluster.node().await;
    for name in ["ada", "grace"] {
        node.register(name).await;
    }
    let body = json!({ "email": "joan@example.com", "password": PASSWORD });
    assert_limited(&node.post("/v1/users", body).await, "registration-address", 30);
}
