//! Tests client authentication by HTTP Basic, by form fields or by a signed assertion. A request with two of them is refused.

use base64::{Engine, prelude::*};
use latchkey::{
    crypto::{client_keys::to_jwks, signing_key::SigningKey},
    domain::key::Algorithm,
    service::clients::NewClient,
    store::sql::AuditFilter,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{error, post, refused};
use crate::harness::{
    client::Answer,
    monitor::Monitor,
    test_cluster::{Node, ServiceClient, TestCluster},
};

/// The form field of a request for a client's own token.
const GRANT: (&str, &str) = ("grant_type", "client_credentials");
/// The `client_assertion_type` of a signed assertion (RFC 7523).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Requests a token of the client's own, with this `Authorization` and these additional form fields.
async fn request_token(node: &Node, authorization: Option<String>, form: &[(&str, &str)]) -> Answer {
    let mut all = vec![GRANT];
    all.extend(form);
    let mut request = node.request(Method::POST, "/oauth2/token").form(&all);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    node.send(request).await
}

/// The `Authorization` header for the credentials `ID:SECRET`, as [`request_token`] takes it.
fn basic(credentials: &str) -> Option<String> {
    Some(format!("Basic {}", BASE64_STANDARD.encode(credentials)))
}

#[tokio::test]
async fn client_with_basic_or_form_credentials_is_authenticated() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let ServiceClient { id, secret } = cluster.service_client("bill.ing_1-a").await;
    request_token(&node, basic(&format!("{id}:{secret}")), &[]).await.expect(200);
    request_token(&node, basic(&format!("{id}:{secret}")), &[("client_id", &id)]).await.expect(200);
    // The id and the secret are form-encoded (RFC 6749, section 2.3.1). A client may also encode characters that need no encoding.
    let encoded = |text: &str| text.replace('-', "%2D").replace('_', "%5f").replace('.', "%2E");
    request_token(&node, basic(&format!("{}:{}", encoded(&id), encoded(&secret))), &[]).await.expect(200);
    request_token(&node, None, &[("client_id", &id), ("client_secret", &secret)]).await.expect(200);
    let lower_case_scheme = basic(&format!("{id}:{secret}")).unwrap().replace("Basic", "basic");
    request_token(&node, Some(lower_case_scheme), &[]).await.expect(200);
}

#[tokio::test]
async fn client_with_wrong_credentials_is_refused_with_a_challenge() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let ServiceClient { id, secret } = cluster.service_client("billing").await;
    let other = cluster.service_client("other").await;
    for authorization in [
        basic(&format!("{id}:{}", other.secret)),
        basic(&format!("{id}:")),
        basic(&format!("{id}:{secret} ")),
        basic(&format!("{id}x:{secret}")),
        basic(&format!("{}:{secret}", id.to_uppercase())),
        basic(&id),                      // no colon
        basic("%zz:%zz"),                // not form-encoded
        Some(format!("Basic {secret}")), // not in base64
        Some(format!("Bearer {secret}")),
        Some("Negotiate abc".to_owned()),
        None,
    ] {
        let answer = request_token(&node, authorization.clone(), &[]).await;
        assert_eq!(error(&answer), refused(401, "invalid_client"), "{authorization:?}");
    }
    for form in [
        &[("client_id", id.as_str()), ("client_secret", &other.secret)][..],
        &[("client_id", "nobody"), ("client_secret", &secret)],
        &[("client_id", &id)],
        &[("client_id", &id), ("client_secret", "")],
        &[("client_assertion_type", "urn:other"), ("client_assertion", "a.b.c")],
        &[("client_assertion_type", JWT_BEARER), ("client_assertion", "a.b.c")],
    ] {
        let answer = request_token(&node, None, form).await;
        assert_eq!(error(&answer), refused(401, "invalid_client"), "{form:?}");
    }
}

