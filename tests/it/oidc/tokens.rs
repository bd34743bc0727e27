//! The tokens of apps (ID tokens, access tokens, refresh tokens), and the userinfo endpoint.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use latchkey::{
    domain::{
        app_client::{AppSettings, ClientAuthMethod},
        key::Algorithm,
    },
    service::clients::NewClient,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Browser, Request, claims, error_of, exchange, node_with_ada_and_shop, public, refresh, sign_in, text, token, web,
};
use crate::harness::{
    client::Answer,
    test_cluster::{ServiceClient, TestCluster},
};

#[tokio::test(flavor = "multi_thread")]
async fn id_token_has_the_claims_of_openid_connect_core() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        let mut cluster = TestCluster::new();
        cluster.config.keys.algorithm = algorithm;
        let (node, shop) = node_with_ada_and_shop(&cluster).await;
        let browser = Browser::signed_in(&node, "ada").await;
        let signed_in_at = node.state.clock.now().as_secs();
        // the time of issue differs from the time of the authentication
        cluster.advance(Duration::from_secs(100));
        let tokens = sign_in(&node, &browser, &shop, "openid profile email").await;
        let id_claims = claims(text(&tokens, "id_token"));
        let access_claims = claims(text(&tokens, "access_token"));
        let now = node.state.clock.now().as_secs();
        assert_eq!(id_claims["iss"], "https://auth.example.com");
        assert_eq!(id_claims["aud"], "shop");
        assert_eq!(id_claims["sub"], access_claims["sub"]);
        assert_eq!(id_claims["sid"], access_claims["sid"]);
        assert_eq!(id_claims["iat"], now);
        assert_eq!(id_claims["exp"], access_claims["exp"]);
        assert_eq!(id_claims["auth_time"], signed_in_at);
        assert_eq!(id_claims["acr"], "aal1");
        assert_eq!(id_claims["amr"], json!(["pwd"]));
        // from `Request::for_client`
        assert_eq!(id_claims["nonce"], "a nonce");
        assert_eq!(id_claims["email"], "ada@example.com");
        assert_eq!(id_claims["preferred_username"], "ada");
        let header = text(&tokens, "id_token").split('.').next().unwrap();
        let header = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header["typ"], "JWT");
        assert_eq!(header["alg"], algorithm.as_str());
        // half of a hash in base64url: 32 bytes of SHA-512 for EdDSA, 16 bytes of SHA-256 for the others
        let hash_length = if algorithm == Algorithm::EdDsa { 43 } else { 22 };
        assert_eq!(text(&id_claims, "at_hash").len(), hash_length);
        let metadata = node.get_anonymously("/.well-known/openid-configuration").await.json();
        assert_eq!(metadata["id_token_signing_alg_values_supported"], json!([algorithm.as_str()]));
        node.stop().await;
    }
}

/// RFC 6750, section 2: a client sends the token in one way per request.
#[tokio::test(flavor = "multi_thread")]
async fn userinfo_takes_the_token_from_a_form_and_from_one_place_only() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid email").await;
    let access = text(&tokens, "access_token");
    let post = || node.request(Method::POST, "/oauth2/userinfo");
    let claims = node.send(post().form(&[("access_token", access)])).await.expect(200).json();
    assert_eq!(claims["email"], "ada@example.com");
    // The header's token suffices: the form has no token, and the other body is not a form.
    node.send(post().bearer_auth(access).form(&[("a", "b")])).await.expect(200);
    node.send(post().bearer_auth(access).json(&json!({ "access_token": "x" }))).await.expect(200);
    // the token in the header and the form, and twice in the form
    for refused in [
        post().bearer_auth(access).form(&[("access_token", access)]),
        post().form(&[("access_token", access), ("access_token", access)]),
    ] {
        assert_eq!(node.send(refused).await.problem(), (400, "malformed_request".to_owned()));
    }
    // a token in JSON is not read
    for missing in [post(), post().form(&[("a", "b")]), post().json(&json!({ "access_token": access }))] {
        let answer = node.send(missing).await.expect(401);
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
    }
    let wrong_token = post().form(&[("access_token", "x")]);
    node.send(wrong_token).await.expect(401);
    // A token in the query is not accepted: logs would keep it.
    node.get_anonymously(&format!("/oauth2/userinfo?access_token={access}")).await.expect(401);
}

