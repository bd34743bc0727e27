//! `PATCH /v1/me`: changes of profile fields, and the refusal of invalid ones.

use latchkey::domain::profile::MAX_METADATA_BYTES;
use reqwest::Method;
use serde_json::json;

use super::{problem, signed_in};
use crate::harness::{client::PASSWORD, test_cluster::TestCluster};

#[tokio::test]
async fn profile_changes_field_by_field_and_empty_values_remove_fields() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let patch = |body| signed_in(&node, &tokens, Method::PATCH, "/v1/me", body);
    let body =
        json!({ "display_name": " Ada ", "locale": "pt-BR", "time_zone": "Europe/London", "username": "Lovelace" });
    let me = patch(body).await.expect(200).json();
    assert_eq!(me["display_name"], "Ada", "without the spaces around it");
    assert_eq!(me["locale"], "pt-BR");
    assert_eq!(me["time_zone"], "Europe/London");
    assert_eq!(me["username"], "Lovelace");

    let me = patch(json!({ "user_metadata": { "a": [1, { "b": null }] }, "locale": "" })).await.expect(200).json();
    assert_eq!(me["user_metadata"], json!({ "a": [1, { "b": null }] }));
    assert_eq!(me["display_name"], "Ada");
    assert_eq!(me.get("locale"), None);
    assert_eq!(node.get("/v1/me", &tokens.access).await.json(), me);
    // the username of the registration was replaced
    node.try_login("lovelace", PASSWORD).await.expect(200);
    node.try_login("ada", PASSWORD).await.expect(401);

    let me = patch(json!({ "username": "", "user_metadata": {} })).await.expect(200).json();
    assert_eq!(me.get("username"), None);
    assert_eq!(me.get("user_metadata"), None);
}

#[tokio::test]
async fn invalid_fields_are_listed_together_and_nothing_changes() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    node.register("grace").await;
    let tokens = node.login("ada").await;
    let patch = |body| signed_in(&node, &tokens, Method::PATCH, "/v1/me", body);
    // U+202E reverses the text after it. The JSON of the metadata is longer than the value of `x`, which has the maximum length.
    let body = json!({
        "username": "a b", "display_name": "a\u{202e}b", "locale": "english", "time_zone": "/etc",
        "user_metadata": { "x": "y".repeat(MAX_METADATA_BYTES) },
    });
    let answer = patch(body).await;
    assert_eq!(answer.problem(), problem(422, "invalid_fields"));
    let codes: Vec<_> = answer.json()["errors"].as_array().unwrap().iter().map(|error| error["code"].clone()).collect();
    assert_eq!(
        codes,
        ["invalid_username", "invalid_display_name", "invalid_locale", "invalid_time_zone", "metadata_too_large"]
    );
    // another account's username, in upper case
    assert_eq!(patch(json!({ "username": "GRACE" })).await.problem(), problem(409, "username_taken"));
    // a reserved name
    assert_eq!(patch(json!({ "username": "root" })).await.problem(), problem(422, "invalid_fields"));
    assert_eq!(patch(json!({ "user_metadata": "text" })).await.json()["errors"][0]["code"], "wrong_type");
    assert_eq!(node.get("/v1/me", &tokens.access).await.json()["username"], "ada");
}