/// Libraries authenticate public clients by HTTP Basic with an empty secret (RFC 6749, section 2.3.1).
#[tokio::test]
async fn basic_with_an_empty_secret_identifies_a_public_client() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let ServiceClient { id, .. } = cluster.service_client("billing").await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let send_with_basic = async |path: &str, credentials: &str, form: &[(&str, &str)]| {
        let request = node.request(Method::POST, path).form(form);
        node.send(request.header("authorization", basic(credentials).unwrap())).await
    };
    let refresh_form = [("grant_type", "refresh_token"), ("refresh_token", &tokens.refresh)];
    // `latchkey` is the public client of sessions that were started by the REST API. The second request repeats the token in its grace
    // window.
    let refreshed = send_with_basic("/oauth2/token", "latchkey:", &refresh_form).await.expect(200);
    let newest = refreshed.text_of("refresh_token");
    let refresh_form_with = |field: (&'static str, &'static str)| [refresh_form[0], refresh_form[1], field];
    send_with_basic("/oauth2/token", "latchkey:", &refresh_form_with(("client_id", "latchkey"))).await.expect(200);
    // a client with a secret, an unknown client, no client
    for credentials in [format!("{id}:"), "other:".to_owned(), ":".to_owned()] {
        let answer = send_with_basic("/oauth2/token", &credentials, &refresh_form).await;
        assert_eq!(error(&answer), refused(401, "invalid_client"), "{credentials}");
    }
    for extra in [("client_id", "other"), ("client_secret", "x"), ("client_assertion", "a.b.c")] {
        let answer = send_with_basic("/oauth2/token", "latchkey:", &refresh_form_with(extra)).await;
        assert_eq!(error(&answer), refused(400, "invalid_request"), "{extra:?}");
    }
    // A public client may neither get tokens of its own nor introspect.
    for (path, form) in [("/oauth2/token", [GRANT]), ("/oauth2/introspect", [("token", newest.as_str())])] {
        let answer = send_with_basic(path, "latchkey:", &form).await;
        assert_eq!(error(&answer), refused(401, "invalid_client"), "{path}");
    }
    send_with_basic("/oauth2/revoke", "latchkey:", &[("token", &newest)]).await.expect(200);
    let answer = send_with_basic("/oauth2/token", "latchkey:", &refresh_form).await;
    assert_eq!(error(&answer), refused(400, "invalid_grant"), "the session has ended");
}

#[tokio::test]
async fn request_with_two_kinds_of_client_credentials_is_refused() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let ServiceClient { id, secret } = cluster.service_client("billing").await;
    let valid = || basic(&format!("{id}:{secret}"));
    // Credentials of two kinds, the `client_id` of another client, or a field without the one that completes it.
    for (authorization, form) in [
        (valid(), &[("client_id", id.as_str()), ("client_secret", secret.as_str())][..]),
        (valid(), &[("client_secret", &secret)]),
        (valid(), &[("client_id", "other")]),
        (valid(), &[("client_assertion_type", JWT_BEARER), ("client_assertion", "a.b.c")]),
        (Some("Bearer x".to_owned()), &[("client_id", &id), ("client_secret", &secret)]),
        (None, &[("client_secret", &secret)]),
        (None, &[("client_id", &id), ("client_secret", &secret), ("client_assertion", "a.b.c")]),
        (None, &[("client_assertion", "a.b.c")]),
        (None, &[("client_assertion_type", JWT_BEARER)]),
    ] {
        let answer = request_token(&node, authorization.clone(), form).await;
        assert_eq!(error(&answer), refused(400, "invalid_request"), "{authorization:?} {form:?}");
    }
    let request = node.request(Method::POST, "/oauth2/token").form(&[GRANT]);
    let request = request.header("authorization", valid().unwrap()).header("authorization", valid().unwrap());
    let answer = node.send(request).await;
    assert_eq!(error(&answer), refused(400, "invalid_request"), "two headers");
}

