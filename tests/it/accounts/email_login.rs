//! Sign-in by a link or a code in a mail: `POST /v1/login/code` and `POST /v1/login/code/verify`.

use serde_json::json;

use super::{NEW_PASSWORD, email, first_mail, next_mail, problem, remove_mail_and_login_limits, request_reset, reset};
use crate::harness::{
    client::{Client, PASSWORD, Tokens},
    test_cluster::TestCluster,
};

/// Requests a code for a sign-in by mail. Returns the id of the request.
async fn request_code(node: &Client, name: &str) -> String {
    node.post("/v1/login/code", json!({ "email": email(name) })).await.expect(202).text_of("request")
}

fn cluster() -> TestCluster {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    cluster.config.login.email_code = true;
    cluster
}

#[tokio::test]
async fn sign_in_by_mail_is_off_by_default() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let answer = node.post("/v1/login/code", json!({ "email": email("ada") })).await;
    assert_eq!(answer.problem(), problem(403, "login_method_off"));
    let body = json!({ "request": "x", "token": "x" });
    assert_eq!(node.post("/v1/login/code/verify", body).await.problem(), problem(403, "login_method_off"));
}

#[tokio::test]
async fn code_and_link_sign_in_only_where_they_were_requested() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    // A reset verifies the address, so the sign-in by mail keeps the password.
    let (reset_token, _) = request_reset(&cluster, &node, "ada").await;
    reset(&node, &reset_token, NEW_PASSWORD).await.expect(204);
    let request_of_nobody = request_code(&node, "nobody").await;
    let request_of_ada = request_code(&node, "ada").await;
    let (_link_token, code) = first_mail(&cluster, "ada", "sign_in_code").await;
    let verify = |request: &str, code: &str| {
        let body = json!({ "request": request, "email": email("ada"), "code": code, "device": "Ada's laptop" });
        node.post("/v1/login/code/verify", body)
    };
    assert_eq!(verify(&request_of_nobody, &code).await.problem(), problem(401, "invalid_code"));
    let tokens = Tokens::of(&verify(&request_of_ada, &code).await.expect(200));
    node.refresh(&tokens.refresh).await.expect(200);
    assert_eq!(verify(&request_of_ada, &code).await.problem(), problem(401, "invalid_code"), "a code works once");
    node.try_login("ada", NEW_PASSWORD).await.expect(200);

    let second_request = request_code(&node, "ada").await;
    let earlier_mails = 1;
    let (link_token, _) = next_mail(&cluster, "ada", earlier_mails, "sign_in_code").await;
    let body = json!({ "request": second_request, "token": link_token, "transport": "cookie" });
    let request = node.request(reqwest::Method::POST, "/v1/login/code/verify").json(&body);
    // The headers of a page on the same site: a page of another site would not get the cookie.
    let request = request.header("origin", "https://auth.example.com").header("sec-fetch-site", "same-origin");
    let answer = node.send(request).await.expect(200);
    let mut cookies = answer.headers.get_all("set-cookie").iter();
    assert!(cookies.any(|cookie| cookie.as_bytes().starts_with(b"__Host-latchkey=")));
    assert!(answer.json()["refresh_token"].is_null(), "{answer:?}");
}

#[tokio::test]
async fn sign_in_by_mail_to_an_unverified_address_ends_earlier_sessions_and_removes_the_password() {
    let cluster = cluster();
    let node = cluster.node().await;
    // The person who registers the account does not own its address, and never verifies it.
    node.register("ada").await;
    let squatter = node.login("ada").await;
    let request = request_code(&node, "ada").await;
    let (_, code) = first_mail(&cluster, "ada", "sign_in_code").await;
    let body = json!({ "request": request, "email": email("ada"), "code": code });
    let tokens = Tokens::of(&node.post("/v1/login/code/verify", body).await.expect(200));
    node.refresh(&squatter.refresh).await.expect(401);
    node.try_login("ada", PASSWORD).await.expect(401);
    assert_eq!(node.get("/v1/me", &tokens.access).await.json()["email_verified"], true);
}
