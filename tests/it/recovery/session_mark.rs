//! A revoked session stays revoked (I3) even if Redis is restored from an old copy: nodes detect the restore by a mark, and end all
//! sessions of that Redis.

use std::{path::Path, process::Command, time::Duration};

use latchkey::service::session_mark::{self, TOLERANCE};
use rustix::process::Signal;
use sqlx::{AnyConnection, Connection};

use crate::{
    binary::{Service, run},
    harness::{
        client::{Client, Tokens},
        database::execute_sql,
        log::Log,
        test_cluster::TestCluster,
    },
};

const MINUTE: Duration = Duration::from_mins(1);

/// The Redis key of the mark: the time that nodes write to Redis and to the database once a minute.
const MARK_KEY: &str = "lk:m";

/// Whether the session is live: its refresh token is accepted. The tokens can be passed again, as a repeat in the grace window.
async fn can_refresh(client: &Client, tokens: &Tokens) -> bool {
    let answer = client.refresh(&tokens.refresh).await;
    if answer.status == 200 {
        return true;
    }
    let (_, code) = answer.problem();
    assert_eq!(code, "invalid_refresh_token");
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_emptied_while_a_node_runs_is_logged_as_a_warning_about_all_users() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let mut last_mark = None;
    session_mark::check(&node.state, &mut last_mark).await.unwrap();
    // The warning contains the time of the mark that Redis has lost.
    let lost_mark = last_mark.unwrap().to_string();
    cluster.redis.command(&["FLUSHALL"]);
    let log = Log::start();
    session_mark::check(&node.state, &mut last_mark).await.unwrap();
    let text = String::from_utf8_lossy(&log.bytes()).into_owned();
    let line = text.lines().find(|line| line.contains("Redis has no sessions") && line.contains(&lost_mark)).unwrap();
    assert!(line.contains("WARN") && line.contains("All users must sign in again"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_sessions_of_a_redis_older_than_the_database_end_on_all_nodes() {
    let cluster = TestCluster::new();
    let nodes = [cluster.node().await, cluster.node().await];
    cluster.wait_for_peers().await;
    nodes[0].register("ada").await;
    // The last mark that each node knows.
    let mut last_marks = [None, None];
    session_mark::check(&nodes[0].state, &mut last_marks[0]).await.unwrap();
    let old_mark = cluster.redis.command(&["GET", MARK_KEY]);
    let session = nodes[0].login("ada").await;

    // A failover may lose the last mark, so that Redis has the mark before it. No session ends then.
    cluster.advance(MINUTE);
    session_mark::check(&nodes[0].state, &mut last_marks[0]).await.unwrap();
    session_mark::check(&nodes[1].state, &mut last_marks[1]).await.unwrap();
    assert_ne!(cluster.redis.command(&["GET", MARK_KEY]), old_mark);
    cluster.redis.command(&["SET", MARK_KEY, &old_mark]);
    session_mark::check(&nodes[0].state, &mut last_marks[0]).await.unwrap();
    let session = Tokens::of(&nodes[1].refresh(&session.refresh).await.expect(200));

    // If Redis' mark is more than the tolerance (2 min) behind the database's, Redis was restored. The old mark is three minutes behind.
    cluster.advance(TOLERANCE);
    session_mark::check(&nodes[0].state, &mut last_marks[0]).await.unwrap();
    assert!(can_refresh(&nodes[0].client, &session).await);
    cluster.redis.command(&["SET", MARK_KEY, &old_mark]);
    session_mark::check(&nodes[1].state, &mut last_marks[1]).await.unwrap();
    for node in &nodes {
        assert!(!can_refresh(&node.client, &session).await);
    }

    // The last check has written a new mark, so later sessions continue.
    let session = nodes[1].login("ada").await;
    for (node, last_mark) in nodes.iter().zip(&mut last_marks) {
        session_mark::check(&node.state, last_mark).await.unwrap();
    }
    assert!(can_refresh(&nodes[0].client, &session).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_redis_without_a_mark_ends_its_sessions_only_if_the_database_has_one() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let session = node.login("ada").await;
    // At the first start of a release with marks, neither Redis nor the database has one. The check writes both.
    let mut last_mark = None;
    session_mark::check(&node.state, &mut last_mark).await.unwrap();
    assert!(can_refresh(&node.client, &session).await);
    cluster.redis.command(&["DEL", MARK_KEY]);
    // as if the node had started again: it knows no mark before its first check
    last_mark = None;
    session_mark::check(&node.state, &mut last_mark).await.unwrap();
    assert!(!can_refresh(&node.client, &session).await);
}

fn copy_folder(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_session_that_ended_after_the_copy_of_redis_stays_ended() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("latchkey-data");
    let service = Service::start(folder.path());
    service.client.register("ada").await;
    let session = service.client.login("ada").await;
    // The first check writes the mark.
    crate::harness::wait::until("the mark is written", || async { marked_at(&data).await.is_some() }).await;
    service.end(Signal::TERM);
    copy_folder(&data.join("redis"), &folder.path().join("copy"));

    let service = Service::start(folder.path());
    service.client.logout(&session.refresh).await.expect(204);
    service.end(Signal::TERM);
    // as if the service had run for three more minutes: longer than the tolerance
    let three_minutes_ms = 180_000;
    let later = marked_at(&data).await.unwrap() + three_minutes_ms;
    execute_sql(&database_url(&data), &format!("UPDATE session_mark SET marked_at = {later}")).await;

    std::fs::remove_dir_all(data.join("redis")).unwrap();
    copy_folder(&folder.path().join("copy"), &data.join("redis"));
    let service = Service::start(folder.path());
    // The sessions have ended before the node serves.
    assert!(!can_refresh(&service.client, &session).await);
    assert!(service.log().contains("all sessions ended: users sign in again"), "{}", service.log());
    service.client.login("ada").await;
}

/// The URL of the database of a service with this data folder.
fn database_url(data: &Path) -> String {
    format!("sqlite://{}/latchkey.db", data.display())
}

/// The mark in the database, in milliseconds since the Unix epoch.
async fn marked_at(data: &Path) -> Option<i64> {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(&database_url(data)).await.unwrap();
    let row: Option<(i64,)> =
        sqlx::query_as("SELECT marked_at FROM session_mark").fetch_optional(&mut connection).await.unwrap();
    row.map(|(mark,)| mark)
}

/// An operator runs this command after a restore that nodes don't detect by the mark (docs/operations.md).
#[tokio::test(flavor = "multi_thread")]
async fn session_revoke_everyone_ends_the_sessions_of_all_accounts() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let mut sessions = Vec::new();
    for name in ["ada", "bob"] {
        service.client.register(name).await;
        sessions.push(service.client.login(name).await);
    }
    let refused = run(folder.path(), &["session", "revoke", "--everyone"]);
    assert_eq!(refused.status.code(), Some(1), "the command needs --yes");
    let done = run(folder.path(), &["session", "revoke", "--everyone", "--yes"]);
    assert!(String::from_utf8_lossy(&done.stdout).contains("2 sessions"), "{done:?}");
    for tokens in &sessions {
        assert!(!can_refresh(&service.client, tokens).await);
    }
}