/// Signs an assertion of the client `billing`, in which `changes` adds or replaces claims. Without changes, the assertion expires in a
/// minute: the clock of a test cluster starts at 1,800,000,000.
fn assertion(key: &SigningKey, changes: &Value) -> String {
    let mut claims = json!({
        "iss": "billing", "sub": "billing", "aud": "https://auth.example.com", "exp": 1_800_000_060, "iat": 1_800_000_000,
        "jti": "one",
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let header = json!({ "alg": key.algorithm().as_str(), "typ": "JWT", "kid": key.kid() });
    let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    let message = format!("{header}.{claims}");
    let signature = key.sign(message.as_bytes()).unwrap();
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn client_assertion_authenticates_once() {
    let cluster = TestCluster::new();
    let (node, other) = (cluster.node().await, cluster.node().await);
    let keys = Algorithm::ALL.map(|algorithm| SigningKey::generate(algorithm).unwrap());
    let public_keys: Vec<_> = keys.iter().map(SigningKey::public_jwk).collect();
    let jwks = format!("{{\"keys\":[{}]}}", public_keys.join(","));
    let new = NewClient { name: "billing".to_owned(), jwks: Some(to_jwks(&jwks).unwrap()), ..NewClient::default() };
    cluster.service_client_with(new).await;
    let present = async |node: &Node, assertion: &str| {
        request_token(node, None, &[("client_assertion_type", JWT_BEARER), ("client_assertion", assertion)]).await
    };
    let mut monitor = Monitor::start(&cluster.redis);
    for (key, jti) in keys.iter().zip(["1", "2", "3", "4"]) {
        let text = assertion(key, &json!({ "jti": jti }));
        present(&node, &text).await.expect(200);
        for node in [&node, &other] {
            assert_eq!(error(&present(node, &text).await), refused(401, "invalid_client"), "an assertion works once");
        }
    }
    let commands: Vec<_> = monitor.commands(&cluster.redis).into_iter().map(|words| words[0].clone()).collect();
    // Each of the four assertions was presented three times.
    assert_eq!(commands, ["SET"; 12], "one round trip each time that an assertion is presented");

    for aud in [
        json!("https://auth.example.com/oauth2/token"),
        json!(["https://auth.example.com", "https://auth.example.com/oauth2/token"]),
    ] {
        let text = assertion(&keys[0], &json!({ "jti": aud.to_string(), "aud": aud }));
        present(&node, &text).await.expect(200);
    }
    let text = assertion(&keys[0], &json!({ "jti": "with a client_id" }));
    let form = [("client_assertion_type", JWT_BEARER), ("client_assertion", &text), ("client_id", "billing")];
    request_token(&node, None, &form).await.expect(200);
    let text = assertion(&keys[0], &json!({ "jti": "at the introspection endpoint" }));
    let form = [("client_assertion_type", JWT_BEARER), ("client_assertion", &text), ("token", "x")];
    let basic_client = None;
    let answer = post(&node, "/oauth2/introspect", basic_client, &form).await.expect(200);
    assert_eq!(answer.json(), json!({ "active": false }));

    let stranger = SigningKey::generate(Algorithm::Es256).unwrap();
    for (key, changes) in [
        (&stranger, json!({ "jti": "another key" })),
        (&keys[0], json!({ "jti": "another audience", "aud": "https://other.example.com" })),
        (&keys[0], json!({ "jti": "expired 5 seconds ago", "exp": 1_799_999_995 })), // `token.leeway` is 5 s
        (&keys[0], json!({ "jti": "expires in more than an hour", "exp": 1_800_004_000 })),
        (&keys[0], json!({ "jti": "another issuer", "iss": "other" })),
        (&keys[0], json!({ "jti": "another client", "iss": "other", "sub": "other" })),
        (&keys[0], json!({ "jti": null })),
    ] {
        let answer = present(&node, &assertion(key, &changes)).await;
        assert_eq!(error(&answer), refused(401, "invalid_client"), "{changes}");
    }
    // The audit log names the client of the assertion.
    let recorded_failures = async || {
        node.state.audit.flush().await.unwrap();
        let rows = node.state.sql.audit(&AuditFilter::default(), 1000).await.unwrap();
        let of_client = rows.iter().filter(|row| row.client_id.as_deref() == Some("billing"));
        of_client.filter(|row| row.reason.as_deref() == Some("wrong_credentials")).map(|row| row.count).sum::<i64>()
    };
    let before = recorded_failures().await;
    let text = assertion(&keys[0], &json!({ "jti": "with another client_id" }));
    let form = [("client_assertion_type", JWT_BEARER), ("client_assertion", &text), ("client_id", "other")];
    let answer = request_token(&node, None, &form).await;
    assert_eq!(error(&answer), refused(401, "invalid_client"));
    assert_eq!(recorded_failures().await, before + 1);
}

#[tokio::test]
async fn sixteen_concurrent_uses_of_one_assertion_authenticate_once() {
    let cluster = TestCluster::new();
    let nodes = [cluster.node().await, cluster.node().await];
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let jwks = Some(to_jwks(key.public_jwk()).unwrap());
    cluster.service_client_with(NewClient { name: "billing".to_owned(), jwks, ..NewClient::default() }).await;
    let text = assertion(&key, &json!({}));
    let form = [("client_assertion_type", JWT_BEARER), ("client_assertion", text.as_str())];
    let requests = (0..16).map(|number| request_token(&nodes[number % 2], None, &form));
    let answers = futures_util::future::join_all(requests).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 401).count(), 15);
}
