//! A database that is locked or restarted. Sessions continue: their refreshes and token checks do not need it.

use std::time::Duration;

use latchkey::service::readiness::{self, Status};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use sqlx::{Connection, Executor, SqliteConnection};

use super::{refresh_with_retries, retry_until};
use crate::{
    degradation::assert_unavailable,
    harness::{client::PASSWORD, postgres::Postgres, test_cluster::TestCluster, wait},
};

const NEW_PASSWORD: &str = "lantern orchid seventeen";

fn registration(name: &str) -> serde_json::Value {
    json!({ "email": format!("{name}@example.com"), "password": PASSWORD })
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_sqlite_refuses_changes_and_keeps_logins_working() {
    let mut cluster = TestCluster::new();
    // A request that needs the lock is refused after this time.
    cluster.config.database.acquire_timeout = Duration::from_millis(200);
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;

    // This connection takes the write lock, as another process might.
    let mut lock_holder = SqliteConnection::connect(cluster.config.database.url.expose()).await.unwrap();
    lock_holder.execute("BEGIN IMMEDIATE").await.unwrap();
    assert_unavailable(&node.post("/v1/users", registration("bob")).await);
    assert_unavailable(&node.change_password(&tokens.access, PASSWORD, NEW_PASSWORD).await);
    // A sign-in and `/v1/me` only read the database.
    node.login("ada").await;
    let tokens = refresh_with_retries(&node, &tokens).await;
    node.get("/v1/me", &tokens.access).await.expect(200);

    lock_holder.execute("COMMIT").await.unwrap();
    node.post("/v1/users", registration("bob")).await.expect(201);
    node.change_password(&tokens.access, PASSWORD, NEW_PASSWORD).await.expect(200);
}

/// Stops PostgreSQL so that it can restart with all its data.
async fn stop(postgres: &Postgres) {
    // the tests' PostgreSQL writes to the disk at checkpoints only, and SIGQUIT ends it without one
    postgres.execute("CHECKPOINT").await;
    postgres.guard().signal(Signal::QUIT);
    wait::until("PostgreSQL has ended", || async { postgres.has_ended() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_answers_503_while_postgres_is_down_and_recovers_after_its_restart() {
    let postgres = Postgres::start().unwrap();
    let mut cluster = TestCluster::new();
    cluster.config.database.url = postgres.url(&postgres.create_database().await).into();
    cluster.config.database.acquire_timeout = Duration::from_millis(500);
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;

    stop(&postgres).await;
    assert_unavailable(&node.try_login("ada", PASSWORD).await);
    assert_unavailable(&node.post("/v1/users", registration("bob")).await);
    assert_unavailable(&node.get("/v1/me", &tokens.access).await);
    assert_unavailable(&node.change_password(&tokens.access, PASSWORD, NEW_PASSWORD).await);
    wait::until("the node is not ready", || async { node.get_anonymously("/readyz").await.status == 503 }).await;
    let checks = readiness::check(&node.state).await;
    let [redis, database] = &checks[..] else { panic!("{checks:?}") };
    assert_eq!(redis.status, Status::Ok, "{redis:?}");
    assert_eq!(database.status, Status::Failed, "{database:?}");
    // The problem leaves out the end of sqlx's text: ` at line N`, a line of PostgreSQL's source code.
    let problem = &database.problems[0].text;
    assert!(problem.contains("database.url, "), "{problem}");
    assert!(!problem.contains(" at line "), "{problem}");
    let tokens = refresh_with_retries(&node, &tokens).await;
    node.get("/v1/verify", &tokens.access).await.expect(200);
    node.get("/v1/sessions", &tokens.access).await.expect(200);
    node.get_anonymously("/.well-known/jwks.json").await.expect(200);

    // the server runs until this is dropped
    let _restarted = postgres.restart();
    retry_until("a login succeeds", 200, || node.try_login("ada", PASSWORD)).await;
    retry_until("an account is created", 201, || node.post("/v1/users", registration("bob"))).await;
    node.get("/v1/me", &tokens.access).await.expect(200);
    wait::until("the node is ready", || async { node.get_anonymously("/readyz").await.status == 200 }).await;
    node.stop().await;
}

/// Another node may have created the key of the token.
#[tokio::test(flavor = "multi_thread")]
async fn token_of_unknown_key_is_refused_only_after_the_keys_could_be_read() {
    let postgres = Postgres::start().unwrap();
    let mut cluster = TestCluster::new();
    cluster.config.database.url = postgres.url(&postgres.create_database().await).into();
    cluster.config.database.acquire_timeout = Duration::from_millis(500);
    // Without this setting, a node that has no peers refuses the token at once.
    cluster.config.multi_node = true;
    let node = cluster.node().await;
    // the key of a cluster with another database
    let other_cluster = TestCluster::new();
    let other_node = other_cluster.node().await;
    other_node.register("ada").await;
    let token = other_node.login("ada").await.access;
    let logout = || node.send(node.request(Method::POST, "/v1/logout").bearer_auth(&token));

    node.get("/v1/me", &token).await.expect(401);
    logout().await.expect(204);

    stop(&postgres).await;
    // An unknown key makes the node read the keys at most once a second: here for the first call, and not for the second.
    let to_next_read = Duration::from_secs(2);
    cluster.advance(to_next_read);
    assert_unavailable(&node.get("/v1/me", &token).await);
    assert_unavailable(&logout().await);

    // the server runs until this is dropped
    let _restarted = postgres.restart();
    let get_after_next_read = || {
        cluster.advance(to_next_read);
        node.get("/v1/me", &token)
    };
    retry_until("the token is refused", 401, get_after_next_read).await;
    logout().await.expect(204);
    node.stop().await;
}
