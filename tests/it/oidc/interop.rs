//! Unmodified client libraries sign a user in: discovery, PKCE, ID token, userinfo, refresh.

use latchkey::domain::clock::Clock;
use openidconnect::{
    AccessTokenHash, AsyncHttpClient, AuthorizationCode, ClientId, ClientSecret, CsrfToken, HttpRequest, HttpResponse,
    IssuerUrl, Nonce, OAuth2TokenResponse, PkceCodeChallenge, RedirectUrl, Scope, TokenResponse,
    core::{CoreAuthenticationFlow, CoreClient, CoreProviderMetadata, CoreUserInfoClaims},
};
use serde_json::json;
use url::Url;

use super::{Browser, CALLBACK, public, web};
use crate::{
    harness::test_cluster::{Node, ServiceClient, TestCluster},
    interop::run_program,
};

/// A node whose issuer is its own address, with the app `shop`, the app `spa` without a secret, and a browser that has signed in as `ada`.
/// Nothing listens at the redirect URI of the apps: the tests and programs read the redirect.
async fn provider() -> (TestCluster, Node, ServiceClient, Browser) {
    let mut cluster = TestCluster::new();
    // the client libraries compare times in tokens with the system clock
    cluster.clock = Clock::System;
    let node = cluster.node_at_issuer().await;
    node.register("ada").await;
    let shop = cluster.service_client_with(web("shop")).await;
    cluster.service_client_with(public("spa")).await;
    let browser = Browser::signed_in(&node, "ada").await;
    (cluster, node, shop, browser)
}

/// Runs a program of `tests/interop`. With a client library, the program signs `ada` in to both apps, in the browser of `provider`.
async fn sign_in_with(program: &'static str) {
    let (cluster, node, shop, browser) = provider().await;
    let (account, _) = browser.session.unwrap();
    let settings = json!({
        "issuer": cluster.config.issuer,
        "client_secret": shop.secret,
        "redirect_uri": CALLBACK,
        "bye": "https://app.example.com/bye",
        "subject": account.to_string(),
        "cookie": browser.cookie,
    });
    run_program(program, settings).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_signs_in() {
    sign_in_with("oidc_openid_client.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth4webapi_signs_in() {
    sign_in_with("oidc_oauth4webapi.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib_signs_in() {
    sign_in_with("oidc_authlib.py").await;
}

/// An HTTP client for the crate `openidconnect`, which is built without one here.
async fn send(request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let (parts, body) = request.into_parts();
    let sent = client.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body).send().await?;
    let (status, headers) = (sent.status(), sent.headers().clone());
    let mut response = HttpResponse::new(sent.bytes().await?.to_vec());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

#[tokio::test(flavor = "multi_thread")]
async fn openidconnect_crate_signs_in() {
    let (cluster, node, shop, browser) = provider().await;
    let http = &send;
    // Fails to compile if `send` is no HTTP client for the crate.
    fn assert_client<'a>(_: &impl AsyncHttpClient<'a>) {}
    assert_client(http);
    let issuer = IssuerUrl::new(cluster.config.issuer.clone()).unwrap();
    let metadata = CoreProviderMetadata::discover_async(issuer, http).await.unwrap();
    let app = CoreClient::from_provider_metadata(
        metadata,
        ClientId::new(shop.id.clone()),
        Some(ClientSecret::new(shop.secret.clone())),
    )
    .set_redirect_uri(RedirectUrl::new(CALLBACK.to_owned()).unwrap());
    let (pkce_challenge, pkce_verifier) = PkceCodeChallenge::new_random_sha256();
    let (url, state, nonce) = app
        .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
        .add_scope(Scope::new("email".to_owned()))
        .add_scope(Scope::new("profile".to_owned()))
        .set_pkce_challenge(pkce_challenge)
        .url();
    // the session of the browser needs no further step, so the node redirects to the app at once
    let path = url.as_str().strip_prefix(&node.base).unwrap();
    let answer = browser.get(&node, path).await.expect(303);
    let callback = Url::parse(answer.header("location")).unwrap();
    let parameter = |name: &str| callback.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    assert_eq!(&parameter("state"), state.secret());
    let code = AuthorizationCode::new(parameter("code"));
    let exchange = app.exchange_code(code).unwrap().set_pkce_verifier(pkce_verifier);
    let tokens = exchange.request_async(http).await.unwrap();
    let id_token = tokens.id_token().unwrap();
    let id_token_verifier = app.id_token_verifier();
    let claims = id_token.claims(&id_token_verifier, &nonce).unwrap();
    assert_eq!(claims.email().unwrap().as_str(), "ada@example.com");
    let hash = AccessTokenHash::from_token(
        tokens.access_token(),
        id_token.signing_alg().unwrap(),
        id_token.signing_key(&id_token_verifier).unwrap(),
    );
    assert_eq!(hash.unwrap(), *claims.access_token_hash().unwrap());
    let subject = Some(claims.subject().clone());
    let user: CoreUserInfoClaims =
        app.user_info(tokens.access_token().clone(), subject).unwrap().request_async(http).await.unwrap();
    assert_eq!(user.preferred_username().unwrap().as_str(), "ada");
    let refreshed =
        app.exchange_refresh_token(tokens.refresh_token().unwrap()).unwrap().request_async(http).await.unwrap();
    assert!(refreshed.id_token().is_some());
}
