//! Dynamic client registration (RFC 7591): apps that register themselves. Nothing is stored before a user consents.

use std::time::Duration;

use latchkey::domain::{limit::Quota, secret::SecretText};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Browser, CALLBACK, Request, VERIFIER, claims, error_of, exchange, page_and_handle, refresh, response_of, text,
};
use crate::harness::{
    client::Answer,
    test_cluster::{Node, ServiceClient, TestCluster},
};

/// A cluster at which apps may register themselves.
fn cluster() -> TestCluster {
    let mut cluster = TestCluster::new();
    cluster.config.dynamic_clients.registration = true;
    cluster
}

async fn register(node: &Node, metadata: Value) -> Answer {
    node.send(node.request(Method::POST, "/oauth2/register").json(&metadata)).await
}

/// The status and the `error` for a client that is unknown, or that does not authenticate as it registered.
fn invalid_client() -> (u16, String) {
    (401, "invalid_client".to_owned())
}

/// Registers an app with this `token_endpoint_auth_method`. With `none`, the returned secret is empty.
async fn register_app(node: &Node, auth_method: &str) -> ServiceClient {
    let metadata = json!({
        "client_name": "The Helper",
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": auth_method,
        "software_version": "ignored",
    });
    let registered = register(node, metadata).await.expect(201).json();
    assert_eq!(registered["token_endpoint_auth_method"], auth_method);
    let secret = registered["client_secret"].as_str().unwrap_or_default().to_owned();
    ServiceClient { id: text(&registered, "client_id").to_owned(), secret }
}

/// Records the user's consent to an app, and returns the authorization code.
async fn authorize_with_consent(node: &Node, browser: &Browser, client_id: &str) -> String {
    let (page, handle) = page_and_handle(node, &browser.authorize(node, &Request::for_client(client_id)).await);
    assert_eq!(page, "/account/consent");
    browser.consent(node, &handle).await;
    let answer = browser.get(node, &format!("/oauth2/authorize?request={handle}")).await;
    response_of(&answer).remove("code").unwrap()
}

