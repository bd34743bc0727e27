//! A database that is locked or restarted. Sessions continue: their refreshes and token checks do not need it.

use std::time::Duration;

use latchkey::service::readiness::{self, Status};
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

#[tokio::test(flavor = "multi_thread")]
async fn node_answers_503_while_postgres_is_down_and_recovers_after_its_restart() {
    let postgres = Postgres::start().unwrap();
    let mut cluster = TestCluster::new();
    cluster.config.database.url = postgres.url(&postgres.create_database().await).into();
    cluster.config.database.acquire_timeout = Duration::from_millis(500);
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;

    // the tests' PostgreSQL writes to the disk at checkpoints only, and SIGQUIT ends it without one
    postgres.execute("CHECKPOINT").await;
    postgres.guard().signal(Signal::QUIT);
    wait::until("PostgreSQL has ended", || async { postgres.has_ended() }).await;
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
