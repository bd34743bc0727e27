//! Registration with `POST /v1/users`.

use latchkey::domain::{account::Roles, ids::AccountId};
use reqwest::Method;
use serde_json::json;

use super::{assert_fields, field_error, field_errors, problem};
use crate::harness::{
    client::PASSWORD,
    test_cluster::{Node, TestCluster},
};

/// Sets the role `admin` of an account, directly in the database.
async fn make_admin(node: &Node, id: &str) {
    let mut change = node.state.sql.change_account(AccountId(id.parse().unwrap())).await.unwrap().unwrap();
    change.set_roles(&Roles::parse(["admin"]).unwrap(), node.state.clock.now()).await.unwrap();
    change.commit().await.unwrap();
}

#[tokio::test]
async fn registration_returns_account() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let registered = node.register("Ada").await;
    assert!(registered.header("content-type").starts_with("application/json"));
    assert_eq!(registered.header("cache-control"), "no-store");
    let body = registered.json();
    assert_fields(&body, &["id", "email", "username", "roles", "created_at", "password_changed_at", "email_verified"]);
    assert_eq!(body["email"], "Ada@example.com");
    assert_eq!(body["username"], "Ada");
    assert_eq!(body["roles"], json!([]));
    assert_eq!(body["created_at"], "2027-01-15T08:00:00.000Z", "the test's clock starts then and stands still");
    let body = json!({ "email": "b@example.com", "password": PASSWORD });
    let without_username = node.post("/v1/users", body).await.expect(201).json();
    assert_fields(&without_username, &["id", "email", "roles", "created_at", "password_changed_at", "email_verified"]);
}

#[tokio::test]
async fn taken_address_or_username_is_refused_in_any_case() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let again = node.post("/v1/users", json!({ "email": "ADA@Example.com", "password": PASSWORD })).await;
    assert_eq!(again.problem(), problem(409, "email_taken"));
    assert_eq!(field_errors(&again), [field_error("email", "taken")]);
    let body = json!({ "email": "other@example.com", "username": "ADA", "password": PASSWORD });
    let again = node.post("/v1/users", body).await;
    assert_eq!(again.problem(), problem(409, "username_taken"));
    assert_eq!(field_errors(&again), [field_error("username", "taken")]);
}

#[tokio::test]
async fn weak_passwords_are_refused_and_unicode_passwords_are_kept_exactly() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let register = |name: &str, password: &str| {
        node.post("/v1/users", json!({ "email": format!("{name}@example.com"), "password": password }))
    };
    // 128 characters, the maximum
    let longest = "tidal engine verse marmalade ".repeat(5)[..128].to_owned();
    let too_long = format!("{longest}x");
    let (too_short, common, name_of_service) = ("xq7!z", "password1", "latchkey");
    for weak in [too_short, common, name_of_service, &too_long] {
        let answer = register("weak", weak).await;
        assert_eq!(answer.problem(), problem(422, "weak_password"), "{weak}");
        let (field, _) = &field_errors(&answer)[0];
        assert_eq!(field, "password");
        // the type of each problem contains the service's name
        if weak != name_of_service {
            assert!(!answer.text.contains(weak), "the response quotes the password");
        }
    }
    let unicode = " pässwörter 鍵と錠 🔑 marmelade ";
    for (name, password) in [("longest", longest.as_str()), ("unicode", unicode)] {
        register(name, password).await.expect(201);
        let identifier = format!("{name}@example.com");
        node.try_login(&identifier, password).await.expect(200);
        let with_other_spaces = format!("{} ", password.trim());
        node.try_login(&identifier, &with_other_spaces).await.expect(401);
        node.try_login(&identifier, &password.to_uppercase()).await.expect(401);
    }
}

#[tokio::test]
async fn registration_lists_all_invalid_fields() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let answer = node.post("/v1/users", json!({ "email": 1, "username": true, "nickname": "x" })).await;
    assert_eq!(answer.problem(), problem(422, "invalid_fields"));
    let expected = [
        field_error("password", "required"),
        field_error("email", "wrong_type"),
        field_error("nickname", "unknown_field"),
        field_error("username", "wrong_type"),
    ];
    assert_eq!(field_errors(&answer), expected);
    let answer = node.post("/v1/users", json!({ "email": "ada", "username": "a b", "password": PASSWORD })).await;
    assert_eq!(answer.problem(), problem(422, "invalid_fields"));
    assert_eq!(
        field_errors(&answer),
        [field_error("email", "invalid_email"), field_error("username", "invalid_username")]
    );
    let answer = node.post("/v1/users", json!({ "email": "nope", "username": "a b", "password": "short" })).await;
    assert_eq!(answer.problem(), problem(422, "invalid_fields"));
    let all = [
        field_error("email", "invalid_email"),
        field_error("username", "invalid_username"),
        field_error("password", "password_too_short"),
    ];
    assert_eq!(field_errors(&answer), all);
    let detail = answer.text_of("detail");
    assert!(all.iter().all(|(field, _)| detail.contains(&format!("{field}: "))), "{detail}");
}

#[tokio::test]
async fn closed_registration_is_for_admins_only() {
    let mut cluster = TestCluster::new();
    // the accounts are registered while registration is open
    let open_node = cluster.node().await;
    let grace_id = open_node.register("grace").await.text_of("id");
    open_node.register("ada").await;
    make_admin(&open_node, &grace_id).await;
    cluster.config.registration.open = false;
    let node = cluster.node().await;
    let body = json!({ "email": "new@example.com", "password": PASSWORD });
    let register_as =
        |access_token: &str| node.send(node.request(Method::POST, "/v1/users").bearer_auth(access_token).json(&body));
    assert_eq!(node.post("/v1/users", body.clone()).await.problem(), problem(403, "registration_closed"));
    let user_token = node.login("ada").await.access;
    assert_eq!(register_as(&user_token).await.problem(), problem(403, "registration_closed"));
    assert_eq!(register_as("nonsense").await.problem(), problem(401, "invalid_token"));
    let admin_token = node.login("grace").await.access;
    register_as(&admin_token).await.expect(201);
}
