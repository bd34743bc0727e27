//! Presents every forgery to endpoints that accept access tokens or refresh tokens.

use std::{io::ErrorKind, net::TcpListener, sync::LazyLock, time::Duration};

use latchkey::{domain::key::Algorithm, http::openapi::Limits};
use reqwest::Method;
use serde_json::{Value, json};

use super::tokens::Forge;
use crate::harness::{
    client::{Answer, PASSWORD, Tokens},
    test_cluster::{Node, ServiceClient, TestCluster},
};

/// The endpoints that accept `Authorization: Bearer`: method and path.
static BEARER_ENDPOINTS: LazyLock<Vec<(Method, String)>> = LazyLock::new(bearer_endpoints);

/// The operations of the OpenAPI document that accept an access token, with example values in their paths.
fn bearer_endpoints() -> Vec<(Method, String)> {
    let document: Value = serde_json::from_str(&latchkey::http::document(&Limits::defaults()).json).unwrap();
    let mut endpoints = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let mut schemes = operation["security"].as_array().into_iter().flatten();
            if schemes.any(|scheme| scheme.get("access_token").is_some()) {
                let path = path.replace("{id}", "0f8fad5b-d9cb-469f-a165-70867728950e");
                let path = path.replace("{client_id}", "introspector");
                assert!(!path.contains('{'), "no example value for {path}");
                endpoints.push((method.to_uppercase().parse().unwrap(), path));
            }
        }
    }
    // guards against a search that finds few endpoints or none
    assert!(endpoints.len() > 40, "{endpoints:?}");
    endpoints
}

/// A valid body for a password change and a registration: if a forged token succeeded, `assert_unchanged` would find the effect. The
/// other endpoints get no body, because they check the token first.
fn valid_body(path: &str) -> Option<Value> {
    match path {
        "/v1/me/password" => {
            Some(json!({ "current_password": PASSWORD, "new_password": "another engine verse marmalade" }))
        }
        "/v1/users" => Some(json!({ "email": "mallory@example.com", "password": PASSWORD })),
        _ => None,
    }
}

/// Calls an endpoint with a bearer token, and with its [`valid_body`].
async fn call(node: &Node, method: &Method, path: &str, token: &str) -> Answer {
    let mut request = node.request(method.clone(), path).bearer_auth(token);
    if let Some(body) = valid_body(path) {
        request = request.json(&body);
    }
    node.send(request).await
}

/// Introspects a token as the client. `hint` is the `token_type_hint`.
async fn introspect(node: &Node, client: &ServiceClient, token: &str, hint: Option<&str>) -> Answer {
    let mut form = vec![("token", token)];
    if let Some(hint) = hint {
        form.push(("token_type_hint", hint));
    }
    node.send(node.request(Method::POST, "/oauth2/introspect").basic_auth(&client.id, Some(&client.secret)).form(&form))
        .await
}

async fn revoke(node: &Node, token: &str) -> Answer {
    node.send(node.request(Method::POST, "/oauth2/revoke").form(&[("token", token)])).await
}

/// Asserts that all [`BEARER_ENDPOINTS`] refuse this token, except that a logout with it succeeds without effect.
async fn assert_refused_as_access_token(node: &Node, name: &str, token: &str) {
    assert_refused_at(&BEARER_ENDPOINTS, node, name, token).await;
}

/// Asserts that these endpoints and the form of `/oauth2/userinfo` refuse this token, except that a logout succeeds.
async fn assert_refused_at(endpoints: &[(Method, String)], node: &Node, name: &str, token: &str) {
    let form = [("access_token", token)];
    let answer = node.send(node.request(Method::POST, "/oauth2/userinfo").form(&form)).await;
    assert_eq!(answer.problem(), (401, "invalid_token".to_owned()), "{name} in a form: {answer:?}");
    for (method, path) in endpoints {
        let answer = call(node, method, path, token).await;
        if path == "/v1/logout" {
            // The logout has no effect: the test later calls `assert_unchanged`.
            assert_eq!(answer.status, 204, "{name} at {method} {path}: {answer:?}");
            continue;
        }
        assert_eq!(answer.problem(), (401, "invalid_token".to_owned()), "{name} at {method} {path}: {answer:?}");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"latchkey\", error=\"invalid_token\"");
    }
}

