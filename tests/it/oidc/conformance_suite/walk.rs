//! The steps of the modules of the profiles Basic and Form Post, which differ in their response mode. Each function has the name of its
//! module, without the prefix `oidcc-`. The requests of [`Suite::request`] have the state `a state` and the nonce `a nonce`. Where a
//! test compares `auth_time` or `iat`, the clock first advances by two seconds: both are whole seconds, so a change would not show within
//! one. Two seconds also exceed `max_age=1`.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use latchkey::crypto::client_keys::{ClientKeys, to_jwks};
use latchkey_verify::jose::jws::Jws;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    super::{
        Browser, CALLBACK, Request, VERIFIER, claims, error_of, exchange, exchange_with, page_and_handle, refresh,
        text, web,
    },
    Mode, Suite,
};
use crate::harness::client::Answer;

/// A request object without a signature: the header `{"alg":"none"}` and the claims `{}`.
const UNSIGNED_REQUEST_OBJECT: &str = "eyJhbGciOiJub25lIn0.e30.";

/// The claims of the ID token, unverified.
fn id_claims(tokens: &Value) -> Value {
    claims(text(tokens, "id_token"))
}

impl Suite {
    /// Reads a public document of the provider.
    async fn document(&self, path: &str) -> Answer {
        self.node.send(self.node.request(Method::GET, path)).await.expect(200)
    }

    async fn userinfo(&self, tokens: &Value) -> Value {
        self.node.get("/oauth2/userinfo", text(tokens, "access_token")).await.expect(200).json()
    }

    async fn userinfo_of_scope(&self, scope: &str) -> Value {
        let tokens = self.tokens(&self.browser().await, &self.request().with("scope", scope)).await;
        assert!(tokens["id_token"].is_string(), "{tokens}");
        self.userinfo(&tokens).await
    }

    /// Sends a request that requires a new authentication. Asserts that `browser` gets a page, also when it resumes the request. Then signs
    /// the user in again, for simplicity in a second browser, which resumes the request. Returns the tokens.
    async fn tokens_after_authentication(&self, browser: &Browser, request: &Request) -> Value {
        let (page, handle) = page_and_handle(&self.node, &browser.authorize(&self.node, request).await);
        assert!(page.starts_with("/account/"), "{page}");
        let resume_path = format!("/oauth2/authorize?request={handle}");
        let (page_again, _) = page_and_handle(&self.node, &browser.get(&self.node, &resume_path).await);
        assert_eq!(page_again, page);
        let signed_in_again = self.browser().await;
        let answer = signed_in_again.get(&self.node, &resume_path).await;
        self.tokens_of(&self.received(&answer)).await
    }
}

pub async fn server(mode: Mode) {
    let suite = Suite::start(mode).await;
    let browser = suite.browser().await;
    let response = suite.authorize(&browser, &suite.request()).await;
    assert_eq!(response["state"], "a state");
    assert_eq!(response["iss"], "https://auth.example.com");
    let tokens = suite.tokens_of(&response).await;
    assert_eq!(tokens["token_type"], "Bearer");
    let id = id_claims(&tokens);
    assert_eq!(id["iss"], "https://auth.example.com");
    assert_eq!(id["aud"], suite.app.id);
    assert_eq!(id["nonce"], "a nonce");
    assert_eq!(suite.userinfo(&tokens).await["sub"], id["sub"]);
    suite.finish().await;
}

pub async fn response_type_missing(mode: Mode) {
    let suite = Suite::start(mode).await;
    let response = suite.authorize(&suite.browser().await, &suite.request().without("response_type")).await;
    assert_eq!(response["error"], "invalid_request");
    assert_eq!(response["state"], "a state");
    assert!(!response.contains_key("code"));
    suite.finish().await;
}

pub async fn idtoken_signature(mode: Mode) {
    let suite = Suite::start(mode).await;
    let tokens = suite.tokens(&suite.browser().await, &suite.request()).await;
    let id_token = Jws::parse(text(&tokens, "id_token")).unwrap();
    let jwks = suite.document("/.well-known/jwks.json").await.text;
    let keys = ClientKeys::parse(&to_jwks(&jwks).unwrap()).unwrap();
    assert!(keys.verify(&id_token));
    let kid = id_token.header.kid.as_deref().unwrap();
    assert!(jwks.contains(&format!("\"{kid}\"")), "{jwks}");
    suite.finish().await;
}

