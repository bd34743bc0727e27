//! `POST /v1/me/password`: a signed-in user changes the password.

use super::{assert_fields, field_error, field_errors, problem};
use crate::harness::{
    client::{PASSWORD, Tokens},
    test_cluster::TestCluster,
};

#[tokio::test]
async fn password_change_requires_current_password_and_ends_earlier_sessions() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let caller = node.login("ada").await;
    let other = node.login("ada").await;
    let new = "gravel lantern ostrich nine";
    let answer = node.change_password(&caller.access, "wrong", new).await;
    assert_eq!(answer.problem(), problem(403, "wrong_password"));
    assert_eq!(field_errors(&answer), [field_error("current_password", "wrong_password")]);
    let answer = node.change_password(&caller.access, PASSWORD, "password").await;
    assert_eq!(answer.problem(), problem(422, "weak_password"));
    let (field, _code) = field_errors(&answer).remove(0);
    assert_eq!(field, "new_password");
    assert_eq!(node.change_password("not-a-token", PASSWORD, new).await.problem(), problem(401, "invalid_token"));
    // the refused changes have ended no session
    node.refresh(&other.refresh).await.expect(200);
    let changed = node.change_password(&caller.access, PASSWORD, new).await.expect(200);
    assert_eq!(changed.header("cache-control"), "no-store");
    // the new session has the transport of the caller's session: `bearer`, without a cookie
    assert_eq!(changed.header("set-cookie"), "");
    let names = ["access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in", "session_id"];
    assert_fields(&changed.json(), &names);
    node.refresh(&Tokens::of(&changed).refresh).await.expect(200);
    for ended in [&caller, &other] {
        assert_eq!(node.get("/v1/me", &ended.access).await.problem(), problem(401, "invalid_token"));
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
