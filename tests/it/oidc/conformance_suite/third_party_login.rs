//! The test modules of the profile 3rd Party-Init OP of the OpenID Foundation's conformance suite. The suite registers its app dynamically (RFC 7591).

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    super::{Browser, CALLBACK, Request, error_of, page_and_handle, response_of, text},
    Node, TestCluster,
};
use crate::harness::client::Answer;

/// A node with the account ada, where apps can register themselves. The node needs the cluster, which owns its Redis.
async fn provider() -> (TestCluster, Node) {
    let mut cluster = TestCluster::new();
    cluster.config.dynamic_clients.registration = true;
    let node = cluster.node().await;
    node.register("ada").await;
    (cluster, node)
}

/// Registers an app whose sign-ins start at `initiate_login_uri`.
async fn register(node: &Node, initiate_login_uri: &str) -> Answer {
    let metadata = json!({
        "redirect_uris": [CALLBACK],
        "initiate_login_uri": initiate_login_uri,
        "token_endpoint_auth_method": "client_secret_basic",
    });
    node.send(node.request(Method::POST, "/oauth2/register").json(&metadata)).await
}

/// The provider sends the user to the app's `initiate_login_uri` with the provider's issuer, and the app starts a sign-in there.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_3rd_party_init_login() {
    let (_cluster, node) = provider().await;
    let registered = register(&node, "https://app.example.com/start").await.expect(201).json();
    assert_eq!(registered["initiate_login_uri"], "https://app.example.com/start");
    let app = text(&registered, "client_id");
    let browser = Browser::signed_in(&node, "ada").await;
    let (page, handle) = page_and_handle(&node, &browser.authorize(&node, &Request::for_client(app)).await);
    assert_eq!(page, "/account/consent");
    // The account page then lists the app, with a link that opens it.
    browser.consent(&node, &handle).await;
    let tokens = node.login("ada").await;
    let listed = node.get("/v1/me/consents", &tokens.access).await.expect(200).json();
    let open_url = url::Url::parse(text(&listed["apps"][0], "open_url")).unwrap();
    assert!(open_url.as_str().starts_with("https://app.example.com/start?"), "{open_url}");
    let (_, issuer) = open_url.query_pairs().find(|(name, _)| name == "iss").unwrap();
    assert_eq!(issuer, node.state.config.issuer);
    // The app sends the browser to that issuer, where the user is signed in and has consented.
    let metadata: Value = node.get_anonymously("/.well-known/openid-configuration").await.expect(200).json();
    assert_eq!(metadata["issuer"], *issuer);
    let answer = browser.authorize(&node, &Request::for_client(app)).await;
    assert!(response_of(&answer).contains_key("code"));
}

/// A registration whose `initiate_login_uri` is not https is an error.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_3rd_party_init_login_nohttps() {
    let (_cluster, node) = provider().await;
    let refused = register(&node, "http://app.example.com/start").await;
    assert_eq!(error_of(&refused), (400, "invalid_client_metadata".to_owned()));
}