pub async fn idtoken_unsigned(mode: Mode) {
    let suite = Suite::start(mode).await;
    let metadata = suite.document("/.well-known/openid-configuration").await.json();
    let offered = metadata["id_token_signing_alg_values_supported"].as_array().unwrap();
    assert!(!offered.contains(&json!("none")), "{metadata}");
    let tokens = suite.tokens(&suite.browser().await, &suite.request()).await;
    assert!(!text(&tokens, "id_token").ends_with('.'), "the signature is not empty");
    suite.finish().await;
}

pub async fn userinfo_get(mode: Mode) {
    let suite = Suite::start(mode).await;
    let tokens = suite.tokens(&suite.browser().await, &suite.request()).await;
    assert_eq!(suite.userinfo(&tokens).await["sub"], id_claims(&tokens)["sub"]);
    suite.finish().await;
}

pub async fn userinfo_post_header(mode: Mode) {
    let suite = Suite::start(mode).await;
    let tokens = suite.tokens(&suite.browser().await, &suite.request()).await;
    let post = suite.node.request(Method::POST, "/oauth2/userinfo").bearer_auth(text(&tokens, "access_token"));
    let userinfo = suite.node.send(post).await.expect(200).json();
    assert_eq!(userinfo["sub"], id_claims(&tokens)["sub"]);
    suite.finish().await;
}

pub async fn userinfo_post_body(mode: Mode) {
    let suite = Suite::start(mode).await;
    let tokens = suite.tokens(&suite.browser().await, &suite.request()).await;
    let post = suite.node.request(Method::POST, "/oauth2/userinfo");
    let userinfo = suite.node.send(post.form(&[("access_token", text(&tokens, "access_token"))])).await.expect(200);
    assert_eq!(userinfo.json()["sub"], id_claims(&tokens)["sub"]);
    suite.finish().await;
}

pub async fn ensure_request_without_nonce_succeeds_for_code_flow(mode: Mode) {
    let suite = Suite::start(mode).await;
    let tokens = suite.tokens(&suite.browser().await, &suite.request().without("nonce")).await;
    assert_eq!(id_claims(&tokens)["nonce"], Value::Null);
    suite.finish().await;
}

pub async fn scope_profile(mode: Mode) {
    let suite = Suite::start(mode).await;
    let userinfo = suite.userinfo_of_scope("openid profile").await;
    assert_eq!(userinfo["name"], "ada");
    assert_eq!(userinfo["preferred_username"], "ada");
    assert!(userinfo["updated_at"].is_number(), "{userinfo}");
    assert!(userinfo["email"].is_null(), "{userinfo}");
    suite.finish().await;
}

pub async fn scope_email(mode: Mode) {
    let suite = Suite::start(mode).await;
    let userinfo = suite.userinfo_of_scope("openid email").await;
    assert_eq!(userinfo["email"], "ada@example.com");
    assert_eq!(userinfo["email_verified"], false);
    assert!(userinfo["name"].is_null(), "{userinfo}");
    suite.finish().await;
}

pub async fn scope_address(mode: Mode) {
    let suite = Suite::start(mode).await;
    let userinfo = suite.userinfo_of_scope("openid address").await;
    assert_eq!(userinfo.as_object().unwrap().keys().collect::<Vec<_>>(), ["sub"]);
    suite.finish().await;
}

pub async fn scope_phone(mode: Mode) {
    let suite = Suite::start(mode).await;
    let userinfo = suite.userinfo_of_scope("openid phone").await;
    assert_eq!(userinfo.as_object().unwrap().keys().collect::<Vec<_>>(), ["sub"]);
    suite.finish().await;
}

pub async fn scope_all(mode: Mode) {
    let suite = Suite::start(mode).await;
    let userinfo = suite.userinfo_of_scope("openid profile email address phone").await;
    assert_eq!(userinfo["email"], "ada@example.com");
    assert_eq!(userinfo["name"], "ada");
    suite.finish().await;
}

