//! Calls while Redis, the database or the mail server fails: the answer is clear, and no change is half made.
//!
//! The tests that stop Redis run on several threads: the thread that restarts the server waits until the server is ready.

use std::time::Duration;

use latchkey::{config::SmtpSecurity, store::sql::Sql};
use reqwest::Method;
use serde_json::json;

use super::{
    NEW_PASSWORD, email, emails, first_mail, problem, remove_mail_and_login_limits, request_address_change,
    request_reset, reset, signed_in, verify_address,
};
use crate::{
    degradation::wait_until_ready,
    harness::{client::PASSWORD, smtp::SmtpServer, test_cluster::TestCluster, wait},
    mail::{newest_row, wait_for_failed_attempt},
    store::server::Redis,
};

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_redis_answer_503_and_leave_link_and_password_unchanged() {
    let mut server = Redis::start();
    let mut cluster = crate::degradation::cluster(&server);
    remove_mail_and_login_limits(&mut cluster);
    let node = cluster.node().await;
    node.register("ada").await;
    let (token, _) = request_reset(&cluster, &node, "ada").await;
    server.kill();
    for (path, body) in [
        ("/v1/password/forgot", json!({ "identifier": "ada" })),
        ("/v1/password/reset", json!({ "token": token, "new_password": NEW_PASSWORD })),
        ("/v1/email/verification", json!({ "email": email("ada") })),
        ("/v1/email/verify", json!({ "token": token, "password": PASSWORD })),
        ("/v1/email/undo", json!({ "token": token })),
        ("/v1/account/secure", json!({ "token": token })),
    ] {
        let answer = node.post(path, body).await;
        assert_eq!(answer.problem(), problem(503, "unavailable"), "{path}");
        assert!(!answer.header("retry-after").is_empty(), "{path}");
    }
    server.restart();
    wait_until_ready(&node).await;
    node.try_login("ada", PASSWORD).await.expect(200);
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    node.try_login("ada", NEW_PASSWORD).await.expect(200);
}

/// A change writes an audit entry, so it fails without the table of the audit log. By then it has consumed the link, and restores it.
#[tokio::test]
async fn change_that_the_database_refuses_keeps_the_link_valid() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (token, _) = request_reset(&cluster, &node, "ada").await;
    cluster.execute_sql("ALTER TABLE audit RENAME TO audit_gone").await;
    assert_eq!(reset(&node, &token, NEW_PASSWORD).await.status, 500);
    node.try_login("ada", PASSWORD).await.expect(200);
    cluster.execute_sql("ALTER TABLE audit_gone RENAME TO audit").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    node.try_login("ada", NEW_PASSWORD).await.expect(200);
}

#[tokio::test]
async fn change_of_address_whose_mail_cannot_be_stored_changes_nothing_and_can_be_repeated() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    cluster.execute_sql("ALTER TABLE mail_outbox RENAME TO outbox_gone").await;
    let body = json!({ "email": email("new") });
    let answer = signed_in(&node, &tokens, Method::POST, "/v1/me/email", body).await;
    assert_eq!(answer.status, 500);
    let sql: Sql = cluster.sql_unmigrated().await;
    let id = node.get("/v1/me", &tokens.access).await.text_of("id").parse().unwrap();
    assert_eq!(sql.pending_address(id, cluster.clock.now()).await.unwrap(), None);
    assert_eq!(node.get("/v1/me", &tokens.access).await.text_of("email"), email("ada"));
    cluster.execute_sql("ALTER TABLE outbox_gone RENAME TO mail_outbox").await;
    // Otherwise background work of the failed call could still send a mail after the repeated call.
    wait::until("the node has no background work", || async { node.state.background.is_empty() }).await;
    request_address_change(&cluster, &node, &tokens, "new").await;
}

/// The mail waits in the outbox: the call is answered as usual, and the link works once the server has accepted the mail.
#[tokio::test]
async fn reset_requested_while_smtp_is_down_is_mailed_once_the_server_is_up() {
    let server = SmtpServer::start(SmtpSecurity::StartTls, None);
    let mut cluster = TestCluster::new();
    cluster.config.mail.transport = server.transport();
    let node = cluster.node().await;
    node.register("ada").await;
    server.refuse_connections();
    node.post("/v1/password/forgot", json!({ "identifier": "ada" })).await.expect(202);
    wait_for_failed_attempt(&node.state.sql).await;
    node.try_login("ada", PASSWORD).await.expect(200);
    server.accept_connections();
    let due_at = newest_row(&node.state.sql).await.unwrap().due_at;
    cluster.advance(due_at.saturating_since(cluster.clock.now()) + Duration::from_millis(1));
    let received = server.wait_for(1).await.remove(0);
    reset(&node, received.mail.token(), NEW_PASSWORD).await.expect(204);
    node.try_login("ada", NEW_PASSWORD).await.expect(200);
}

