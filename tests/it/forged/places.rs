//! Every place where a token is taken, and every forgery.

use std::{io::ErrorKind, net::TcpListener, time::Duration};

use latchkey::domain::key::Algorithm;
use reqwest::Method;
use serde_json::{Value, json};

use super::tokens::Forge;
use crate::harness::{
    client::{Answer, PASSWORD, Tokens},
    test_cluster::{Node, ServiceClient, TestCluster},
};

/// Where access tokens are taken as `Authorization: Bearer`.
const BEARER: [(Method, &str); 8] = [
    (Method::GET, "/v1/me"),
    (Method::POST, "/v1/me/password"),
    (Method::POST, "/v1/users"),
    (Method::GET, "/v1/sessions"),
    (Method::DELETE, "/v1/sessions?keep_current=true"),
    (Method::DELETE, "/v1/sessions/0f8fad5b-d9cb-469f-a165-70867728950e"),
    (Method::POST, "/v1/logout"),
    (Method::GET, "/v1/verify"),
];

/// What the calls with a body are sent, so that nothing is wrong with them but the token.
fn body(path: &str) -> Option<Value> {
    match path {
        "/v1/me/password" => {
            Some(json!({ "current_password": PASSWORD, "new_password": "another engine verse marmalade" }))
        }
        "/v1/users" => Some(json!({ "email": "mallory@example.com", "password": PASSWORD })),
        _ => None,
    }
}

async fn bearer(node: &Node, method: &Method, path: &str, token: &str) -> Answer {
    let request = node.request(method.clone(), path).bearer_auth(token);
    node.send(body(path).into_iter().fold(request, |request, body| request.json(&body))).await
}

async fn introspect(node: &Node, client: &ServiceClient, token: &str, hint: Option<&str>) -> Answer {
    let form: Vec<_> = [("token", token)].into_iter().chain(hint.map(|hint| ("token_type_hint", hint))).collect();
    node.send(node.request(Method::POST, "/oauth2/introspect").basic_auth(&client.id, Some(&client.secret)).form(&form))
        .await
}

async fn revoke(node: &Node, token: &str) -> Answer {
    node.send(node.request(Method::POST, "/oauth2/revoke").form(&[("token", token)])).await
}

/// Presents a token that is no access token wherever one is taken.
async fn refused_as_access_token(node: &Node, name: &str, token: &str) {
    for (method, path) in &BEARER {
        let answer = bearer(node, method, path, token).await;
        assert_eq!(answer.status, 401, "{name} at {method} {path}: {answer:?}");
        assert_eq!(answer.problem().1, "invalid_token", "{name} at {method} {path}");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"latchkey\", error=\"invalid_token\"");
    }
}

/// Presents what is no token at all to those who ask and revoke.
async fn means_nothing(node: &Node, client: &ServiceClient, name: &str, token: &str) {
    for hint in [None, Some("access_token"), Some("refresh_token")] {
        let answer = introspect(node, client, token, hint).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "active": false })), "{name}: {answer:?}");
    }
    let answer = revoke(node, token).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""), "{name}: {answer:?}");
}

/// Presents what is no refresh token wherever one is taken.
async fn refused_as_refresh_token(node: &Node, name: &str, token: &str) {
    let refused = |answer: Answer, place: &str| {
        assert_eq!(answer.status, 401, "{name} at {place}: {answer:?}");
        assert_eq!(answer.problem().1, "invalid_refresh_token", "{name} at {place}");
    };
    refused(node.refresh(token).await, "/v1/refresh");
    refused(node.logout(token).await, "/v1/logout");
    for path in ["/v1/refresh", "/v1/logout"] {
        let request = node.request(Method::POST, path).header("cookie", format!("__Host-latchkey={token}"));
        refused(node.send(request).await, &format!("{path}, in the cookie"));
    }
    let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
    let answer = node.send(node.request(Method::POST, "/oauth2/token").form(&form)).await;
    assert_eq!((answer.status.as_u16(), answer.text_of("error")), (400, "invalid_grant".to_owned()), "{name}");
}

/// Everything is as it was: the session lives, and so does the account with its password.
async fn nothing_happened(node: &Node, tokens: &Tokens) -> Tokens {
    node.get("/v1/me", &tokens.access).await.expect(200);
    node.login("ada").await;
    assert_eq!(node.try_login("mallory@example.com", PASSWORD).await.status, 401);
    Tokens::of(&node.refresh(&tokens.refresh).await.expect(200))
}