/// Calls the token endpoint with the client's id and secret in the form. Empty values are left out.
async fn token_by_post(node: &Node, client: &ServiceClient, form: &[(&str, &str)]) -> Answer {
    let credentials = [("client_id", client.id.as_str()), ("client_secret", client.secret.as_str())];
    let form: Vec<_> = form.iter().copied().chain(credentials).filter(|(_, value)| !value.is_empty()).collect();
    node.send(node.request(Method::POST, "/oauth2/token").form(&form)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn registered_app_signs_its_user_in_and_is_stored_with_the_consent() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let browser = Browser::signed_in(&node, "ada").await;
    // The apps register at `node`. The other node finds the metadata in the client id, and the consent in the database.
    let other_node = cluster.node().await;
    for method in ["none", "client_secret_basic", "client_secret_post"] {
        let app = register_app(&node, method).await;
        assert_eq!(app.secret.is_empty(), method == "none");
        let is_stored = async || {
            let limit = 10;
            let stored = node.state.sql.dynamic_clients(limit).await.unwrap();
            stored.iter().any(|client| client.client_id == app.id)
        };
        assert!(!is_stored().await, "nothing is stored before the consent");
        let code = authorize_with_consent(&node, &browser, &app.id).await;
        assert!(is_stored().await);
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        let tokens = match method {
            "client_secret_basic" => exchange(&other_node, &app, &code).await,
            _ => token_by_post(&other_node, &app, &form).await,
        };
        let tokens = tokens.expect(200).json();
        assert_eq!(claims(text(&tokens, "access_token"))["client_id"], app.id.as_str());
        assert_eq!(claims(text(&tokens, "id_token"))["aud"], app.id.as_str());
        // With a wrong secret or by another method, the client is refused.
        let refresh_token = text(&tokens, "refresh_token");
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        let with_wrong_secret = ServiceClient { secret: "lk_cs_wrong".to_owned(), ..app.clone() };
        assert_eq!(error_of(&token_by_post(&node, &with_wrong_secret, &form).await), invalid_client(), "{method}");
        if method == "client_secret_basic" {
            assert_eq!(error_of(&token_by_post(&node, &app, &form).await), invalid_client());
            let without_secret = ServiceClient { secret: String::new(), ..app.clone() };
            assert_eq!(error_of(&refresh(&node, &without_secret, refresh_token).await), invalid_client());
            refresh(&node, &app, refresh_token).await.expect(200);
        } else {
            token_by_post(&node, &app, &form).await.expect(200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_metadata_is_refused_with_an_error_code_of_rfc_7591() {
    let cluster = cluster();
    let node = cluster.node().await;
    let (invalid_uri, invalid_metadata) = ("invalid_redirect_uri", "invalid_client_metadata");
    let long_uris: Vec<_> = (0..9).map(|n| format!("https://app.example.com/{n}/{}", "x".repeat(300))).collect();
    for (change, error) in [
        (json!({ "redirect_uris": null }), invalid_uri),
        (json!({ "redirect_uris": [] }), invalid_uri),
        (json!({ "redirect_uris": ["http://app.example.com/cb"] }), invalid_uri),
        (json!({ "redirect_uris": ["javascript:alert(1)"] }), invalid_uri),
        (json!({ "redirect_uris": ["https://app.example.com/cb#x"] }), invalid_uri),
        // only an app without a secret may have a scheme of its own
        (
            json!({ "redirect_uris": ["com.example.app:/cb"], "token_endpoint_auth_method": "client_secret_post" }),
            invalid_uri,
        ),
        (json!({ "post_logout_redirect_uris": "https://app.example.com/" }), invalid_uri),
        (json!({ "token_endpoint_auth_method": "tls_client_auth" }), invalid_metadata),
        (json!({ "token_endpoint_auth_method": "private_key_jwt" }), invalid_metadata),
        (json!({ "token_endpoint_auth_method": "private_key_jwt", "jwks": { "keys": [] } }), invalid_metadata),
        (json!({ "grant_types": ["client_credentials"] }), invalid_metadata),
        (json!({ "response_types": ["token"] }), invalid_metadata),
        (json!({ "scope": "a \"b\"" }), invalid_metadata),
        (json!({ "client_name": 1 }), invalid_metadata),
        // registrations of more than 2 kB
        (json!({ "client_name": "x".repeat(2000) }), invalid_metadata),
        (json!({ "redirect_uris": long_uris }), invalid_metadata),
    ] {
        let mut members = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none" });
        members.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(error_of(&register(&node, members).await), (400, error.to_owned()), "{change}");
    }
    for (content_type, body) in [
        ("application/json", "[]"),
        ("application/json", "{"),
        ("application/json", r#"{"redirect_uris":[],"redirect_uris":["https://app.example.com/"]}"#),
        ("application/x-www-form-urlencoded", "redirect_uris=https://app.example.com/"),
    ] {
        let request = node.request(Method::POST, "/oauth2/register").header("content-type", content_type);
        assert_eq!(error_of(&node.send(request.body(body)).await), (400, invalid_metadata.to_owned()), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_or_changed_client_id_is_unknown() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let browser = Browser::signed_in(&node, "ada").await;
    let app = register_app(&node, "none").await;
    // A client id consists of the app's metadata and a MAC of 22 characters.
    let (content, mac) = app.id.rsplit_once('.').unwrap();
    for id in [
        content.to_owned(),
        format!("{content}."),
        format!("{content}A.{mac}"),
        format!("{content}.{}", "A".repeat(22)),
    ] {
        let answer = browser.authorize(&node, &Request::for_client(&id)).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text.contains("names no client"), "{answer:?}");
        let unknown = ServiceClient { id, secret: String::new() };
        assert_eq!(error_of(&refresh(&node, &unknown, "lk_rt_x").await), invalid_client());
    }
    // Another redirect URI than the registered one is refused on a page.
    let request = Request::for_client(&app.id).with("redirect_uri", "https://evil.example/callback");
    let answer = browser.authorize(&node, &request).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("location"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn registration_is_rate_limited_and_its_clients_end_with_the_setting() {
    let mut cluster = cluster();
    cluster.config.limits.client_registration_per_address = Some(Quota { count: 2, window: Duration::from_hours(1) });
    let node = cluster.node().await;
    node.register("ada").await;
    let browser = Browser::signed_in(&node, "ada").await;
    let metadata = node.get_anonymously("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata["registration_endpoint"], format!("{}/oauth2/register", cluster.config.issuer));
    let app = register_app(&node, "none").await;
    let code = authorize_with_consent(&node, &browser, &app.id).await;
    let tokens = exchange(&node, &app, &code).await.expect(200).json();
    // The quota is two registrations, of which `app` was the first.
    register(&node, json!({ "redirect_uris": [CALLBACK] })).await.expect(201);
    assert_eq!(register(&node, json!({ "redirect_uris": [CALLBACK] })).await.status, 429);
    node.stop().await;
    // without the setting, nobody can register, and the registered app is unknown
    cluster.config.dynamic_clients.registration = false;
    let node = cluster.node().await;
    assert_eq!(register(&node, json!({ "redirect_uris": [CALLBACK] })).await.status, 404);
    let refused = refresh(&node, &app, text(&tokens, "refresh_token")).await;
    assert_eq!(error_of(&refused), invalid_client());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn app_stays_registered_while_the_secret_of_the_service_is_rotated() {
    let mut cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let app = register_app(&node, "client_secret_basic").await;
    node.stop().await;
    let secrets = &mut cluster.config.secrets;
    secrets.previous = vec![secrets.current.clone()];
    secrets.current = SecretText::from("another secret that is long enough");
    let node = cluster.node().await;
    let browser = Browser::signed_in(&node, "ada").await;
    let code = authorize_with_consent(&node, &browser, &app.id).await;
    exchange(&node, &app, &code).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_redirect_uris_can_be_limited() {
    let mut cluster = cluster();
    cluster.config.dynamic_clients.allowed_hosts = vec!["app.example.com".to_owned()];
    let node = cluster.node().await;
    register_app(&node, "none").await;
    // The setting limits the hosts of https redirect URIs only.
    register(&node, json!({ "redirect_uris": ["http://127.0.0.1/cb"] })).await.expect(201);
    let refused = register(&node, json!({ "redirect_uris": [CALLBACK, "https://evil.example/cb"] })).await;
    assert_eq!(error_of(&refused), (400, "invalid_redirect_uri".to_owned()));
}
