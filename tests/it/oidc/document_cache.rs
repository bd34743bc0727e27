//! The cache of client ID metadata documents: when a node fetches an app's document, and when it fetches the document again.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    dynamic_clients::{
        PATH, callback_parameters, cluster, exchange, expect_refusal_page, node_with_browser, refresh, request,
        sign_in, token_as,
    },
    error_of, page_and_handle, token,
};
use crate::harness::{document_server::Reply, test_cluster::ServiceClient};

#[tokio::test(flavor = "multi_thread")]
async fn changed_document_takes_effect_during_a_sign_in_once_it_is_fetched_again() {
    let (cluster, server) = cluster().await;
    let (node, browser) = node_with_browser(&cluster).await;
    let client_id = server.app(PATH, &[]);
    // Between the request and the consent: the document loses the redirect URI.
    let answer = browser.authorize(&node, &request(&server, &client_id)).await;
    let (_, handle) = page_and_handle(&node, &answer);
    server.app(PATH, &[("redirect_uris", json!([server.url("/other")]))]);
    // The node still uses the cached document. Without a `Cache-Control`, it does so for an hour.
    browser.get(&node, &format!("/oauth2/authorize?request={handle}")).await.expect(303);
    cluster.advance(Duration::from_mins(61));
    let with_new_uri = request(&server, &client_id).with("redirect_uri", &server.url("/other"));
    let answer = browser.authorize(&node, &with_new_uri).await;
    let (_, handle) = page_and_handle(&node, &answer);
    let with_former_uri = browser.authorize(&node, &request(&server, &client_id)).await;
    assert!(expect_refusal_page(&with_former_uri).contains("not registered for the client"));
    let answer = browser.get(&node, &format!("/oauth2/authorize?request={handle}")).await;
    assert_eq!(page_and_handle(&node, &answer).0, "/account/consent");
    // Between the code and the token: the app now authenticates with a key, which a thief of the code does not have.
    server.app(PATH, &[]);
    cluster.advance(Duration::from_mins(61));
    let tokens = sign_in(&node, &browser, &server, &client_id).await;
    let answer = browser.authorize(&node, &request(&server, &client_id)).await;
    let code = callback_parameters(&server, &answer).remove("code").unwrap();
    let key: Value = serde_json::from_str(PUBLIC_KEY).unwrap();
    let jwks = json!({ "keys": [key] });
    server.app(PATH, &[("token_endpoint_auth_method", json!("private_key_jwt")), ("jwks", jwks)]);
    // a node that has not cached the former document
    let other_node = cluster.node().await;
    assert_eq!(error_of(&exchange(&other_node, &server, &client_id, &code).await), (401, "invalid_client".to_owned()));
    assert_eq!(error_of(&refresh(&other_node, &client_id, &tokens).await), (401, "invalid_client".to_owned()));
}

