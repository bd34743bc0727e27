//! `GET /.well-known/jwks.json`, the access tokens that its keys verify, and key rotation on running nodes.

use std::time::Duration;

use jsonwebtoken::{Algorithm as JwtAlgorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use latchkey::{crypto::key_rotation::SigningStart, domain::key::Algorithm, service::keys};
use serde_json::{Value, json};

use super::{assert_fields, problem};
use crate::harness::test_cluster::{Node, TestCluster};

/// The claims of a token, verified as another service does: with the served keys and a library that does not know Latchkey.
async fn verified(node: &Node, token: &str, algorithm: JwtAlgorithm) -> Value {
    let answer = node.get_anonymously("/.well-known/jwks.json").await.expect(200);
    let set: JwkSet = serde_json::from_str(&answer.text).unwrap();
    let header = decode_header(token).unwrap();
    assert_eq!(header.alg, algorithm);
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    let jwk = set.find(&header.kid.unwrap()).expect("the key is published");
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&["latchkey"]);
    validation.set_issuer(&["https://auth.example.com"]);
    decode::<Value>(token, &DecodingKey::from_jwk(jwk).unwrap(), &validation).unwrap().claims
}

/// Rotates the signing key in the database. A node learns of the new key when it reloads the keys. Returns the id of the new key.
async fn rotate(node: &Node, start: SigningStart) -> String {
    let app = &node.state;
    keys::rotate(&app.config, &app.clock, &app.entropy, &app.sql, start).await.unwrap().kid
}

/// The id of the key that signed a token.
fn kid(token: &str) -> String {
    decode_header(token).unwrap().kid.unwrap()
}

/// The ids of the keys that a node publishes.
async fn published(node: &Node) -> Vec<String> {
    let body = node.get_anonymously("/.well-known/jwks.json").await.json();
    body["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn access_tokens_have_documented_claims_in_every_algorithm() {
    let algorithms = [
        (Algorithm::Es256, JwtAlgorithm::ES256, "EC"),
        (Algorithm::EdDsa, JwtAlgorithm::EdDSA, "OKP"),
        (Algorithm::Rs256, JwtAlgorithm::RS256, "RSA"),
        (Algorithm::Ps256, JwtAlgorithm::PS256, "RSA"),
    ];
    for (configured, algorithm, kty) in algorithms {
        let mut cluster = TestCluster::new();
        cluster.config.keys.algorithm = configured;
        let node = cluster.node().await;
        let account = node.register("ada").await.text_of("id");
        let tokens = node.login("ada").await;
        let claims = verified(&node, &tokens.access, algorithm).await;
        let names = [
            "iss",
            "sub",
            "aud",
            "client_id",
            "iat",
            "exp",
            "jti",
            "sid",
            "auth_time",
            "acr",
            "amr",
            "scope",
            "session_start",
            "claims_version",
        ];
        assert_fields(&claims, &names);
        assert_eq!(claims["sub"], account);
        assert_eq!(claims["sid"], tokens.session);
        assert_eq!(claims["client_id"], "latchkey");
        // the manual clock stands at 1,800,000,000 s, and an access token is valid for 300 s
        assert_eq!(claims["iat"], 1_800_000_000);
        assert_eq!(claims["exp"], 1_800_000_300);
        assert_eq!(claims["auth_time"], 1_800_000_000);
        assert_eq!(claims["session_start"], 1_800_000_000);
        assert_eq!(claims["amr"], json!(["pwd"]));
        assert_eq!(claims["scope"], "account");
        assert_eq!(claims["claims_version"], 0);
        let answer = node.get_anonymously("/.well-known/jwks.json").await;
        assert_eq!(answer.header("cache-control"), "public, max-age=300");
        let key = &answer.json()["keys"][0];
        assert_eq!(key["kty"], kty);
        assert_eq!(key["use"], "sig");
        assert_eq!(key["alg"], json!(algorithm));
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(key.get(private).is_none(), "{private}");
        }
    }
}

#[tokio::test]
async fn next_key_is_published_before_it_signs_on_every_node() {
    let cluster = TestCluster::new();
    let first = cluster.node().await;
    let second = cluster.node().await;
    first.register("ada").await;
    let old = kid(&first.login("ada").await.access);
    let new = rotate(&first, SigningStart::AfterPublication).await;
    for node in [&first, &second] {
        node.state.keys.reload().await.unwrap();
        assert!(published(node).await.contains(&new));
        assert_eq!(kid(&node.login("ada").await.access), old);
    }
    // a second before the new key starts to sign
    cluster.advance(cluster.config.keys.publish_before - Duration::from_secs(1));
    let last_of_old_key = second.login("ada").await.access;
    assert_eq!(kid(&last_of_old_key), old);
    cluster.advance(Duration::from_secs(1));
    for node in [&first, &second] {
        assert_eq!(kid(&node.login("ada").await.access), new);
        node.get("/v1/me", &last_of_old_key).await.expect(200);
    }
}

#[tokio::test]
async fn tokens_of_retired_key_are_refused() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let stolen = node.login("ada").await;
    rotate(&node, SigningStart::Now).await;
    node.state.keys.reload().await.unwrap();
    node.get("/v1/me", &stolen.access).await.expect(200);
    keys::retire(&node.state.clock, &node.state.sql, &node.state.redis.revocation_log, &kid(&stolen.access))
        .await
        .unwrap();
    node.state.keys.reload().await.unwrap();
    assert_eq!(node.get("/v1/me", &stolen.access).await.problem(), problem(401, "invalid_token"));
    assert!(!published(&node).await.contains(&kid(&stolen.access)));
    let fresh = node.refresh(&stolen.refresh).await.expect(200).text_of("access_token");
    node.get("/v1/me", &fresh).await.expect(200);
}

#[tokio::test]
async fn unknown_key_causes_at_most_one_reload_per_second() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let peer = cluster.node().await;
    node.register("ada").await;
    // twice, because the limit allows the next reload a second later
    for _ in 0..2 {
        rotate(&node, SigningStart::Now).await;
        node.state.keys.reload().await.unwrap();
        let token = node.login("ada").await.access;
        peer.get("/v1/me", &token).await.expect(200);
        // the peer has reloaded its keys within the last second, and does not load the second key yet
        rotate(&node, SigningStart::Now).await;
        node.state.keys.reload().await.unwrap();
        let token = node.login("ada").await.access;
        assert_eq!(peer.get("/v1/me", &token).await.problem(), problem(401, "invalid_token"));
        cluster.advance(Duration::from_secs(1));
        peer.get("/v1/me", &token).await.expect(200);
        cluster.advance(Duration::from_secs(1));
    }
}