#[tokio::test]
async fn verification_and_change_of_address_that_the_database_refuses_keep_the_link_valid() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    node.post("/v1/email/verification", json!({ "email": email("ada") })).await.expect(202);
    let (verification_link, _) = first_mail(&cluster, "ada", "verify_address").await;
    let (change_link, _) = request_address_change(&cluster, &node, &tokens, "new").await;
    let use_link = |token: &str| signed_in(&node, &tokens, Method::POST, "/v1/email/verify", json!({ "token": token }));
    // both changes fail, because their audit entries can't be stored
    cluster.execute_sql("ALTER TABLE audit RENAME TO audit_gone").await;
    for link in [&verification_link, &change_link] {
        assert_eq!(use_link(link).await.status, 500);
    }
    let me = node.get("/v1/me", &tokens.access).await.expect(200).json();
    assert_eq!(me["email"], email("ada"));
    assert_eq!(me["email_verified"], false);
    cluster.execute_sql("ALTER TABLE audit_gone RENAME TO audit").await;
    use_link(&verification_link).await.expect(204);
    // a change of address answers with the tokens of a new session
    use_link(&change_link).await.expect(200);
    node.try_login(&email("new"), PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn change_of_address_and_sign_in_by_mail_interrupted_by_a_redis_outage_complete_after_it() {
    let mut server = Redis::start();
    let mut cluster = crate::degradation::cluster(&server);
    remove_mail_and_login_limits(&mut cluster);
    cluster.config.login.email_code = true;
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    let request = node.post("/v1/login/code", json!({ "email": email("ada") })).await.expect(202).text_of("request");
    let (_, code) = first_mail(&cluster, "ada", "sign_in_code").await;
    let sign_in = json!({ "email": email("ada"), "code": code, "request": request });
    let (token, _) = request_address_change(&cluster, &node, &tokens, "new").await;
    server.kill();
    let post_signed_in = |path, body| signed_in(&node, &tokens, Method::POST, path, body);
    for answer in [
        node.post("/v1/login/code", json!({ "email": email("ada") })).await,
        node.post("/v1/login/code/verify", sign_in.clone()).await,
        post_signed_in("/v1/email/verify", json!({ "token": token })).await,
        post_signed_in("/v1/me/email", json!({ "email": email("other") })).await,
        signed_in(&node, &tokens, Method::DELETE, "/v1/me", json!({})).await,
    ] {
        assert_eq!(answer.problem(), problem(503, "unavailable"));
        assert!(!answer.header("retry-after").is_empty());
    }
    server.restart();
    wait_until_ready(&node).await;
    assert_eq!(node.get("/v1/me", &tokens.access).await.expect(200).json()["email"], email("ada"));
    node.post("/v1/login/code/verify", sign_in).await.expect(200);
    post_signed_in("/v1/email/verify", json!({ "token": token })).await.expect(200);
    node.try_login(&email("new"), PASSWORD).await.expect(200);
}

/// A call that fails because of the database (500) or Redis (503) changes no address, and the link of a mail still works.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_secondary_addresses_without_database_or_redis_change_nothing_and_complete_later() {
    let mut server = Redis::start();
    let mut cluster = crate::degradation::cluster(&server);
    remove_mail_and_login_limits(&mut cluster);
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    let (id, tokens) = emails::add_verified(&cluster, &node, &tokens, "work").await;
    let (_, token, _) = emails::add(&cluster, &node, &tokens, "home").await;
    let before = emails::list(&node, &tokens).await;
    let calls = || async {
        let work = format!("/v1/me/emails/{id}");
        let make_primary = format!("{work}/primary");
        [
            signed_in(&node, &tokens, Method::POST, "/v1/me/emails", json!({ "email": email("new") })).await,
            signed_in(&node, &tokens, Method::POST, "/v1/email/verify", json!({ "token": token })).await,
            signed_in(&node, &tokens, Method::POST, &make_primary, json!({})).await,
            signed_in(&node, &tokens, Method::DELETE, &work, json!({})).await,
        ]
    };
    cluster.execute_sql("ALTER TABLE audit RENAME TO audit_gone").await;
    for answer in calls().await {
        assert_eq!(answer.status, 500, "{answer:?}");
    }
    cluster.execute_sql("ALTER TABLE audit_gone RENAME TO audit").await;
    assert_eq!(emails::list(&node, &tokens).await, before);
    server.kill();
    for answer in calls().await {
        assert_eq!(answer.problem(), problem(503, "unavailable"));
    }
    server.restart();
    wait_until_ready(&node).await;
    assert_eq!(emails::list(&node, &tokens).await, before);
    let verified = signed_in(&node, &tokens, Method::POST, "/v1/email/verify", json!({ "token": token })).await;
    verified.expect(200);
    node.try_login(&email("home"), PASSWORD).await.expect(200);
}
