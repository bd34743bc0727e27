//! Enrolment of a passkey during a sign-in, where the account must have a second factor (`factors.required`).

use std::time::Duration;

use futures_util::future::join_all;
use latchkey::domain::factor::FactorPolicy;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Authenticator, add_passkey, audit_entries, claims, list_passkeys, register_passkey, registration_options};
use crate::{
    accounts::{email, problem, verify_address},
    factors::{self, assert_no_credentials, recovery_codes_of},
    harness::{
        client::{Answer, Client, PASSWORD, Tokens},
        test_cluster::TestCluster,
    },
};

/// A cluster whose accounts must have a second factor from their first sign-in on.
fn cluster_requiring_factors() -> TestCluster {
    let mut cluster = factors::cluster();
    cluster.config.factors.required = FactorPolicy::AllAccounts;
    cluster.config.factors.grace = Duration::ZERO;
    // No limit: the tests send all requests from one address.
    cluster.config.limits.passkey_per_address = None;
    cluster
}

/// Signs in by password, and returns the challenge of the sign-in, which waits for an enrolment.
async fn begin_sign_in(node: &Client, name: &str) -> String {
    let answer = node.try_login(name, PASSWORD).await;
    assert_eq!(answer.problem(), problem(403, "factor_enrolment_required"));
    assert_eq!(answer.json()["methods"], json!(["totp", "passkey"]));
    assert_no_credentials(&answer);
    answer.text_of("challenge")
}

/// Requests the options for the passkey. Returns the answer with any status.
async fn try_creation_options(node: &Client, challenge: &str) -> Answer {
    node.post("/v1/login/enrolment/passkey/options", json!({ "challenge": challenge })).await
}

async fn creation_options(node: &Client, challenge: &str) -> Value {
    try_creation_options(node, challenge).await.expect(200).json()["public_key"].take()
}

/// Completes the enrolment with a credential. Returns the answer with any status.
async fn try_complete(node: &Client, challenge: &str, credential: Value) -> Answer {
    let body = json!({ "challenge": challenge, "name": "Ada's phone", "credential": credential });
    node.post("/v1/login/enrolment/passkey", body).await
}

#[tokio::test]
async fn account_that_must_have_a_factor_registers_a_passkey_at_sign_in() {
    let cluster = cluster_requiring_factors();
    let node = cluster.node().await;
    node.register("ada").await;
    // Two sign-ins that wait for an enrolment.
    let first = begin_sign_in(&node, "ada").await;
    let other = begin_sign_in(&node, "ada").await;
    let mut phone = Authenticator::new();
    let creation = creation_options(&node, &first).await;
    assert_eq!(creation["user"]["name"], "ada@example.com");
    let answer = try_complete(&node, &first, phone.create(&creation)).await.expect(200);
    assert!(answer.header("x-device-token").starts_with("lk_dt_"));
    assert_eq!(recovery_codes_of(&answer).len(), 10);
    let tokens = Tokens::of(&answer);
    let claims = claims(&tokens);
    assert_eq!(claims["acr"], "aal2");
    assert_eq!(claims["amr"], json!(["pwd", "hwk", "user", "mfa"]));
    node.refresh(&tokens.refresh).await.expect(200);
    let passkeys = list_passkeys(&node, &tokens).await;
    assert_eq!(passkeys.len(), 1);
    assert_eq!(passkeys[0]["name"], "Ada's phone");
    // The first challenge is used up; the other was issued while the account had no factor.
    for invalid in [&first, &other] {
        assert_eq!(try_creation_options(&node, invalid).await.problem(), problem(401, "invalid_challenge"));
    }
    let next_sign_in = node.try_login("ada", PASSWORD).await;
    assert_eq!(next_sign_in.problem(), problem(403, "second_factor_required"));
    assert_eq!(next_sign_in.json()["methods"], json!(["passkey", "recovery_code"]));
    super::try_sign_in(&node, &mut phone).await.expect(200);
}

#[tokio::test]
async fn enrolment_by_passkey_is_recorded_and_sends_the_owner_a_mail() {
    let mut cluster = cluster_requiring_factors();
    // Within the grace period ada signs in without a factor, and verifies the address that the mail is sent to.
    cluster.config.factors.grace = Duration::from_hours(1);
    let node = cluster.node().await;
    node.register("ada").await;
    let in_grace = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &in_grace).await;
    cluster.advance(Duration::from_hours(1));
    let challenge = begin_sign_in(&node, "ada").await;
    let credential = Authenticator::new().create(&creation_options(&node, &challenge).await);
    try_complete(&node, &challenge, credential).await.expect(200);
    let mail = cluster.mail_to(&email("ada"), "factor_changed").await;
    assert!(mail.text.contains("passkey"), "{}", mail.text);
    let events = audit_entries(&node).await;
    assert!(events.iter().any(|(event, ..)| event == "factor_added"), "{events:?}");
    assert_eq!(node.refresh(&in_grace.refresh).await.status, 401, "the session of the grace period has ended");
}

