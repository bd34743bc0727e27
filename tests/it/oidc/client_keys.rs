//! Apps without a registration that authenticate by a key. The key is in their metadata document or at their `jwks_uri`
//! (draft-ietf-oauth-client-id-metadata-document, section 8.2).

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use latchkey::{
    crypto::signing_key::SigningKey,
    domain::{entropy::Entropy, key::Algorithm, limit::Quota},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Browser, claims,
    dynamic_clients::{
        PATH, authorize_with_consent, cluster, exchange, expect_refusal_page, node_with_browser, refresh, request,
        token_as,
    },
    error_of, text,
};
use crate::harness::{
    client::Answer,
    document_server::{DocumentServer, Reply},
    test_cluster::{Node, TestCluster},
    wait,
};

/// The path of the key set that a `jwks_uri` names.
const KEYS_PATH: &str = "/apps/keys.json";

/// The error of a client that does not authenticate.
fn unauthenticated() -> (u16, String) {
    (401, "invalid_client".to_owned())
}

fn new_key() -> SigningKey {
    SigningKey::generate(Algorithm::Es256).unwrap()
}

fn public_jwk(key: &SigningKey) -> Value {
    serde_json::from_str(key.public_jwk()).unwrap()
}

fn key_set(keys: &[Value]) -> Value {
    json!({ "keys": keys })
}

/// Serves an app whose keys are at [`KEYS_PATH`], and returns its `client_id`.
fn app_with_jwks_uri(server: &DocumentServer) -> String {
    let method = ("token_endpoint_auth_method", json!("private_key_jwt"));
    server.app(PATH, &[method, ("jwks_uri", json!(server.url(KEYS_PATH)))])
}

/// A JWT by which the client authenticates (RFC 7523, section 2.2).
fn assertion(cluster: &TestCluster, client_id: &str, key: &SigningKey) -> String {
    let now = cluster.clock.now();
    // a new one each time: an assertion works once
    let jti = Entropy::system().bytes::<9>();
    let header = json!({ "alg": "ES256", "typ": "JWT", "kid": key.kid() });
    let claims = json!({
        "iss": client_id, "sub": client_id, "aud": cluster.config.issuer, "iat": now.as_secs(), "exp": now.as_secs() + 60,
        "jti": BASE64_URL_SAFE_NO_PAD.encode(jti),
    });
    let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    let message = format!("{header}.{claims}");
    let signature = key.sign(message.as_bytes()).unwrap();
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// Calls the token endpoint as a client with this key.
async fn token_with(
    node: &Node,
    cluster: &TestCluster,
    client_id: &str,
    key: &SigningKey,
    form: &[(&str, &str)],
) -> Answer {
    let assertion = assertion(cluster, client_id, key);
    let credentials = [
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion.as_str()),
    ];
    let form: Vec<_> = form.iter().copied().chain(credentials).collect();
    token_as(node, client_id, &form).await
}

/// Refreshes as a client with this key. Tests present the same refresh token repeatedly, as `session.retry_window` allows.
async fn refresh_with(
    node: &Node,
    cluster: &TestCluster,
    client_id: &str,
    key: &SigningKey,
    refresh_token: &str,
) -> Answer {
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
    token_with(node, cluster, client_id, key, &form).await
}

/// Signs the browser's user in to an app that authenticates with this key, with the user's consent. Returns the refresh token.
async fn sign_in(
    node: &Node,
    cluster: &TestCluster,
    browser: &Browser,
    server: &DocumentServer,
    client_id: &str,
    key: &SigningKey,
) -> String {
    let code = authorize_with_consent(node, browser, server, &request(server, client_id)).await;
    exchange_with_key(node, cluster, server, client_id, key, &code).await
}