/// A P-256 public key.
const PUBLIC_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"84rkm03SNtz-8SfQKfqlYCibjywbYmxhajaOnXrAjaQ","y":"VH8u-J3Vf_THE5qPKPBBr3uvhJ_NaNAhubD_G0nS55E"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn document_is_fetched_once_for_concurrent_requests_and_again_after_it_expires() {
    let (cluster, server) = cluster().await;
    let (node, browser) = node_with_browser(&cluster).await;
    let client_id = server.app(PATH, &[]);
    let concurrent = (0..16).map(|_| {
        let (browser, node, request) = (browser.clone(), &node, request(&server, &client_id));
        async move { browser.authorize(node, &request).await.status }
    });
    let statuses = futures_util::future::join_all(concurrent).await;
    assert!(statuses.iter().all(|status| *status == 303), "{statuses:?}");
    assert_eq!(server.requests(PATH), 1);
    // The response says how long it may be cached. The service limits that to between a minute and a day.
    // `expired_at` is the first second at which the document has expired.
    for (directive, expired_at) in
        [("max-age=1", 61), ("max-age=600", 601), ("no-store", 61), ("max-age=99999999", 86_401)]
    {
        let document = json!({ "client_id": client_id, "redirect_uris": [server.url("/callback")] }).to_string();
        let cache_control = format!("Cache-Control: {directive}");
        server
            .set(PATH, Reply::with("200 OK", &["Content-Type: application/json", &cache_control], document.as_bytes()));
        // longer than a node uses any document
        cluster.advance(Duration::from_hours(25));
        let fetches_before = server.requests(PATH);
        // seconds to advance, and the fetches so far
        for (seconds, fetched) in [(0, 1), (expired_at - 2, 1), (2, 2)] {
            cluster.advance(Duration::from_secs(seconds));
            browser.authorize(&node, &request(&server, &client_id)).await.expect(303);
            assert_eq!(server.requests(PATH) - fetches_before, fetched, "{directive}");
        }
    }
    // A failure is cached for ten seconds: seconds to advance, and the fetches so far.
    let broken = server.url("/broken");
    for (seconds, fetched) in [(0, 1), (9, 1), (2, 2)] {
        cluster.advance(Duration::from_secs(seconds));
        let answer = browser.authorize(&node, &request(&server, &broken)).await;
        expect_refusal_page(&answer);
        assert_eq!(server.requests("/broken"), fetched);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_other_than_authorize_fetch_nothing_for_strangers() {
    let (cluster, server) = cluster().await;
    let (node, _) = node_with_browser(&cluster).await;
    let client_id = server.app(PATH, &[]);
    let invalid_token = "lk_rt_x";
    let form = [("grant_type", "refresh_token"), ("refresh_token", invalid_token)];
    assert_eq!(error_of(&token_as(&node, &client_id, &form).await), (401, "invalid_client".to_owned()));
    let with_secret = ServiceClient { id: client_id.clone(), secret: "x".to_owned() };
    assert_eq!(error_of(&token(&node, &with_secret, &form).await), (401, "invalid_client".to_owned()));
    // other tests check what the next two endpoints answer
    let revocation = [("token", invalid_token), ("client_id", client_id.as_str())];
    node.send(node.request(Method::POST, "/oauth2/revoke").form(&revocation)).await;
    let encoded_id: String = url::form_urlencoded::byte_serialize(client_id.as_bytes()).collect();
    let logout = format!("/oauth2/logout?client_id={encoded_id}&post_logout_redirect_uri=https%3A%2F%2Fx.example");
    node.get_anonymously(&logout).await;
    assert_eq!(server.requests(PATH), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_survive_a_host_that_does_not_answer_and_end_with_its_document() {
    let (cluster, server) = cluster().await;
    let (node, browser) = node_with_browser(&cluster).await;
    let client_id = server.app(PATH, &[]);
    let tokens = sign_in(&node, &browser, &server, &client_id).await;
    server.set(PATH, Reply::with("503 Service Unavailable", &[], b""));
    // longer than a node uses the document before it fetches it again
    cluster.advance(Duration::from_hours(2));
    let tokens = refresh(&node, &client_id, &tokens).await.expect(200).json();
    assert_eq!(server.requests(PATH), 2, "one fetch by the sign-in, and one by the refresh");
    // A new sign-in needs the document.
    let answer = browser.authorize(&node, &request(&server, &client_id)).await;
    expect_refusal_page(&answer);
    // Unlike a 503, a 410 says that there is no document any more. The node caches each failure for ten seconds.
    server.set(PATH, Reply::with("410 Gone", &[], b""));
    cluster.advance(Duration::from_secs(11));
    assert_eq!(error_of(&refresh(&node, &client_id, &tokens).await), (401, "invalid_client".to_owned()));
    server.app(PATH, &[]);
    cluster.advance(Duration::from_secs(11));
    let tokens = refresh(&node, &client_id, &tokens).await.expect(200).json();
    server.set(PATH, Reply::with("503 Service Unavailable", &[], b""));
    // A document is used for at most seven days while its host does not answer.
    cluster.advance(Duration::from_hours(8 * 24));
    assert_eq!(error_of(&refresh(&node, &client_id, &tokens).await), (401, "invalid_client".to_owned()), "too stale");
    node.stop().await;
}