#[tokio::test]
async fn refused_passkey_does_not_end_the_enrolment() {
    let mut cluster = cluster_requiring_factors();
    // The model of all authenticators of the tests, unless a test changes it.
    let aaguid = Uuid::from_bytes(Authenticator::new().aaguid);
    cluster.config.passkeys.allowed_aaguids = vec![aaguid.to_string().parse().unwrap()];
    let node = cluster.node().await;
    for name in ["ada", "eve"] {
        node.register(name).await;
    }
    let eves_challenge = begin_sign_in(&node, "eve").await;
    let mut eves_key = Authenticator::new();
    let creation = creation_options(&node, &eves_challenge).await;
    try_complete(&node, &eves_challenge, eves_key.create(&creation)).await.expect(200);

    let waiting = begin_sign_in(&node, "ada").await;
    let mut other_origin = Authenticator::new();
    other_origin.origin = "https://evil.example".to_owned();
    let mut other_model = Authenticator::new();
    other_model.aaguid = [8; 16];
    let mut same_id = Authenticator::new();
    same_id.credential_id.clone_from(&eves_key.credential_id);
    for (authenticator, refusal) in [
        (&mut other_origin, problem(422, "passkey_rejected")),
        (&mut other_model, problem(403, "passkey_model_not_allowed")),
        (&mut same_id, problem(409, "passkey_exists")),
    ] {
        let credential = authenticator.create(&creation_options(&node, &waiting).await);
        let answer = try_complete(&node, &waiting, credential).await;
        assert_eq!(answer.problem(), refusal);
        assert_no_credentials(&answer);
    }
    // A name with a right-to-left override, which could deceive a reader. It is refused before the credential is read.
    let body = json!({ "challenge": waiting, "name": "a\u{202e}b", "credential": {} });
    let answer = node.post("/v1/login/enrolment/passkey", body).await;
    assert_eq!(answer.problem(), problem(422, "invalid_fields"));
    let refusals = audit_entries(&node).await.into_iter().filter(|(event, ..)| event == "passkey_refused");
    let mut reasons: Vec<_> = refusals.filter_map(|(_, _, reason)| reason).collect();
    reasons.sort();
    // `passkey_exists` is not recorded as a refused passkey.
    assert_eq!(reasons, ["model_not_allowed", "wrong_origin"]);
    let credential = Authenticator::new().create(&creation_options(&node, &waiting).await);
    try_complete(&node, &waiting, credential).await.expect(200);
}