/// Asserts that the token is inactive and that revoking it succeeds without effect.
async fn assert_inactive(node: &Node, client: &ServiceClient, name: &str, token: &str) {
    for hint in [None, Some("access_token"), Some("refresh_token")] {
        let answer = introspect(node, client, token, hint).await;
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        assert_eq!(answer.json(), json!({ "active": false }), "{name}");
    }
    let answer = revoke(node, token).await;
    assert_eq!(answer.status, 200, "{name}: {answer:?}");
    assert_eq!(answer.text, "", "{name}");
}

/// Asserts that a refresh refuses this token, in the body and in the cookie, and that a logout with it succeeds.
async fn assert_refused_as_refresh_token(node: &Node, name: &str, token: &str) {
    let assert_refused = |answer: Answer, endpoint: &str| {
        let expected = (401, "invalid_refresh_token".to_owned());
        assert_eq!(answer.problem(), expected, "{name} at {endpoint}: {answer:?}");
    };
    let in_cookie = |path| node.request(Method::POST, path).header("cookie", format!("__Host-latchkey={token}"));
    assert_refused(node.refresh(token).await, "/v1/refresh");
    assert_refused(node.send(in_cookie("/v1/refresh")).await, "/v1/refresh, in the cookie");
    for answer in [node.logout(token).await, node.send(in_cookie("/v1/logout")).await] {
        assert_eq!(answer.status, 204, "{name} at /v1/logout succeeds without effect: {answer:?}");
    }
    let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
    let answer = node.send(node.request(Method::POST, "/oauth2/token").form(&form)).await;
    assert_eq!(answer.status, 400, "{name}: {answer:?}");
    assert_eq!(answer.text_of("error"), "invalid_grant", "{name}");
}

/// Asserts that the session and the account's password are unchanged, and that no account was registered (`mallory`). Returns the
/// session's next tokens.
async fn assert_unchanged(node: &Node, tokens: &Tokens) -> Tokens {
    node.get("/v1/me", &tokens.access).await.expect(200);
    node.login("ada").await;
    assert_eq!(node.try_login("mallory@example.com", PASSWORD).await.status, 401);
    Tokens::of(&node.refresh(&tokens.refresh).await.expect(200))
}

/// A node with an account `ada`, its session, and a client that introspects tokens.
struct Fixture {
    cluster: TestCluster,
    node: Node,
    client: ServiceClient,
    tokens: Tokens,
}

