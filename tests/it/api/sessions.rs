//! `GET /v1/sessions`, `DELETE /v1/sessions`, `DELETE /v1/sessions/{id}`.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{assert_fields, problem};
use crate::harness::{
    client::{PASSWORD, Tokens},
    test_cluster::TestCluster,
};

#[tokio::test]
async fn session_list_shows_client_of_each_session() {
    let mut cluster = TestCluster::new();
    cluster.config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let node = cluster.node().await;
    node.register("ada").await;
    let body = json!({ "identifier": "ada", "password": PASSWORD, "device": "Ada's laptop" });
    let login = node.request(Method::POST, "/v1/login").json(&body);
    // The trusted proxy appends the client's address to the header that the client sent.
    let login = login.header("x-forwarded-for", "6.6.6.6, 192.0.2.7").header("user-agent", "Browser/1");
    let first = Tokens::of(&node.send(login).await.expect(200));
    // 1 min 29.5 s: the list shows the last use to the minute, and the exact expiry
    cluster.advance(Duration::from_millis(89_500));
    let first = Tokens::of(&node.refresh(&first.refresh).await.expect(200));
    let second = node.login("ada").await;
    let answer = node.get("/v1/sessions", &first.access).await.expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    let body = answer.json();
    assert_fields(&body, &["sessions"]);
    let list = body["sessions"].as_array().unwrap();
    assert_eq!(list.len(), 2);
    // the clock of the cluster starts at 08:00:00; the idle timeout is 7 days
    let expected = json!({
        "id": first.session,
        "created_at": "2027-01-15T08:00:00.000Z",
        "last_used_at": "2027-01-15T08:01:00.000Z",
        "last_used_ip": "127.0.0.1",
        "counted_repeats": 0,
        "expires_at": "2027-01-22T08:01:29.500Z",
        "ip": "192.0.2.7",
        "user_agent": "Browser/1",
        "device": "Ada's laptop",
        "current": true,
        "browser": false,
    });
    assert_eq!(list[0], expected);
    assert_eq!(list[1]["id"], second.session);
    assert_eq!(list[1]["current"], false);
    assert_eq!(list[1]["ip"], "127.0.0.1");
}

#[tokio::test]
async fn forwarded_address_of_untrusted_peer_is_ignored() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let login = node.request(Method::POST, "/v1/login").header("x-forwarded-for", "192.0.2.7");
    let login = node.send(login.json(&json!({ "identifier": "ada", "password": PASSWORD }))).await;
    let list = node.get("/v1/sessions", &Tokens::of(&login).access).await.json();
    assert_eq!(list["sessions"][0]["ip"], "127.0.0.1");
}

#[tokio::test]
async fn delete_session_ends_no_session_of_another_account() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    node.register("bob").await;
    let (ada, other, bob) = (node.login("ada").await, node.login("ada").await, node.login("bob").await);
    let path = |session: &str| format!("/v1/sessions/{session}");
    assert_eq!(node.delete(&path(&bob.session), &ada.access).await.problem(), problem(404, "unknown_session"));
    node.get("/v1/me", &bob.access).await.expect(200);
    // not a UUID
    assert_eq!(node.delete(&path("x"), &ada.access).await.problem(), problem(400, "malformed_request"));
    assert_eq!(node.delete(&path(&other.session), &ada.access).await.expect(204).text, "");
    assert_eq!(node.refresh(&other.refresh).await.problem(), problem(401, "invalid_refresh_token"));
    assert_eq!(node.delete(&path(&other.session), &ada.access).await.problem(), problem(404, "unknown_session"));
    node.delete(&path(&ada.session), &ada.access).await.expect(204);
    assert_eq!(node.get("/v1/me", &ada.access).await.problem(), problem(401, "invalid_token"));
}

#[tokio::test]
async fn delete_sessions_ends_all_or_all_but_the_current() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (ada, other) = (node.login("ada").await, node.login("ada").await);
    let not_boolean = node.delete("/v1/sessions?keep_current=perhaps", &ada.access).await;
    assert_eq!(not_boolean.problem(), problem(400, "malformed_request"));
    let answer = node.delete("/v1/sessions?keep_current=true", &ada.access).await.expect(200);
    assert_eq!(answer.json(), json!({ "revoked": 1 }));
    node.get("/v1/me", &ada.access).await.expect(200);
    node.get("/v1/me", &other.access).await.expect(401);
    // the current session is the only one left
    let answer = node.delete("/v1/sessions", &ada.access).await.expect(200);
    assert_eq!(answer.json(), json!({ "revoked": 1 }));
    node.refresh(&ada.refresh).await.expect(401);
}

#[tokio::test]
async fn delete_sessions_with_misspelled_query_ends_nothing() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    for query in ["keep_curent=true", "keep_current=true&keep_current=false", "keep_current=true&x=1", "x"] {
        let answer = node.delete(&format!("/v1/sessions?{query}"), &tokens.access).await;
        assert_eq!(answer.problem(), problem(400, "malformed_request"), "{query}");
    }
    node.get("/v1/me", &tokens.access).await.expect(200);
}

#[tokio::test]
async fn control_characters_in_device_name_are_replaced() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    // U+202E reverses the direction of the text after it
    let body = json!({ "identifier": "ada", "password": PASSWORD, "device": "a\u{0}b\u{202e}c\n" });
    let tokens = Tokens::of(&node.post("/v1/login", body).await.expect(200));
    let list = node.get("/v1/sessions", &tokens.access).await.expect(200).json();
    assert_eq!(list["sessions"][0]["device"], "a b c ");
}
