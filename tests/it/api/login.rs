//! `POST /v1/login` with the refresh token in JSON.

use serde_json::json;
use uuid::Uuid;

use super::{assert_fields, field_error, field_errors, problem};
use crate::harness::{client::PASSWORD, test_cluster::TestCluster};

#[tokio::test]
async fn sign_in_returns_tokens() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    for identifier in ["ada", "ADA", "ada@example.com", "Ada@EXAMPLE.com"] {
        let answer = node.try_login(identifier, PASSWORD).await.expect(200);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("set-cookie"), "", "no cookie, unless the request asks for it");
        let body = answer.json();
        let names = ["access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in", "session_id"];
        assert_fields(&body, &names);
        assert_eq!(body["token_type"], "Bearer");
        // The defaults of `token.access_ttl` and `session.idle_timeout`, in seconds.
        assert_eq!(body["expires_in"], 300);
        assert_eq!(body["refresh_expires_in"], 7 * 86_400);
        assert!(answer.text_of("refresh_token").starts_with("lk_rt_"));
        answer.text_of("session_id").parse::<Uuid>().unwrap();
    }
}

#[tokio::test]
async fn unknown_account_and_wrong_password_return_same_response() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let mut bodies = Vec::new();
    // `@` is neither an address nor a username
    for (identifier, password) in [("ada", "wrong"), ("nobody", PASSWORD), ("no@example.com", "x"), ("@", PASSWORD)] {
        let answer = node.try_login(identifier, password).await;
        assert_eq!(answer.problem(), problem(401, "invalid_credentials"));
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"latchkey\"");
        assert_eq!(answer.header("cache-control"), "no-store");
        let mut body = answer.json();
        // differs in each response
        body["request_id"] = json!(null);
        bodies.push(body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
}

#[tokio::test]
async fn sign_in_lists_all_invalid_fields() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let too_long_device = "d".repeat(64 + 1);
    let body = json!({ "identifier": "", "password": 7, "transport": "pigeon", "device": too_long_device, "x": null });
    let answer = node.post("/v1/login", body).await;
    assert_eq!(answer.problem(), problem(422, "invalid_fields"));
    let mut found = field_errors(&answer);
    found.sort();
    // in alphabetical order
    let expected = [
        field_error("device", "too_long"),
        field_error("identifier", "too_short"),
        field_error("password", "wrong_type"),
        field_error("transport", "unknown_value"),
        field_error("x", "unknown_field"),
    ];
    assert_eq!(found, expected);
}