impl Fixture {
    async fn new() -> Self {
        let mut cluster = TestCluster::new();
        cluster.config.keys.algorithm = Algorithm::Es256;
        let node = cluster.node().await;
        node.register("ada").await;
        let client = cluster.service_client("introspector").await;
        let tokens = node.login("ada").await;
        Self { cluster, node, client, tokens }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_access_tokens_are_refused_without_outgoing_requests() {
    let fixture = Fixture::new().await;
    let Fixture { cluster, node, client, tokens } = &fixture;
    // Some forged headers name this address as the source of their key (`jku`, `x5u`). The service must not connect to it.
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let keys = node.state.keys.current();
    let key = keys.signer(cluster.clock.now()).unwrap();
    let forge = Forge { genuine: &tokens.access, key, trap: trap.local_addr().unwrap() };

    // Control: genuine tokens are accepted, so each refusal below is due to the forgery.
    let control = forge.control();
    for genuine in [&tokens.access, &control] {
        for path in ["/v1/me", "/v1/sessions", "/v1/verify"] {
            node.get(path, genuine).await.expect(200);
        }
        assert_eq!(introspect(node, client, genuine, None).await.json()["active"], true);
    }
    let all = forge.all();
    // guards against a forge that makes few tokens or none
    assert!(all.len() > 200, "the forge makes only {} tokens", all.len());
    for forged in &all {
        assert_refused_as_access_token(node, &forged.name, &forged.token).await;
        assert_inactive(node, client, &forged.name, &forged.token).await;
        // a cookie can't contain these characters
        let for_cookie = forged.token.replace([';', '"', ' ', ','], "");
        assert_refused_as_refresh_token(node, &forged.name, &for_cookie).await;
    }
    // A logout with an expired token ends the session, so it is left out.
    let without_logout: Vec<_> = BEARER_ENDPOINTS.iter().filter(|(_, path)| path != "/v1/logout").cloned().collect();
    for expired in &forge.expired() {
        assert_refused_at(&without_logout, node, &expired.name, &expired.token).await;
        assert_inactive(node, client, &expired.name, &expired.token).await;
    }
    let error = trap.accept().expect_err("the service connected to an address in a token's header");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_unchanged(node, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_another_kind_is_refused() {
    let fixture = Fixture::new().await;
    let Fixture { node, client, tokens, .. } = &fixture;
    assert_refused_as_access_token(node, "a refresh token", &tokens.refresh).await;
    assert_refused_as_refresh_token(node, "an access token", &tokens.access).await;
    assert_refused_as_access_token(node, "a client's secret", &client.secret).await;
    assert_refused_as_refresh_token(node, "a client's secret", &client.secret).await;
    assert_inactive(node, client, "a client's secret", &client.secret).await;
    assert_unchanged(node, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_client_token_is_refused_where_a_session_is_required() {
    let fixture = Fixture::new().await;
    let Fixture { node, client, tokens, .. } = &fixture;
    let form = [("grant_type", "client_credentials")];
    let request = node.request(Method::POST, "/oauth2/token").basic_auth(&client.id, Some(&client.secret)).form(&form);
    let client_token = node.send(request).await.expect(200).text_of("access_token");
    for (method, path) in &*BEARER_ENDPOINTS {
        // `/v1/verify` can admit service clients, and `/v1/logout` succeeds without effect.
        if matches!(path.as_str(), "/v1/verify" | "/v1/logout") {
            continue;
        }
        let answer = call(node, method, path, &client_token).await;
        assert_eq!(answer.problem(), (401, "invalid_token".to_owned()), "{method} {path}");
    }
    assert_refused_as_refresh_token(node, "a service's own token", &client_token).await;
    assert_unchanged(node, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_refresh_tokens_are_refused_everywhere() {
    let fixture = Fixture::new().await;
    let Fixture { cluster, node, client, tokens } = &fixture;
    let token = &tokens.refresh;
    let without_prefix = token.strip_prefix("lk_rt_").unwrap();
    let mut damaged = vec![
        ("nothing but the prefix".to_owned(), "lk_rt_".to_owned()),
        ("no prefix".to_owned(), without_prefix.to_owned()),
        ("another prefix".to_owned(), format!("lk_cs_{without_prefix}")),
        ("the prefix twice".to_owned(), format!("lk_rt_{token}")),
        ("longer".to_owned(), format!("{token}A")),
        ("padded".to_owned(), format!("{token}=")),
        ("much longer".to_owned(), format!("{token}{}", "A".repeat(2000))),
        ("another case".to_owned(), token.to_uppercase()),
    ];
    // every fifth character, and the last one
    for at in ("lk_rt_".len()..token.len()).step_by(5).chain([token.len() - 1]) {
        let (before, after) = (&token[..at], &token[at + 1..]);
        let other_character = if &token[at..=at] == "A" { "B" } else { "A" };
        damaged.push((format!("character {at} changed"), format!("{before}{other_character}{after}")));
        damaged.push((format!("cut at {at}"), before.to_owned()));
    }
    for (name, token) in &damaged {
        assert_refused_as_refresh_token(node, name, token).await;
        assert_refused_as_access_token(node, name, token).await;
        assert_inactive(node, client, name, token).await;
    }
    // no damaged token counted as reuse, which would end the session
    let tokens = assert_unchanged(node, tokens).await;
    // The session also outlives its access tokens, which expire after 300 s.
    cluster.advance(Duration::from_secs(301));
    node.refresh(&tokens.refresh).await.expect(200);
}