/// An app without a server calls the userinfo endpoint from its own origin (CORS).
#[tokio::test(flavor = "multi_thread")]
async fn userinfo_is_read_by_pages_of_allowed_origins_only() {
    let mut cluster = TestCluster::new();
    cluster.config.http.allowed_origins = vec!["https://spa.example.com".to_owned()];
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid").await;
    for (origin, is_allowed) in [("https://spa.example.com", true), ("https://evil.example", false)] {
        // a refused origin gets no such header
        let expected = if is_allowed { origin } else { "" };
        let preflight = node.request(Method::OPTIONS, "/oauth2/userinfo").header("origin", origin);
        let preflight = preflight.header("access-control-request-method", "GET");
        let preflight = preflight.header("access-control-request-headers", "authorization");
        let answer = node.send(preflight).await;
        assert_eq!(answer.header("access-control-allow-origin"), expected);
        let request = node.request(Method::GET, "/oauth2/userinfo").bearer_auth(text(&tokens, "access_token"));
        let answer = node.send(request.header("origin", origin)).await.expect(200);
        assert_eq!(answer.header("access-control-allow-origin"), expected);
        assert_eq!(answer.header("access-control-allow-credentials"), "", "pages may not send cookies");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn userinfo_has_the_claims_that_the_scopes_allow() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let userinfo_for = async |scope: &str| {
        let tokens = sign_in(&node, &browser, &shop, scope).await;
        assert_eq!(tokens["scope"], scope);
        node.get("/oauth2/userinfo", text(&tokens, "access_token")).await
    };
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let openid_claims = userinfo_for("openid").await.expect(200).json();
    assert_eq!(fields(&openid_claims), ["sub"]);
    let email_claims = userinfo_for("openid email").await.expect(200).json();
    assert_eq!(email_claims["email"], "ada@example.com");
    assert_eq!(email_claims["email_verified"], false);
    let all_claims = userinfo_for("openid profile email").await.expect(200).json();
    assert_eq!(fields(&all_claims), ["email", "email_verified", "name", "preferred_username", "sub", "updated_at"]);
    let without_openid = userinfo_for("profile").await;
    assert_eq!(without_openid.problem(), (403, "insufficient_scope".to_owned()));
    let tokens = sign_in(&node, &browser, &shop, "openid").await;
    let post = node.request(Method::POST, "/oauth2/userinfo").bearer_auth(text(&tokens, "access_token"));
    let answer = node.send(post).await.expect(200);
    assert_eq!(answer.text_of("sub"), claims(text(&tokens, "id_token"))["sub"]);
    for refused in [text(&tokens, "id_token"), "x", text(&tokens, "refresh_token")] {
        assert_eq!(node.get("/oauth2/userinfo", refused).await.problem(), (401, "invalid_token".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn access_token_of_app_does_not_open_the_account() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid profile email offline_access").await;
    let access = text(&tokens, "access_token");
    assert_eq!(claims(access)["aud"], "https://auth.example.com");
    for path in ["/v1/me", "/v1/sessions", "/v1/verify", "/v1/me/consents"] {
        assert_eq!(node.get(path, access).await.problem(), (401, "invalid_token".to_owned()), "{path}");
    }
    // A token for Latchkey's own audience is refused without the scope of its API.
    let audiences = vec!["latchkey".to_owned()];
    let trusted = cluster.service_client_with(NewClient { audiences, ..web("insider") }).await;
    let tokens = sign_in(&node, &browser, &trusted, "openid").await;
    let access = text(&tokens, "access_token");
    assert_eq!(claims(access)["aud"], json!(["latchkey", "https://auth.example.com"]));
    assert_eq!(node.get("/v1/me", access).await.problem(), (403, "insufficient_scope".to_owned()));
    node.get("/oauth2/userinfo", access).await.expect(200);
    // The first-party API does not accept the refresh token of an app.
    node.refresh(text(&tokens, "refresh_token")).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_for_fewer_scopes_returns_all_scopes_of_the_session() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid email").await;
    let form = |scope: &'static str| {
        [("grant_type", "refresh_token"), ("refresh_token", text(&tokens, "refresh_token")), ("scope", scope)]
    };
    let refused = token(&node, &shop, &form("openid admin")).await;
    assert_eq!(error_of(&refused), (400, "invalid_scope".to_owned()));
    let refreshed = token(&node, &shop, &form("openid")).await.expect(200).json();
    assert_eq!(tokens["scope"], "openid email");
    assert_eq!(refreshed["scope"], "openid email");
    let former_access = claims(text(&tokens, "access_token"));
    let current_access = claims(text(&refreshed, "access_token"));
    assert_eq!(current_access["scope"], former_access["scope"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_requires_the_client_of_the_session() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let other = cluster.service_client_with(web("other")).await;
    let mut spa = cluster.service_client_with(public("spa")).await;
    // a public client authenticates without a secret
    spa.secret.clear();
    let service = cluster.service_client("api").await;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid").await;
    let first = text(&tokens, "refresh_token").to_owned();
    let invalid = (400, "invalid_grant".to_owned());
    for client in [&other, &spa, &service] {
        assert_eq!(error_of(&refresh(&node, client, &first).await), invalid, "{}", client.id);
    }
    let form = [("grant_type", "refresh_token"), ("refresh_token", &first)];
    let without_client = node.send(node.request(Method::POST, "/oauth2/token").form(&form)).await;
    assert_eq!(error_of(&without_client), invalid);
    let with_client_id = [("grant_type", "refresh_token"), ("refresh_token", first.as_str()), ("client_id", "shop")];
    let without_secret = node.send(node.request(Method::POST, "/oauth2/token").form(&with_client_id)).await;
    assert_eq!(error_of(&without_secret), (401, "invalid_client".to_owned()));
    // The refused requests have neither rotated the token nor ended the session.
    let second = refresh(&node, &shop, &first).await.expect(200).json();
    assert_ne!(second["refresh_token"], first);
    let id = claims(text(&second, "id_token"));
    assert_eq!(id["sid"], claims(text(&tokens, "id_token"))["sid"]);
    assert_eq!(id["nonce"], Value::Null, "only the ID token of the sign-in has the nonce");
    // An app can't refresh a session of the first-party client.
    let login_tokens = node.login("ada").await;
    assert_eq!(error_of(&refresh(&node, &shop, &login_tokens.refresh).await), invalid);
    node.refresh(&login_tokens.refresh).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn resource_indicators_limit_the_audience() {
    let cluster = TestCluster::new();
    let (node, _) = node_with_ada_and_shop(&cluster).await;
    let (orders, stock) = ("https://orders.example.com", "https://stock.example.com");
    let audiences = vec![orders.to_owned(), stock.to_owned()];
    let scopes = ["openid", "read"].map(str::to_owned).to_vec();
    let client = cluster.service_client_with(NewClient { audiences, scopes, ..web("desk") }).await;
    // the API at `orders`: it introspects tokens
    let audiences = vec![orders.to_owned()];
    let api =
        cluster.service_client_with(NewClient { name: "orders".to_owned(), audiences, ..NewClient::default() }).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let request = Request::for_client("desk").with("scope", "read");
    // `request` goes to the authorization endpoint, `resource` to the token endpoint
    let sign_in_for = async |request: &Request, resource: Option<&str>| {
        let code = browser.code(&node, request).await;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", super::CALLBACK),
            ("code_verifier", super::VERIFIER),
        ];
        form.extend(resource.map(|resource| ("resource", resource)));
        token(&node, &client, &form).await
    };
    let aud = |answer: Answer| claims(&answer.expect(200).text_of("access_token"))["aud"].clone();
    let for_orders = request.with_another("resource", orders);
    assert_eq!(aud(sign_in_for(&request, None).await), json!([orders, stock]));
    assert_eq!(aud(sign_in_for(&for_orders, None).await), json!(orders));
    assert_eq!(aud(sign_in_for(&request, Some(stock)).await), json!(stock));
    // With the scope `openid`, the issuer is an audience too: the token opens the userinfo endpoint.
    let both = for_orders.with_another("resource", stock).with("scope", "openid read");
    assert_eq!(aud(sign_in_for(&both, Some(orders)).await), json!([orders, "https://auth.example.com"]));
    // the request named another resource
    let refused = sign_in_for(&for_orders, Some(stock)).await;
    assert_eq!(error_of(&refused), (400, "invalid_target".to_owned()));
    // An API introspects only the tokens that have it as an audience.
    let code = browser.code(&node, &for_orders).await;
    let tokens = exchange(&node, &client, &code).await.expect(200).json();
    let introspect = async |token: &str| {
        let call = node.request(Method::POST, "/oauth2/introspect").form(&[("token", token)]);
        node.send(call.basic_auth(&api.id, Some(&api.secret))).await.expect(200).json()
    };
    let found = introspect(text(&tokens, "access_token")).await;
    assert_eq!(found["active"], true);
    assert_eq!(found["client_id"], "desk");
    assert_eq!(found["scope"], "read");
    let form =
        [("grant_type", "refresh_token"), ("refresh_token", text(&tokens, "refresh_token")), ("resource", stock)];
    let refused = token(&node, &client, &form).await;
    assert_eq!(refused.text_of("error"), "invalid_target");
    // Although refused, the request has superseded the token. A repeat of this token is answered with the current one.
    let repeated = refresh(&node, &client, text(&tokens, "refresh_token")).await.expect(200).json();
    refresh(&node, &client, text(&repeated, "refresh_token")).await.expect(200);
    let code = browser.code(&node, &request.with_another("resource", stock)).await;
    let tokens = exchange(&node, &client, &code).await.expect(200).json();
    assert_eq!(introspect(text(&tokens, "access_token")).await, json!({ "active": false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn app_revokes_its_own_tokens_only_and_introspects_none() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let other = cluster.service_client_with(web("other")).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid").await;
    let call = async |path: &str, client: &ServiceClient, token: &str| {
        let request = node.request(Method::POST, path).form(&[("token", token)]);
        node.send(request.basic_auth(&client.id, Some(&client.secret))).await.expect(200)
    };
    let (access, refresh_token) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
    for token in [access, refresh_token] {
        assert_eq!(call("/oauth2/introspect", &shop, token).await.json(), json!({ "active": false }));
        call("/oauth2/revoke", &other, token).await;
    }
    // the app `other` has revoked nothing
    let tokens = refresh(&node, &shop, refresh_token).await.expect(200).json();
    call("/oauth2/revoke", &shop, text(&tokens, "refresh_token")).await;
    refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(400);
    node.get("/oauth2/userinfo", text(&tokens, "access_token")).await.expect(401);
    // An app is not a service client.
    let feed = node.request(Method::GET, "/v1/revocations").basic_auth(&shop.id, Some(&shop.secret));
    assert_eq!(node.send(feed).await.problem(), (401, "invalid_client".to_owned()));
    let form = [("grant_type", "client_credentials")];
    assert_eq!(error_of(&token(&node, &shop, &form).await), (400, "unauthorized_client".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_among_the_audiences_of_a_client_is_named_once_in_aud() {
    let cluster = TestCluster::new();
    let (node, _) = node_with_ada_and_shop(&cluster).await;
    let (issuer, orders) = ("https://auth.example.com", "https://orders.example.com");
    let audiences = vec![issuer.to_owned(), orders.to_owned()];
    let scopes = ["openid", "read"].map(str::to_owned).to_vec();
    let client = cluster.service_client_with(NewClient { audiences, scopes, ..web("desk") }).await;
    let browser = Browser::signed_in(&node, "ada").await;
    for scope in ["openid read", "read"] {
        let tokens = sign_in(&node, &browser, &client, scope).await;
        assert_eq!(claims(text(&tokens, "access_token"))["aud"], json!([issuer, orders]), "{scope}");
    }
}

/// RFC 7009, section 2.1: a client revokes only the tokens that were issued to it.
#[tokio::test(flavor = "multi_thread")]
async fn revoke_of_an_apps_access_token_by_a_service_client_does_nothing() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let service = cluster.service_client("billing").await;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid").await;
    let revoke = async |token: &str| {
        let request = node.request(Method::POST, "/oauth2/revoke").form(&[("token", token)]);
        node.send(request.basic_auth(&service.id, Some(&service.secret))).await.expect(200)
    };
    let answer = revoke(text(&tokens, "access_token")).await;
    assert_eq!(answer.text, "");
    refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(200);
    // A service client does revoke tokens of the REST API.
    let login = node.login("ada").await;
    revoke(&login.refresh).await;
    node.refresh(&login.refresh).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_authenticates_only_by_its_registered_method() {
    let cluster = TestCluster::new();
    let (node, _) = node_with_ada_and_shop(&cluster).await;
    let app = AppSettings { auth_method: Some(ClientAuthMethod::SecretPost), ..web("strict").app };
    let strict = cluster.service_client_with(NewClient { app, ..web("strict") }).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let code = browser.code(&node, &Request::for_client("strict")).await;
    // `exchange` authenticates by HTTP Basic
    let by_basic = exchange(&node, &strict, &code).await;
    assert_eq!(error_of(&by_basic), (401, "invalid_client".to_owned()));
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", super::CALLBACK),
        ("code_verifier", super::VERIFIER),
        ("client_id", "strict"),
        ("client_secret", &strict.secret),
    ];
    node.send(node.request(Method::POST, "/oauth2/token").form(&form)).await.expect(200);
}
