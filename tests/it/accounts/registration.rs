//! The settings `registration.verification` (whether a sign-in requires a verified address) and `registration.conceal` (whether a
//! registration hides that an address is taken).

use latchkey::config::Verification;
use reqwest::Method;
use serde_json::json;

use super::{email, first_mail, problem, remove_mail_and_login_limits, signed_in};
use crate::harness::{
    client::{Answer, PASSWORD, Tokens},
    test_cluster::TestCluster,
};

#[tokio::test]
async fn later_verification_sends_a_mail_and_allows_sign_in() {
    let mut cluster = TestCluster::new();
    cluster.config.registration.verification = Verification::Later;
    let node = cluster.node().await;
    node.register("ada").await;
    let (token, _code) = first_mail(&cluster, "ada", "verify_address").await;
    node.login("ada").await;
    node.post("/v1/email/verify", json!({ "token": token, "password": PASSWORD })).await.expect(204);
}

#[tokio::test]
async fn required_verification_refuses_sign_in_until_address_is_verified() {
    let mut cluster = TestCluster::new();
    cluster.config.registration.verification = Verification::Required;
    let node = cluster.node().await;
    node.register("ada").await;
    let (token, _code) = first_mail(&cluster, "ada", "verify_address").await;
    // Attempts with the right password do not count as failures: failures are throttled after five (`limits.login_backoff_after`).
    for _ in 0..8 {
        assert_eq!(node.try_login("ada", PASSWORD).await.problem(), problem(403, "email_not_verified"));
    }
    node.try_login("ada", "not the password").await.expect(401);
    node.post("/v1/email/verify", json!({ "token": token, "password": PASSWORD })).await.expect(204);
    node.login("ada").await;
}

#[tokio::test]
async fn concealed_registration_of_a_taken_address_is_answered_alike_and_its_owner_gets_a_mail() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    cluster.config.registration.verification = Verification::Required;
    cluster.config.registration.conceal = true;
    let node = cluster.node().await;
    let register = |name: &str| node.post("/v1/users", json!({ "email": email(name), "password": PASSWORD }));
    let first = register("ada").await.expect(201);
    let (token, _code) = first_mail(&cluster, "ada", "verify_address").await;
    node.post("/v1/email/verify", json!({ "token": token, "password": PASSWORD })).await.expect(204);

    let second = register("ada").await.expect(201);
    assert_ne!(first.json()["id"], second.json()["id"], "the second id belongs to no account");
    let member_names =
        |answer: &Answer| -> Vec<String> { answer.json().as_object().unwrap().keys().cloned().collect() };
    assert_eq!(member_names(&first), member_names(&second));
    assert_eq!(second.json()["email_verified"], false);
    cluster.mail_to(&email("ada"), "address_taken").await;
    // A signed-in user who is no admin gets the same answers as a stranger.
    let tokens = Tokens::of(&node.try_login(&email("ada"), PASSWORD).await.expect(200));
    let body = json!({ "email": email("ada"), "password": PASSWORD });
    signed_in(&node, &tokens, Method::POST, "/v1/users", body).await.expect(201);
    // `grace` is unverified and `nobody` is unknown. If their refusals differed, they would reveal that the address of `grace` was free.
    register("grace").await.expect(201);
    for name in ["grace", "nobody"] {
        assert_eq!(node.try_login(&email(name), PASSWORD).await.problem(), problem(401, "invalid_credentials"));
    }
    // A concealed registration takes no username: the refusal of a taken one would reveal an earlier registration.
    let body = json!({ "email": email("eve"), "username": "eve", "password": PASSWORD });
    let answer = node.post("/v1/users", body).await;
    assert_eq!(answer.json()["errors"][0]["code"], "username_not_yet");
}
