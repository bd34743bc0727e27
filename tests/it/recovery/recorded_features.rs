//! Tests that second factors, passkeys, OAuth apps and profiles in the recorded data of a release (tests/tools/recorded_features.py)
//! work in this release.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    factors::{App, expect_challenge, second_factor},
    harness::{
        client::Tokens,
        test_cluster::{Node, ServiceClient, TestCluster},
    },
    oidc::{self, Browser, Request, text},
    passkeys::authenticator::{self, Authenticator},
};

/// Asserts that all recorded data of these features can be used. Releases before 0.2 have no such data.
pub async fn assert_usable(cluster: &TestCluster, node: &Node, recorded: &Value) {
    if recorded.get("totp").is_none() {
        assert_eq!(recorded["version"], "0.1.0");
        return;
    }
    let password = text(recorded, "password");
    assert_authenticator_app_works(cluster, node, &recorded["totp"], password).await;
    assert_passkey_works(node, &recorded["passkey"], password).await;
    assert_oauth_app_works(node, &recorded["app"]).await;
    let ada = node.login_with("ada", password).await;
    let me = node.get("/v1/me", &ada.access).await.expect(200).json();
    for (field, value) in recorded["profile"].as_object().unwrap() {
        assert_eq!(&me[field], value, "{me}");
    }
}

/// The session of the enrolment continues, and sign-ins accept the codes of the authenticator app and the recovery codes.
async fn assert_authenticator_app_works(cluster: &TestCluster, node: &Node, recorded: &Value, password: &str) {
    // `Tokens::of` asserts that the answer has all tokens.
    Tokens::of(&node.refresh(text(recorded, "refresh")).await.expect(200));
    let authenticator_app = App { secret: text(recorded, "secret").to_owned() };
    let challenge = expect_challenge(&node.try_login(text(recorded, "identifier"), password).await);
    let answer = second_factor(node, &challenge, "totp", &authenticator_app.code(&cluster.clock)).await.expect(200);
    assert_eq!(oidc::claims(&answer.text_of("access_token"))["acr"], "aal2");
    // Two codes: after the first, this release has rewritten the stored codes.
    for code in recorded["recovery_codes"].as_array().unwrap().iter().take(2) {
        let challenge = expect_challenge(&node.try_login(text(recorded, "identifier"), password).await);
        second_factor(node, &challenge, "recovery_code", code.as_str().unwrap()).await.expect(200);
    }
}

/// The session of the registration continues, the passkey signs in without a password, and a sign-in by password needs a second factor.
async fn assert_passkey_works(node: &Node, recorded: &Value, password: &str) {
    Tokens::of(&node.refresh(text(recorded, "refresh")).await.expect(200));
    let mut authenticator = Authenticator::of_key(&recorded["pkcs8"], &recorded["credential"]);
    authenticator.user_handle = Some(authenticator::from_base64url(&recorded["user_handle"]));
    // The origin is that of recorded_features.py. The signature counter must be higher than the counter there, which is 1.
    authenticator.origin = "http://localhost:8080".to_owned();
    authenticator.counter = 2;
    let options = node.post("/v1/login/passkey/options", json!({})).await.expect(200).json();
    let credential = authenticator.get(&options["public_key"]);
    let answer = node.post("/v1/login/passkey", json!({ "credential": credential })).await.expect(200);
    assert_eq!(oidc::claims(&answer.text_of("access_token"))["acr"], "aal2");
    expect_challenge(&node.try_login(text(recorded, "identifier"), password).await);
}

/// The app's session continues, and the recorded cookie of the browser signs in to the app again, without a page for sign-in or consent.
async fn assert_oauth_app_works(node: &Node, recorded: &Value) {
    let app = ServiceClient {
        id: text(recorded, "client_id").to_owned(),
        secret: text(recorded, "client_secret").to_owned(),
    };
    let refreshed = oidc::refresh(node, &app, text(recorded, "refresh")).await.expect(200).json();
    let access_token = text(&refreshed, "access_token");
    let recorded_claims = oidc::claims(text(recorded, "access"));
    assert_eq!(oidc::claims(access_token)["sub"], recorded_claims["sub"]);
    let request = node.request(Method::GET, "/oauth2/userinfo").bearer_auth(access_token);
    let user = node.send(request).await.expect(200).json();
    // record_release.py registers ada with this spelling.
    assert_eq!(user["email"], "Ada@example.com");
    let cookie = format!("__Host-latchkey-browser={}", text(recorded, "cookie"));
    let browser = Browser { cookie: Some(cookie), ..Browser::default() };
    let code = browser.code(node, &Request::for_client(&app.id)).await;
    let tokens = oidc::exchange(node, &app, &code).await.expect(200).json();
    assert_eq!(oidc::claims(text(&tokens, "id_token"))["sub"], user["sub"]);
}