pub async fn alternate_happy_flow(mode: Mode) {
    let suite = Suite::start(mode).await;
    let mut request = suite.request().with("scope", "email openid");
    // the parameters in another order
    request.0.reverse();
    let tokens = suite.tokens(&suite.browser().await, &request).await;
    let id = id_claims(&tokens);
    assert_eq!(id["nonce"], "a nonce");
    assert_eq!(id["email"], "ada@example.com");
    suite.finish().await;
}

pub async fn display_page(mode: Mode) {
    let suite = Suite::start(mode).await;
    suite.tokens(&suite.browser().await, &suite.request().with("display", "page")).await;
    suite.finish().await;
}

pub async fn display_popup(mode: Mode) {
    let suite = Suite::start(mode).await;
    suite.tokens(&suite.browser().await, &suite.request().with("display", "popup")).await;
    suite.finish().await;
}

pub async fn prompt_login(mode: Mode) {
    let suite = Suite::start(mode).await;
    let browser = suite.browser().await;
    let first = suite.tokens(&browser, &suite.request()).await;
    suite.cluster.advance(Duration::from_secs(2));
    let second = suite.tokens_after_authentication(&browser, &suite.request().with("prompt", "login")).await;
    let (first_claims, second_claims) = (id_claims(&first), id_claims(&second));
    assert_eq!(first_claims["sub"], second_claims["sub"]);
    assert!(second_claims["auth_time"].as_i64() > first_claims["auth_time"].as_i64(), "{first_claims} {second_claims}");
    suite.finish().await;
}

pub async fn prompt_none_not_logged_in(mode: Mode) {
    let suite = Suite::start(mode).await;
    let response = suite.authorize(&Browser::default(), &suite.request().with("prompt", "none")).await;
    assert_eq!(response["error"], "login_required");
    assert_eq!(response["state"], "a state");
    suite.finish().await;
}

pub async fn prompt_none_logged_in(mode: Mode) {
    let suite = Suite::start(mode).await;
    let browser = suite.browser().await;
    let first = suite.tokens(&browser, &suite.request()).await;
    suite.cluster.advance(Duration::from_secs(2));
    let second = suite.tokens(&browser, &suite.request().with("prompt", "none")).await;
    let (first_claims, second_claims) = (id_claims(&first), id_claims(&second));
    assert_eq!(first_claims["sub"], second_claims["sub"]);
    assert_eq!(first_claims["auth_time"], second_claims["auth_time"]);
    suite.finish().await;
}

pub async fn max_age_1(mode: Mode) {
    let suite = Suite::start(mode).await;
    let browser = suite.browser().await;
    let first = suite.tokens(&browser, &suite.request()).await;
    suite.cluster.advance(Duration::from_secs(2));
    let second = suite.tokens_after_authentication(&browser, &suite.request().with("max_age", "1")).await;
    let (first_claims, second_claims) = (id_claims(&first), id_claims(&second));
    assert_eq!(first_claims["sub"], second_claims["sub"]);
    assert!(second_claims["auth_time"].as_i64() > first_claims["auth_time"].as_i64(), "{first_claims} {second_claims}");
    suite.finish().await;
}

pub async fn max_age_10000(mode: Mode) {
    let suite = Suite::start(mode).await;
    let browser = suite.browser().await;
    let first = suite.tokens(&browser, &suite.request().with("max_age", "10000")).await;
    suite.cluster.advance(Duration::from_secs(2));
    let second = suite.tokens(&browser, &suite.request().with("max_age", "10000")).await;
    let (first_claims, second_claims) = (id_claims(&first), id_claims(&second));
    assert!(first_claims["auth_time"].is_i64(), "{first_claims}");
    assert_eq!(first_claims["sub"], second_claims["sub"]);
    assert_eq!(first_claims["auth_time"], second_claims["auth_time"]);
    suite.finish().await;
}

pub async fn ensure_request_with_unknown_parameter_succeeds(mode: Mode) {
    let suite = Suite::start(mode).await;
    suite.tokens(&suite.browser().await, &suite.request().with("extra", "foobar")).await;
    suite.finish().await;
}