#[tokio::test]
async fn i11_options_of_an_enrolment_work_for_their_sign_in_and_purpose_only() {
    let cluster = cluster_requiring_factors();
    let node = cluster.node().await;
    node.register("ada").await;
    let first = begin_sign_in(&node, "ada").await;
    let second = begin_sign_in(&node, "ada").await;
    // A credential for the options of another sign-in's enrolment.
    let credential = Authenticator::new().create(&creation_options(&node, &first).await);
    assert_eq!(try_complete(&node, &second, credential).await.problem(), problem(422, "passkey_rejected"));
    // A credential for the options of a sign-in by passkey. The authenticator needs a user and a relying party to create one.
    let mut login_options = super::login_options(&node).await;
    let creation = creation_options(&node, &first).await;
    login_options["user"] = creation["user"].clone();
    login_options["rp"] = creation["rp"].clone();
    let credential = Authenticator::new().create(&login_options);
    assert_eq!(try_complete(&node, &first, credential).await.problem(), problem(422, "passkey_rejected"));
    // The challenge of the sign-in is refused by the endpoints for a second factor.
    for (path, body) in [
        ("/v1/login/second-factor", json!({ "challenge": first, "method": "totp", "code": "123456" })),
        ("/v1/login/second-factor/options", json!({ "challenge": first })),
    ] {
        assert_eq!(node.post(path, body).await.problem(), problem(401, "invalid_challenge"), "{path}");
    }
    // Options of an enrolment can't register a passkey for a session, and options for a session can't be used for an enrolment.
    let unused_options = creation_options(&node, &first).await;
    let mut phone = Authenticator::new();
    let creation = creation_options(&node, &first).await;
    let tokens = Tokens::of(&try_complete(&node, &first, phone.create(&creation)).await.expect(200));
    let tokens = super::stepped_up(&node, &tokens, &mut phone).await;
    let answer = add_passkey(&node, &tokens, Authenticator::new().create(&unused_options)).await;
    assert_eq!(answer.problem(), problem(422, "passkey_rejected"));
    node.register("eve").await;
    let creation = registration_options(&node, &tokens).await;
    let eves_challenge = begin_sign_in(&node, "eve").await;
    let answer = try_complete(&node, &eves_challenge, Authenticator::new().create(&creation)).await;
    assert_eq!(answer.problem(), problem(422, "passkey_rejected"));
    register_passkey(&node, &tokens, &mut Authenticator::new()).await;
    // The challenge of a sign-in that needs a second factor is refused for an enrolment.
    let waiting = node.try_login("ada", PASSWORD).await.text_of("challenge");
    assert_eq!(try_creation_options(&node, &waiting).await.problem(), problem(401, "invalid_challenge"));
    assert_eq!(try_complete(&node, &waiting, json!({})).await.problem(), problem(401, "invalid_challenge"));
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_enrolment_by_passkey_works_once_among_sixteen_racers_on_two_nodes() {
    let cluster = cluster_requiring_factors();
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    let challenge = begin_sign_in(&nodes[0], "ada").await;
    // Each racer has a credential of its own, so that they compete for the challenge of the sign-in only.
    let mut credentials = Vec::new();
    for _ in 0..16 {
        credentials.push(Authenticator::new().create(&creation_options(&nodes[0], &challenge).await));
    }
    let race = credentials
        .into_iter()
        .enumerate()
        .map(|(racer, credential)| try_complete(&nodes[racer % 2], &challenge, credential));
    let answers = join_all(race).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(won.len(), 1, "{answers:?}");
    for answer in lost {
        assert_eq!(answer.problem(), problem(401, "invalid_challenge"));
    }
    assert_eq!(list_passkeys(&nodes[1], &Tokens::of(won[0])).await.len(), 1);
}

#[tokio::test]
async fn authenticator_app_not_confirmed_before_the_passkey_is_no_factor() {
    let cluster = cluster_requiring_factors();
    let node = cluster.node().await;
    node.register("ada").await;
    let challenge = begin_sign_in(&node, "ada").await;
    let started = node.post("/v1/login/enrolment/totp", json!({ "challenge": challenge })).await.expect(200);
    let app = factors::App { secret: started.text_of("secret") };
    let credential = Authenticator::new().create(&creation_options(&node, &challenge).await);
    let tokens = Tokens::of(&try_complete(&node, &challenge, credential).await.expect(200));
    let confirm = json!({ "challenge": challenge, "code": app.code(&cluster.clock) });
    let answer = node.post("/v1/login/enrolment/totp/confirm", confirm).await;
    assert_eq!(answer.problem(), problem(401, "invalid_challenge"));
    let factors = node.get("/v1/me/factors", &tokens.access).await.expect(200).json();
    let kinds: Vec<_> = factors["factors"].as_array().unwrap().iter().map(|factor| &factor["kind"]).collect();
    assert_eq!(kinds, [&json!("passkey")]);
}

#[tokio::test]
async fn passkeys_without_relying_party_are_not_offered() {
    let mut cluster = cluster_requiring_factors();
    cluster.config.passkeys.relying_party = None;
    let node = cluster.node().await;
    node.register("ada").await;
    let answer = node.try_login("ada", PASSWORD).await;
    assert_eq!(answer.json()["methods"], json!(["totp"]));
    let challenge = answer.text_of("challenge");
    assert_eq!(try_creation_options(&node, &challenge).await.problem(), problem(403, "login_method_off"));
    assert_eq!(try_complete(&node, &challenge, json!({})).await.problem(), problem(403, "login_method_off"));
}

/// A sign-in with the transport `cookie` sets the cookie only for pages of the same site.
#[tokio::test]
async fn enrolment_of_a_cookie_sign_in_is_refused_to_pages_of_other_sites() {
    let cluster = cluster_requiring_factors();
    let node = cluster.node().await;
    node.register("ada").await;
    let send = async |path: &str, body: Value, site: &str| {
        let origin = if site == "cross-site" { "https://evil.example" } else { "https://auth.example.com" };
        let request = node.request(reqwest::Method::POST, path).json(&body);
        node.send(request.header("origin", origin).header("sec-fetch-site", site)).await
    };
    let body = json!({ "identifier": "ada", "password": PASSWORD, "transport": "cookie" });
    let challenge = send("/v1/login", body, "same-origin").await.text_of("challenge");
    let path = "/v1/login/enrolment/passkey";
    let body = json!({ "challenge": challenge });
    let creation = send(&format!("{path}/options"), body, "same-origin").await.expect(200).json();
    let credential = Authenticator::new().create(&creation["public_key"]);
    let body = json!({ "challenge": challenge, "name": "x", "credential": credential });
    let answer = send(path, body.clone(), "cross-site").await;
    assert_eq!(answer.problem(), problem(403, "cross_site_request"));
    let answer = send(path, body, "same-origin").await.expect(200);
    assert!(answer.json()["refresh_token"].is_null());
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap()).collect();
    assert!(cookies.iter().any(|cookie| cookie.starts_with("__Host-latchkey=")), "{cookies:?}");
}
