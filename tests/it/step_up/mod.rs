//! Tests step-up: `POST /v1/me/reauthenticate`, the level (`acr`) and the time of a session's last authentication, and the challenges of RFC 9470.

mod second_factors;
mod sensitive_calls;
mod services;
mod session;

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    client::{Answer, Client, Tokens},
    test_cluster::TestCluster,
};

/// A second longer than an authentication is recent (`session.recent`).
pub const LONGER_THAN_RECENT: Duration = Duration::from_secs(601);

/// A problem as [`Answer::problem`] returns it.
pub fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// Authenticates again with the proof in `body`. Returns the answer, which may be a refusal.
pub async fn try_reauthenticate(node: &Client, access: &str, body: Value) -> Answer {
    let request = node.request(reqwest::Method::POST, "/v1/me/reauthenticate").bearer_auth(access);
    node.send(request.json(&body)).await
}

/// Authenticates again with this password. Returns the new access token.
pub async fn reauthenticate(node: &Client, access: &str, password: &str) -> String {
    try_reauthenticate(node, access, json!({ "password": password })).await.expect(200).text_of("access_token")
}

/// Advances the clock, and then refreshes the session: its access token may have expired. Returns the new tokens.
pub async fn advance_and_refresh(cluster: &TestCluster, node: &Client, tokens: &Tokens, by: Duration) -> Tokens {
    cluster.advance(by);
    Tokens::of(&node.refresh(&tokens.refresh).await.expect(200))
}

/// Asserts that an answer is a challenge with these parameters after `error`, such as `, max_age="600"`.
#[track_caller]
pub fn assert_challenge(answer: &Answer, parameters: &str) {
    assert_eq!(answer.problem(), problem(401, "insufficient_user_authentication"), "{}", answer.text);
    let challenge = "Bearer realm=\"latchkey\", error=\"insufficient_user_authentication\"";
    assert_eq!(answer.header("www-authenticate"), format!("{challenge}{parameters}"));
}