pub async fn id_token_hint(mode: Mode) {
    let suite = Suite::start(mode).await;
    let browser = suite.browser().await;
    let first = suite.tokens(&browser, &suite.request()).await;
    let request = suite.request().with("prompt", "none").with("id_token_hint", text(&first, "id_token"));
    let second = suite.tokens(&browser, &request).await;
    assert_eq!(id_claims(&first)["sub"], id_claims(&second)["sub"]);
    suite.finish().await;
}

pub async fn login_hint(mode: Mode) {
    let suite = Suite::start(mode).await;
    let request = suite.request().with("login_hint", "ada@example.com");
    suite.tokens(&suite.browser().await, &request).await;
    // a browser without a session gets the sign-in page, which shows the hint in a field
    let to_sign_in = Browser::default().authorize(&suite.node, &request).await.expect(303);
    let path = to_sign_in.header("location").replace(&suite.node.state.config.issuer, "");
    let page = Browser::default().get(&suite.node, &path).await.expect(200);
    assert!(page.text.contains("value=\"ada@example.com\""), "{}", page.text);
    suite.finish().await;
}

pub async fn ui_locales(mode: Mode) {
    let suite = Suite::start(mode).await;
    suite.tokens(&suite.browser().await, &suite.request().with("ui_locales", "se")).await;
    suite.finish().await;
}

pub async fn claims_locales(mode: Mode) {
    let suite = Suite::start(mode).await;
    suite.tokens(&suite.browser().await, &suite.request().with("claims_locales", "se")).await;
    suite.finish().await;
}

pub async fn ensure_request_with_acr_values_succeeds(mode: Mode) {
    let suite = Suite::start(mode).await;
    let tokens = suite.tokens(&suite.browser().await, &suite.request().with("acr_values", "1 2")).await;
    assert_eq!(id_claims(&tokens)["acr"], "aal1");
    suite.finish().await;
}

pub async fn codereuse(mode: Mode) {
    let suite = Suite::start(mode).await;
    let response = suite.authorize(&suite.browser().await, &suite.request()).await;
    suite.tokens_of(&response).await;
    let repeated = exchange(&suite.node, &suite.app, &response["code"]).await;
    assert_eq!(error_of(&repeated), (400, "invalid_grant".to_owned()));
    suite.finish().await;
}

pub async fn codereuse_30seconds(mode: Mode) {
    let suite = Suite::start(mode).await;
    let response = suite.authorize(&suite.browser().await, &suite.request()).await;
    let tokens = suite.tokens_of(&response).await;
    suite.cluster.advance(Duration::from_secs(30));
    let repeated = exchange(&suite.node, &suite.app, &response["code"]).await;
    assert_eq!(error_of(&repeated), (400, "invalid_grant".to_owned()));
    // The second use of the code has ended the session.
    suite.node.get("/oauth2/userinfo", text(&tokens, "access_token")).await.expect(401);
    suite.finish().await;
}

pub async fn ensure_registered_redirect_uri(mode: Mode) {
    let suite = Suite::start(mode).await;
    let request = suite.request().with("redirect_uri", &format!("{CALLBACK}/other"));
    let page = suite.browser().await.authorize(&suite.node, &request).await.expect(400);
    assert!(page.header("location").is_empty(), "the browser is not redirected");
    assert!(page.text.contains("not registered"), "{}", page.text);
    suite.finish().await;
}

pub async fn ensure_post_request_succeeds(mode: Mode) {
    let suite = Suite::start(mode).await;
    let form = suite.node.request(Method::POST, "/oauth2/authorize").form(&suite.request().0);
    // The answer redirects to a GET request, with which the browser sends its cookie.
    let (path, handle) = page_and_handle(&suite.node, &suite.node.send(form).await);
    let answer = suite.browser().await.get(&suite.node, &format!("{path}?request={handle}")).await;
    suite.tokens_of(&suite.received(&answer)).await;
    suite.finish().await;
}

