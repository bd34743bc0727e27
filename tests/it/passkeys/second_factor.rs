//! A passkey as the second factor of a sign-in.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    Authenticator, authenticator::USER_PRESENT, claims, list_passkeys, login_options, register_passkey, send_login,
    with_passkey,
};
use crate::{
    accounts::{problem, remove_mail_and_login_limits},
    harness::{
        client::{Answer, Client, PASSWORD, Tokens},
        test_cluster::TestCluster,
    },
};

/// Signs in by password, and returns the challenge of the sign-in, which waits for the second factor.
async fn begin_sign_in(node: &Client, name: &str) -> String {
    let answer = node.try_login(name, PASSWORD).await;
    assert_eq!(answer.problem(), problem(403, "second_factor_required"));
    assert!(answer.json()["methods"].as_array().unwrap().contains(&json!("passkey")), "{answer:?}");
    answer.text_of("challenge")
}

/// Requests the options for a passkey as the second factor.
async fn second_factor_options(node: &Client, challenge: &str) -> Value {
    let answer = node.post("/v1/login/second-factor/options", json!({ "challenge": challenge })).await;
    answer.expect(200).json()["public_key"].take()
}

/// Presents a passkey's response as the second factor. Returns the answer with any status.
async fn present(node: &Client, challenge: &str, credential: Value) -> Answer {
    let body = json!({ "challenge": challenge, "method": "passkey", "credential": credential });
    node.post("/v1/login/second-factor", body).await
}

#[tokio::test]
async fn password_and_passkey_reach_aal2_also_without_user_verification() {
    let (_cluster, node, tokens, mut phone) = with_passkey().await;
    let mut key = Authenticator::new();
    key.flags = USER_PRESENT; // and not USER_VERIFIED
    let tokens = register_passkey(&node, &tokens, &mut key).await;
    for authenticator in [&mut phone, &mut key] {
        let challenge = begin_sign_in(&node, "ada").await;
        let options = second_factor_options(&node, &challenge).await;
        assert_eq!(options["allowCredentials"].as_array().unwrap().len(), 2);
        assert_eq!(options["userVerification"], "preferred");
        // An authenticator may return no user handle if the options name its credential.
        authenticator.user_handle = None;
        let signed_in = Tokens::of(&present(&node, &challenge, authenticator.get(&options)).await.expect(200));
        let claims = claims(&signed_in);
        assert_eq!(claims["acr"], "aal2");
        // `user` is the user's presence (RFC 8176)
        assert_eq!(claims["amr"], json!(["pwd", "hwk", "user", "mfa"]));
    }
    assert!(list_passkeys(&node, &tokens).await.iter().all(|passkey| passkey["last_used_at"].is_string()));
}

#[tokio::test]
async fn response_for_another_challenge_purpose_or_account_is_refused() {
    let (_cluster, node, tokens, mut phone) = with_passkey().await;
    let (first, second) = (begin_sign_in(&node, "ada").await, begin_sign_in(&node, "ada").await);
    // The response to the options of another sign-in. Each response below needs new options: an attempt consumes them.
    let options_of_first = second_factor_options(&node, &first).await;
    assert_eq!(present(&node, &second, phone.get(&options_of_first)).await.problem(), problem(401, "invalid_passkey"));
    // the options of a sign-in by passkey alone, and the reverse: options of a second factor for such a sign-in
    let alone = login_options(&node).await;
    assert_eq!(present(&node, &first, phone.get(&alone)).await.problem(), problem(401, "invalid_passkey"));
    let options_of_first = second_factor_options(&node, &first).await;
    assert_eq!(send_login(&node, phone.get(&options_of_first)).await.problem(), problem(401, "invalid_passkey"));
    // the passkey of another account
    node.register("eve").await;
    let eve = node.login("eve").await;
    let mut eves_key = Authenticator::new();
    register_passkey(&node, &eve, &mut eves_key).await;
    let options_of_first = second_factor_options(&node, &first).await;
    assert_eq!(
        present(&node, &first, eves_key.get(&options_of_first)).await.problem(),
        problem(401, "invalid_passkey")
    );
    // The refused responses did not consume the challenge of the sign-in.
    let options_of_first = second_factor_options(&node, &first).await;
    let response = phone.get(&options_of_first);
    present(&node, &first, response.clone()).await.expect(200);
    assert_eq!(present(&node, &first, response).await.problem(), problem(401, "invalid_challenge"));
    // A change of the factors ends the other challenge.
    let options_of_second = second_factor_options(&node, &second).await;
    register_passkey(&node, &tokens, &mut Authenticator::new()).await;
    assert_eq!(
        present(&node, &second, phone.get(&options_of_second)).await.problem(),
        problem(401, "invalid_challenge")
    );
    let answer = node.post("/v1/login/second-factor/options", json!({ "challenge": second })).await;
    assert_eq!(answer.problem(), problem(401, "invalid_challenge"));
}

#[tokio::test]
async fn missing_credential_is_reported_with_its_field() {
    let (_cluster, node, _tokens, _phone) = with_passkey().await;
    let body = json!({ "challenge": begin_sign_in(&node, "ada").await, "method": "passkey", "code": "123456" });
    let answer = node.post("/v1/login/second-factor", body).await;
    assert_eq!(answer.problem(), problem(422, "invalid_fields"));
    assert_eq!(answer.json()["errors"][0]["field"], "credential");
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_second_factor_by_passkey_works_once_among_sixteen_racers_on_two_nodes() {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    // the racers have one IP address
    cluster.config.limits.factor_per_address = None;
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    let tokens = nodes[0].login("ada").await;
    // a synced passkey has no counter: counters would refuse all responses but the latest
    let mut synced = Authenticator::new();
    synced.counter = 0;
    synced.counter_step = 0;
    register_passkey(&nodes[0], &tokens, &mut synced).await;
    let challenge = begin_sign_in(&nodes[0], "ada").await;
    // Each racer has a response of its own, so that they compete for the challenge of the sign-in only.
    let mut responses = Vec::new();
    for _ in 0..16 {
        responses.push(synced.get(&second_factor_options(&nodes[0], &challenge).await));
    }
    let race =
        responses.into_iter().enumerate().map(|(racer, response)| present(&nodes[racer % 2], &challenge, response));
    let answers = join_all(race).await;
    let won = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(won, 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(answer.problem(), problem(401, "invalid_challenge"));
    }
}
