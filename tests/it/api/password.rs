//! `POST /v1/me/password`: a signed-in user changes the password.

use super::{assert_fields, field_error, field_errors, problem};
use crate::harness::{
    client::{PASSWORD, Tokens},
    test_cluster::TestCluster,
};

#[tokio::test]
async fn password_change_requires_current_password_and_ends_other_sessions() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (tokens, other) = (node.login("ada").await, node.login("ada").await);
    let new = "gravel lantern ostrich nine";
    let answer = node.change_password(&tokens.access, "wrong", new).await;
    assert_eq!(answer.problem(), problem(403, "wrong_password"));
    assert_eq!(field_errors(&answer), [field_error("current_password", "wrong_password")]);
    let answer = node.change_password(&tokens.access, PASSWORD, "password").await;
    assert_eq!(answer.problem(), problem(422, "weak_password"));
    assert_eq!(field_errors(&answer)[0].0, "new_password");
    assert_eq!(node.change_password("not-a-token", PASSWORD, new).await.problem(), problem(401, "invalid_token"));
    // the refused changes have ended no session
    node.refresh(&other.refresh).await.expect(200);
    let changed = node.change_password(&tokens.access, PASSWORD, new).await.expect(200);
    // the new session has the transport of the caller's, which is not the cookie
    assert_eq!((changed.header("cache-control"), changed.header("set-cookie")), ("no-store", ""));
    let names = ["access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in", "session_id"];
    assert_fields(&changed.json(), &names);
    node.refresh(&Tokens::of(&changed).refresh).await.expect(200);
    for tokens in [&tokens, &other] {
        assert_eq!(node.get("/v1/me", &tokens.access).await.problem(), problem(401, "invalid_token"));
    }
    node.try_login("ada", PASSWORD).await.expect(401);
    node.try_login("ada", new).await.expect(200);
}

#[tokio::test]
async fn password_change_lists_missing_fields() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let request = node.request(reqwest::Method::POST, "/v1/me/password").bearer_auth(&tokens.access);
    let answer = node.send(request.json(&serde_json::json!({}))).await;
    assert_eq!(answer.problem(), problem(422, "invalid_fields"));
    assert_eq!(
        field_errors(&answer),
        [field_error("current_password", "required"), field_error("new_password", "required")]
    );
}