pub async fn server_client_secret_post(mode: Mode) {
    let suite = Suite::start(mode).await;
    let response = suite.authorize(&suite.browser().await, &suite.request()).await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", response["code"].as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("client_id", suite.app.id.as_str()),
        ("client_secret", suite.app.secret.as_str()),
    ];
    let request = suite.node.request(Method::POST, "/oauth2/token").form(&form);
    let tokens = suite.node.send(request).await.expect(200).json();
    assert_eq!(suite.userinfo(&tokens).await["sub"], id_claims(&tokens)["sub"]);
    suite.finish().await;
}

pub async fn request_uri_unsigned_supported_correctly_or_rejected_as_unsupported(mode: Mode) {
    let suite = Suite::start(mode).await;
    let request = suite.request().with("request_uri", "https://app.example.com/request");
    let response = suite.authorize(&suite.browser().await, &request).await;
    assert_eq!(response["error"], "request_uri_not_supported");
    assert_eq!(response["state"], "a state");
    suite.finish().await;
}

pub async fn unsigned_request_object_supported_correctly_or_rejected_as_unsupported(mode: Mode) {
    let suite = Suite::start(mode).await;
    let response =
        suite.authorize(&suite.browser().await, &suite.request().with("request", UNSIGNED_REQUEST_OBJECT)).await;
    assert_eq!(response["error"], "request_not_supported");
    assert_eq!(response["state"], "a state");
    suite.finish().await;
}

pub async fn claims_essential(mode: Mode) {
    let suite = Suite::start(mode).await;
    let metadata = suite.document("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["claims_parameter_supported"], false);
    let request = suite.request().with("claims", r#"{"userinfo":{"name":{"essential":true}}}"#);
    let tokens = suite.tokens(&suite.browser().await, &request).await;
    assert_eq!(suite.userinfo(&tokens).await["name"], Value::Null, "an app gets the claims of its scopes only");
    suite.finish().await;
}

pub async fn ensure_request_object_with_redirect_uri(mode: Mode) {
    let suite = Suite::start(mode).await;
    let payload = BASE64_URL_SAFE_NO_PAD.encode(r#"{"redirect_uri":"https://app.example.com/other"}"#);
    // `e30` is the payload of `UNSIGNED_REQUEST_OBJECT`.
    let request = suite.request().with("request", &UNSIGNED_REQUEST_OBJECT.replace("e30", &payload));
    let response = suite.authorize(&suite.browser().await, &request).await;
    assert_eq!(response["error"], "request_not_supported");
    suite.finish().await;
}

pub async fn refresh_token(mode: Mode) {
    let suite = Suite::start(mode).await;
    let other_app = suite.cluster.service_client_with(web("suite2")).await;
    let first = suite.tokens(&suite.browser().await, &suite.request()).await;
    suite.cluster.advance(Duration::from_secs(2));
    let by_other_app = refresh(&suite.node, &other_app, text(&first, "refresh_token")).await;
    assert_eq!(error_of(&by_other_app), (400, "invalid_grant".to_owned()));
    let second = refresh(&suite.node, &suite.app, text(&first, "refresh_token")).await.expect(200).json();
    assert_eq!(suite.userinfo(&second).await["sub"], id_claims(&first)["sub"]);
    let (first_claims, second_claims) = (id_claims(&first), id_claims(&second));
    for name in ["iss", "sub", "aud", "auth_time"] {
        assert_eq!(first_claims[name], second_claims[name], "{name}");
    }
    assert!(second_claims["iat"].as_i64() > first_claims["iat"].as_i64(), "{first_claims} {second_claims}");
    suite.finish().await;
}

pub async fn ensure_request_with_valid_pkce_succeeds(mode: Mode) {
    let suite = Suite::start(mode).await;
    let response = suite.authorize(&suite.browser().await, &suite.request()).await;
    let wrong = exchange_with(&suite.node, &suite.app, &response["code"], CALLBACK, &VERIFIER.to_lowercase()).await;
    assert_eq!(error_of(&wrong), (400, "invalid_grant".to_owned()));
    // the refused exchange has not consumed the code
    suite.tokens_of(&response).await;
    suite.finish().await;
}
