//! I7: An unknown user, a wrong password and a disabled account get identical responses, after the same work.

use latchkey::service::accounts;
use serde_json::Value;

use crate::harness::{
    client::{Answer, PASSWORD},
    test_cluster::{Node, TestCluster},
};

/// The parts of a response that must be identical: all but the request id and the date.
fn comparable(answer: &Answer) -> (u16, Vec<(String, String)>, Value) {
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    let mut body = answer.json();
    body["request_id"] = Value::Null;
    (answer.status.as_u16(), headers, body)
}

/// Sends a login, and asserts that it is refused. Returns the answer, and how many passwords the node hashed for it.
async fn expect_refused_login(node: &Node, identifier: &str, password: &str) -> (Answer, u64) {
    let before = node.state.passwords.jobs();
    let answer = node.try_login(identifier, password).await;
    assert_eq!(answer.problem(), (401, "invalid_credentials".to_owned()), "{identifier}");
    (answer, node.state.passwords.jobs() - before)
}

#[tokio::test]
async fn i7_unknown_user_wrong_password_and_disabled_account_get_identical_responses() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    for name in ["ada", "grace"] {
        node.register(name).await;
    }
    // grace is the disabled account
    let grace = accounts::find(&node.state.sql, "grace").await.unwrap();
    accounts::disable(&node.state, grace.id).await.unwrap();

    let too_long = "a".repeat(node.state.config.password.max_length + 1);
    let (wrong_password_answer, hashed) = expect_refused_login(&node, "ada", "not the password").await;
    assert_eq!(hashed, 1);
    for (identifier, password) in [
        ("nobody", PASSWORD),
        ("nobody@example.com", PASSWORD),
        ("ADA@example.com", "not the password"),
        ("grace", PASSWORD),
        ("grace@example.com", "not the password"),
        ("ada", &too_long),
        ("nobody", &too_long),
        ("ada", ""),
        ("nobody", ""),
        // neither an e-mail address nor a valid username
        ("no identifier at all \u{1f511} \0 ' OR 1=1", PASSWORD),
    ] {
        let (answer, hashed) = expect_refused_login(&node, identifier, password).await;
        assert_eq!(comparable(&answer), comparable(&wrong_password_answer), "{identifier}");
        assert_eq!(hashed, 1, "{identifier}: one hash, as for a wrong password");
    }
}