/// Exchanges a code as a client that authenticates with this key. Returns the refresh token.
async fn exchange_with_key(
    node: &Node,
    cluster: &TestCluster,
    server: &DocumentServer,
    client_id: &str,
    key: &SigningKey,
    code: &str,
) -> String {
    let redirect_uri = server.url("/callback");
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", redirect_uri.as_str()),
        ("code_verifier", super::VERIFIER),
    ];
    let tokens = token_with(node, cluster, client_id, key, &form).await.expect(200).json();
    assert_eq!(claims(text(&tokens, "access_token"))["client_id"], client_id);
    text(&tokens, "refresh_token").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn app_with_a_key_in_its_document_authenticates_by_a_signed_assertion() {
    let (cluster, server) = cluster().await;
    let (node, browser) = node_with_browser(&cluster).await;
    let app_key = new_key();
    let foreign_key = new_key();
    // The set also has a key of an unsupported kind.
    let jwks = key_set(&[json!({ "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA" }), public_jwk(&app_key)]);
    let client_id = server.app(PATH, &[("token_endpoint_auth_method", json!("private_key_jwt")), ("jwks", jwks)]);
    let code = authorize_with_consent(&node, &browser, &server, &request(&server, &client_id)).await;
    let without_assertion = exchange(&node, &server, &client_id, &code).await;
    assert_eq!(error_of(&without_assertion), unauthenticated());
    let refresh_token = exchange_with_key(&node, &cluster, &server, &client_id, &app_key, &code).await;
    let forged = refresh_with(&node, &cluster, &client_id, &foreign_key, &refresh_token).await;
    assert_eq!(error_of(&forged), unauthenticated());
    let tokens = json!({ "refresh_token": refresh_token });
    let refresh_without_assertion = refresh(&node, &client_id, &tokens).await;
    assert_eq!(error_of(&refresh_without_assertion), unauthenticated());
    refresh_with(&node, &cluster, &client_id, &app_key, &refresh_token).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_at_jwks_uri_are_cached_and_follow_a_rotation_within_a_minute() {
    let (cluster, server) = cluster().await;
    let (node, browser) = node_with_browser(&cluster).await;
    let (old_key, next_key, foreign_key) = (new_key(), new_key(), new_key());
    server.set(KEYS_PATH, Reply::json(&key_set(&[public_jwk(&old_key)])));
    let client_id = app_with_jwks_uri(&server);
    let token = sign_in(&node, &cluster, &browser, &server, &client_id, &old_key).await;
    refresh_with(&node, &cluster, &client_id, &old_key, &token).await.expect(200);
    assert_eq!(server.requests(KEYS_PATH), 1);
    // Within a minute of a fetch, forged assertions do not cause another one.
    for _ in 0..3 {
        let forged = refresh_with(&node, &cluster, &client_id, &foreign_key, &token).await;
        assert_eq!(error_of(&forged), unauthenticated());
    }
    assert_eq!(server.requests(KEYS_PATH), 1);
    server.set(KEYS_PATH, Reply::json(&key_set(&[public_jwk(&next_key)])));
    cluster.advance(Duration::from_mins(1));
    refresh_with(&node, &cluster, &client_id, &next_key, &token).await.expect(200);
    let replaced = refresh_with(&node, &cluster, &client_id, &old_key, &token).await;
    assert_eq!(error_of(&replaced), unauthenticated());
    assert_eq!(server.requests(KEYS_PATH), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_authenticates_while_jwks_uri_is_unavailable_and_is_refused_once_it_is_gone() {
    let (cluster, server) = cluster().await;
    let (node, browser) = node_with_browser(&cluster).await;
    let app_key = new_key();
    server.set(KEYS_PATH, Reply::json(&key_set(&[public_jwk(&app_key)])));
    let client_id = app_with_jwks_uri(&server);
    let token = sign_in(&node, &cluster, &browser, &server, &client_id, &app_key).await;
    server.set(KEYS_PATH, Reply::with("503 Service Unavailable", &[], b""));
    // Keys without a stated lifetime are fetched again after an hour.
    cluster.advance(Duration::from_mins(61));
    refresh_with(&node, &cluster, &client_id, &app_key, &token).await.expect(200);
    assert_eq!(server.requests(KEYS_PATH), 2);
    // A node that has never fetched the keys can't authenticate the client.
    let other = cluster.node().await;
    let unknown = refresh_with(&other, &cluster, &client_id, &app_key, &token).await;
    assert_eq!(error_of(&unknown), unauthenticated());
    // must not be in a public set
    let symmetric_key = json!({ "kty": "oct", "k": "AAAA" });
    let location = format!("Location: {}", server.url("/elsewhere"));
    server.set("/elsewhere", Reply::json(&key_set(&[public_jwk(&app_key)])));
    for (problem, reply) in [
        ("gone", Reply::with("410 Gone", &[], b"")),
        ("redirect", Reply::with("302 Found", &["Content-Type: application/json", &location], b"{}")),
        ("symmetric key", Reply::json(&key_set(&[public_jwk(&app_key), symmetric_key]))),
        ("no key", Reply::json(&key_set(&[]))),
        ("no set", Reply::json(&json!([]))),
        // longer than `dynamic_clients.max_document`
        ("too large", Reply::json(&json!({ "keys": [public_jwk(&app_key)], "more": "x".repeat(64 << 10) }))),
    ] {
        server.set(KEYS_PATH, reply);
        // A failed fetch is repeated after ten seconds at the earliest.
        cluster.advance(Duration::from_secs(11));
        let refused = refresh_with(&node, &cluster, &client_id, &app_key, &token).await;
        assert_eq!(error_of(&refused), unauthenticated(), "{problem}");
    }
    assert_eq!(server.requests("/elsewhere"), 0);
    server.set(KEYS_PATH, Reply::json(&key_set(&[public_jwk(&app_key)])));
    cluster.advance(Duration::from_secs(11));
    refresh_with(&node, &cluster, &client_id, &app_key, &token).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn jwks_uri_that_must_not_be_fetched_is_refused_with_the_document() {
    let (mut cluster, server) = cluster().await;
    // the host of the document server, under this name only
    cluster.config.dynamic_clients.allowed_hosts = vec!["localhost".to_owned()];
    let (node, browser) = node_with_browser(&cluster).await;
    server.set(KEYS_PATH, Reply::json(&key_set(&[public_jwk(&new_key())])));
    let method = ("token_endpoint_auth_method", json!("private_key_jwt"));
    let uris = [
        format!("http://localhost:{}{KEYS_PATH}", server.port),
        format!("https://127.0.0.1:{}{KEYS_PATH}", server.port),
        // 127.0.0.1 as one number
        format!("https://2130706433:{}{KEYS_PATH}", server.port),
        format!("https://user@localhost:{}{KEYS_PATH}", server.port),
        "https://keys.example.net/jwks".to_owned(),
        "file:///etc/passwd".to_owned(),
    ];
    for (number, uri) in uris.into_iter().enumerate() {
        let client_id = server.app(&format!("/app{number}"), &[method.clone(), ("jwks_uri", json!(uri))]);
        let answer = browser.authorize(&node, &request(&server, &client_id)).await;
        let refusal = expect_refusal_page(&answer);
        let reasons = ["its content is not valid", "its host is not allowed"];
        assert!(reasons.iter().any(|reason| refusal.contains(reason)), "{uri} {refusal}");
    }
    // A document with a private key is refused, even if the app does not authenticate by a key.
    let private = ("jwks", key_set(&[json!({ "kty": "EC", "crv": "P-256", "d": "AA" })]));
    let client_id = server.app("/private", &[private]);
    let answer = browser.authorize(&node, &request(&server, &client_id)).await;
    assert!(expect_refusal_page(&answer).contains("its content is not valid"), "{answer:?}");
    // No user has allowed this app, so an assertion does not cause a fetch of its keys.
    let client_id = app_with_jwks_uri(&server);
    browser.authorize(&node, &request(&server, &client_id)).await.expect(303);
    let stranger = refresh_with(&node, &cluster, &client_id, &new_key(), "lk_rt_x").await;
    assert_eq!(error_of(&stranger), unauthenticated());
    assert_eq!(server.requests(KEYS_PATH), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn registered_app_may_have_jwks_uri_only_if_metadata_documents_are_enabled() {
    let (mut cluster, server) = cluster().await;
    cluster.config.dynamic_clients.registration = true;
    let (node, browser) = node_with_browser(&cluster).await;
    let app_key = new_key();
    server.set(KEYS_PATH, Reply::json(&key_set(&[public_jwk(&app_key)])));
    let metadata = json!({
        "redirect_uris": [server.url("/callback")],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks_uri": server.url(KEYS_PATH),
    });
    let register = async |node: &Node, metadata: &Value| {
        node.send(node.request(Method::POST, "/oauth2/register").json(metadata)).await
    };
    let registered = register(&node, &metadata).await.expect(201).json();
    assert_eq!(registered["jwks_uri"], metadata["jwks_uri"]);
    let client_id = text(&registered, "client_id").to_owned();
    let token = sign_in(&node, &cluster, &browser, &server, &client_id, &app_key).await;
    refresh_with(&node, &cluster, &client_id, &app_key, &token).await.expect(200);
    let forged = refresh_with(&node, &cluster, &client_id, &new_key(), &token).await;
    assert_eq!(error_of(&forged), unauthenticated());
    node.stop().await;
    // Registration alone does not allow requests to other hosts.
    cluster.config.dynamic_clients.metadata_documents = false;
    let node = cluster.node().await;
    let refused = register(&node, &metadata).await;
    assert_eq!(error_of(&refused), (400, "invalid_client_metadata".to_owned()));
    let unreachable = refresh_with(&node, &cluster, &client_id, &app_key, &token).await;
    assert_eq!(error_of(&unreachable), unauthenticated());
    assert_eq!(server.requests(KEYS_PATH), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_of_keys_counts_against_the_limit_of_the_address_and_cached_keys_do_not() {
    let (mut cluster, server) = cluster().await;
    // One fetch of the document, and one of the keys.
    cluster.config.limits.client_document_per_address = Some(Quota { count: 2, window: Duration::from_mins(10) });
    let (node, browser) = node_with_browser(&cluster).await;
    let app_key = new_key();
    server.set(KEYS_PATH, Reply::json(&key_set(&[public_jwk(&app_key)])));
    let client_id = app_with_jwks_uri(&server);
    let token = sign_in(&node, &cluster, &browser, &server, &client_id, &app_key).await;
    // A minute after the fetch, a signature that no cached key verifies would cause another one.
    cluster.advance(Duration::from_mins(1));
    let forged = refresh_with(&node, &cluster, &client_id, &new_key(), &token).await;
    assert_eq!(forged.status, 429, "{forged:?}");
    refresh_with(&node, &cluster, &client_id, &app_key, &token).await.expect(200);
    assert_eq!(server.requests(KEYS_PATH), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_key_fetches_are_limited_to_four_per_host_and_do_not_delay_new_apps() {
    let (mut cluster, server) = cluster().await;
    // longer than the test takes
    cluster.config.dynamic_clients.fetch_timeout = Duration::from_mins(1);
    let (node, browser) = node_with_browser(&cluster).await;
    let app_key = new_key();
    let mut apps = Vec::new();
    // One more than the four fetches that a host may have in progress. Each app has a key set of its own.
    for number in 0..5 {
        let keys = format!("/keys{number}");
        server.set(&keys, Reply { bytes: Vec::new(), stalls: true });
        let method = ("token_endpoint_auth_method", json!("private_key_jwt"));
        let client_id = server.app(&format!("/app{number}"), &[method, ("jwks_uri", json!(server.url(&keys)))]);
        authorize_with_consent(&node, &browser, &server, &request(&server, &client_id)).await;
        apps.push(client_id);
    }
    let fifth = apps.pop().unwrap();
    // the value of the refresh token does not matter: the client is authenticated first
    let stalled = join_all(apps.iter().map(|app| refresh_with(&node, &cluster, app, &app_key, "lk_rt_x")));
    let others = async {
        let documents = &server;
        let started = || async { (0..4).all(|number| documents.requests(&format!("/keys{number}")) == 1) };
        wait::until("four fetches are in progress", started).await;
        let busy = refresh_with(&node, &cluster, &fifth, &app_key, "lk_rt_x").await;
        assert_eq!(busy.status, 503, "{busy:?}");
        assert_eq!(busy.header("retry-after"), "1");
        let new_app = server.app("/new", &[]);
        browser.authorize(&node, &request(&server, &new_app)).await.expect(303);
        // Ends the stalled fetches, which fail.
        drop(server);
    };
    let (refused, ()) = tokio::join!(stalled, others);
    assert_eq!(refused.len(), 4);
    for answer in &refused {
        assert_eq!(error_of(answer), unauthenticated());
    }
}