struct Scene {
    cluster: TestCluster,
    node: Node,
    client: ServiceClient,
    tokens: Tokens,
}

impl Scene {
    async fn new() -> Self {
        let mut cluster = TestCluster::new();
        cluster.config.keys.algorithm = Algorithm::Es256;
        let node = cluster.node().await;
        node.account("ada").await;
        let client = cluster.service_client("asks").await;
        let tokens = node.login("ada").await;
        Self { cluster, node, client, tokens }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_access_tokens_are_refused_everywhere_and_nobody_is_asked_about_them() {
    let scene = Scene::new().await;
    let Scene { cluster, node, client, tokens } = &scene;
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let keys = node.state.keys.current();
    let key = keys.signer(cluster.clock.now()).unwrap();
    let forge = Forge { genuine: &tokens.access, key, trap: trap.local_addr().unwrap() };

    let control = forge.control();
    for genuine in [&tokens.access, &control] {
        for path in ["/v1/me", "/v1/sessions", "/v1/verify"] {
            node.get(path, genuine).await.expect(200);
        }
        assert_eq!(introspect(node, client, genuine, None).await.json()["active"], true);
    }
    let all = forge.all();
    assert!(all.len() > 200, "{}", all.len());
    for forged in &all {
        refused_as_access_token(node, &forged.name, &forged.token).await;
        means_nothing(node, client, &forged.name, &forged.token).await;
        // those that could be in a cookie or in JSON
        refused_as_refresh_token(node, &forged.name, &forged.token.replace([';', '"', ' ', ','], "")).await;
    }
    let error = trap.accept().expect_err("somebody went where a token's header led");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    nothing_happened(node, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn access_tokens_are_no_refresh_tokens_nor_the_reverse() {
    let scene = Scene::new().await;
    let Scene { node, client, tokens, .. } = &scene;
    refused_as_access_token(node, "a refresh token", &tokens.refresh).await;
    refused_as_refresh_token(node, "an access token", &tokens.access).await;
    refused_as_access_token(node, "a client's secret", &client.secret).await;
    refused_as_refresh_token(node, "a client's secret", &client.secret).await;
    means_nothing(node, client, "a client's secret", &client.secret).await;
    nothing_happened(node, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_services_own_token_stands_for_no_account() {
    let scene = Scene::new().await;
    let Scene { node, client, tokens, .. } = &scene;
    let form = [("grant_type", "client_credentials")];
    let request = node.request(Method::POST, "/oauth2/token").basic_auth(&client.id, Some(&client.secret)).form(&form);
    let own = node.send(request).await.expect(200).text_of("access_token");
    for (method, path) in BEARER.iter().filter(|(_, path)| *path != "/v1/verify") {
        let answer = bearer(node, method, path, &own).await;
        assert_eq!(answer.problem(), (401, "invalid_token".to_owned()), "{method} {path}");
    }
    refused_as_refresh_token(node, "a service's own token", &own).await;
    nothing_happened(node, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_refresh_tokens_are_refused_everywhere() {
    let scene = Scene::new().await;
    let Scene { cluster, node, client, tokens } = &scene;
    let token = &tokens.refresh;
    let secret = token.strip_prefix("lk_rt_").unwrap();
    let mut damaged = vec![
        ("nothing but the prefix".to_owned(), "lk_rt_".to_owned()),
        ("no prefix".to_owned(), secret.to_owned()),
        ("another prefix".to_owned(), format!("lk_cs_{secret}")),
        ("the prefix twice".to_owned(), format!("lk_rt_{token}")),
        ("longer".to_owned(), format!("{token}A")),
        ("padded".to_owned(), format!("{token}=")),
        ("much longer".to_owned(), format!("{token}{}", "A".repeat(2000))),
        ("another case".to_owned(), token.to_uppercase()),
    ];
    for at in (6..token.len()).step_by(5).chain([token.len() - 1]) {
        let flipped = if &token[at..=at] == "A" { "B" } else { "A" };
        damaged.push((format!("character {at} changed"), format!("{}{flipped}{}", &token[..at], &token[at + 1..])));
        damaged.push((format!("cut at {at}"), token[..at].to_owned()));
    }
    for (name, token) in &damaged {
        refused_as_refresh_token(node, name, token).await;
        refused_as_access_token(node, name, token).await;
        means_nothing(node, client, name, token).await;
    }
    // none of them was taken for a copy of the session's token, whose second use would end it
    let tokens = nothing_happened(node, tokens).await;
    cluster.advance(Duration::from_secs(301));
    node.refresh(&tokens.refresh).await.expect(200);
}
