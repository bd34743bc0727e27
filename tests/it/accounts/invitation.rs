//! Invitations and password resets that an admin or a service client starts: `POST /v1/users/invite`, `POST /v1/users/reset`.

use latchkey::{
    domain::account::Roles,
    service::{accounts, clients::NewClient},
};
use reqwest::Method;
use serde_json::json;

use super::{NEW_PASSWORD, email, first_mail, problem, reset, signed_in};
use crate::harness::{
    client::{Answer, PASSWORD, Tokens},
    test_cluster::{Node, ServiceClient, TestCluster},
};

/// Sends a JSON request with the credentials of a service client.
async fn as_client(node: &Node, client: &ServiceClient, path: &str, body: serde_json::Value) -> Answer {
    let request = node.request(Method::POST, path).basic_auth(&client.id, Some(&client.secret));
    node.send(request.json(&body)).await
}

/// A service client that may invite users and start resets.
async fn recovery_client(cluster: &TestCluster) -> ServiceClient {
    let scopes = vec!["accounts:recover".to_owned()];
    cluster.service_client_with(NewClient { name: "crm".to_owned(), scopes, ..NewClient::default() }).await
}

#[tokio::test]
async fn admin_invites_by_mail_and_the_owner_sets_the_password() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let id = node.register("ada").await.text_of("id").parse().unwrap();
    let user = node.login("ada").await;
    let body = json!({ "email": email("grace"), "username": "grace" });
    let answer = signed_in(&node, &user, Method::POST, "/v1/users/invite", body.clone()).await;
    assert_eq!(answer.problem(), problem(403, "forbidden"));
    let (added, removed) = (Roles::parse(["admin"]).unwrap(), Roles::default());
    accounts::change_roles(&node.state, id, &added, &removed).await.unwrap();
    // The earlier access token doesn't have the new role.
    let admin = Tokens::of(&node.refresh(&user.refresh).await.expect(200));
    let answer = signed_in(&node, &admin, Method::POST, "/v1/users/invite", body).await.expect(202);
    assert_eq!(answer.json().as_object().unwrap().len(), 1, "no link and no code: {}", answer.text);
    let (token, _) = first_mail(&cluster, "grace", "invitation").await;
    // The invited account has no password yet.
    node.try_login("grace", "").await.expect(401);
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    let grace = node.login_with("grace", NEW_PASSWORD).await;
    assert_eq!(node.get("/v1/me", &grace.access).await.json()["email_verified"], true);
    let body = json!({ "email": email("eve"), "delivery": "return" });
    let answer = signed_in(&node, &admin, Method::POST, "/v1/users/invite", body).await;
    assert_eq!(answer.problem(), problem(403, "forbidden"), "an admin never sees a link");
}

#[tokio::test]
async fn service_client_with_the_scope_gets_link_and_code_for_its_own_mail() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = recovery_client(&cluster).await;
    let without_scope = cluster.service_client("other").await;
    let body = json!({ "email": email("grace"), "delivery": "return" });
    let answer = as_client(&node, &without_scope, "/v1/users/invite", body.clone()).await;
    assert_eq!(answer.problem(), problem(403, "forbidden"));
    let answer = as_client(&node, &client, "/v1/users/invite", body).await.expect(202);
    let code = answer.text_of("code");
    assert!(answer.text_of("link").contains(&answer.text_of("token")));
    let body = json!({ "identifier": email("grace"), "code": code, "new_password": NEW_PASSWORD });
    node.post("/v1/password/reset", body).await.expect(204);
    node.try_login(&email("grace"), NEW_PASSWORD).await.expect(200);

    let body = json!({ "account": email("grace"), "delivery": "return" });
    let answer = as_client(&node, &client, "/v1/users/reset", body).await.expect(202);
    // The start of a reset does not change the password.
    node.try_login(&email("grace"), NEW_PASSWORD).await.expect(200);
    reset(&node, &answer.text_of("token"), PASSWORD).await.expect(204);
    node.try_login(&email("grace"), PASSWORD).await.expect(200);
    let mails = cluster.mails_to(&email("grace"));
    assert!(
        mails.iter().all(|mail| mail.file.contains("password_changed")),
        "Latchkey mails notices only, and neither link nor code: {mails:?}"
    );
    let answer = as_client(&node, &client, "/v1/users/reset", json!({ "account": "nobody" })).await;
    assert_eq!(answer.problem(), problem(404, "unknown_account"));
    let answer = as_client(&node, &client, "/v1/users/invite", json!({ "email": email("grace") })).await;
    assert_eq!(answer.problem(), problem(409, "email_taken"));
}

#[tokio::test]
async fn invitation_needs_credentials() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let answer = node.post("/v1/users/invite", json!({ "email": email("grace") })).await;
    assert_eq!(answer.problem(), problem(401, "authentication_required"));
    node.register("ada").await;
    let no_admin = node.login("ada").await;
    let answer = signed_in(&node, &no_admin, Method::POST, "/v1/users/invite", json!({ "email": "no address" })).await;
    assert_eq!(answer.problem(), problem(403, "forbidden"), "not the error of the address");
    let unknown_client = ServiceClient { id: "crm".to_owned(), secret: "wrong".to_owned() };
    let answer = as_client(&node, &unknown_client, "/v1/users/invite", json!({ "email": email("grace") })).await;
    assert_eq!(answer.problem(), problem(401, "invalid_client"));
}
