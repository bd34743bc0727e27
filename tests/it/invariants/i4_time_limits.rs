//! I4: Every session has an idle timeout and an absolute lifetime. Redis TTLs remove expired records; there is no clean-up job.
//!
//! By default, the idle timeout is 7 days and the absolute lifetime 30 days.

use std::time::Duration;

use latchkey::{
    domain::event::EndReason,
    store::redis::{AccountSessions, key::Keys},
};

use crate::{
    accounts::problem,
    harness::{
        client::Tokens,
        test_cluster::{Node, TestCluster},
    },
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// The account of the tokens' session.
fn account(node: &Node, tokens: &Tokens) -> latchkey::domain::ids::AccountId {
    node.state.refresh_tokens.decode(&tokens.refresh).unwrap().account
}

/// The Redis key with the sessions of the tokens' account.
fn sessions_key(node: &Node, tokens: &Tokens) -> String {
    let default_prefix = "lk:";
    Keys::new(default_prefix).sessions(account(node, tokens))
}

/// The TTL in milliseconds of the Redis key with the sessions of the tokens' account.
fn sessions_ttl(cluster: &TestCluster, node: &Node, tokens: &Tokens) -> i128 {
    cluster.redis.command(&["PTTL", &sessions_key(node, tokens)]).parse().unwrap()
}

#[track_caller]
fn assert_every_key_expires(cluster: &TestCluster) {
    let keys = cluster.redis.command(&["--scan"]);
    // -1: the key has no TTL
    let persistent: Vec<_> = keys.lines().filter(|key| cluster.redis.command(&["PTTL", key]) == "-1").collect();
    assert!(persistent.is_empty(), "{persistent:?}");
}

#[tokio::test]
async fn i4_idle_session_expires_and_a_refreshed_one_does_not() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let idle = node.login("ada").await;
    let mut used = node.login("ada").await;
    for _ in 0..7 {
        cluster.advance(DAY - SECOND);
        let answer = node.refresh(&used.refresh).await.expect(200);
        assert_eq!(answer.json()["refresh_expires_in"], 7 * 86_400);
        used = Tokens::of(&answer);
    }
    cluster.advance(6 * SECOND);
    // 7 × (1 d − 1 s) + 6 s: one second before the idle timeout of 7 d
    node.refresh(&idle.refresh).await.expect(200);
    let idle = node.login("ada").await;
    cluster.advance(7 * DAY);
    assert_eq!(node.refresh(&idle.refresh).await.problem(), problem(401, "session_expired"));
    assert_eq!(node.refresh(&used.refresh).await.problem(), problem(401, "session_expired"));
}

#[tokio::test]
async fn i4_refreshed_session_and_its_tokens_expire_at_the_absolute_end() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let mut tokens = node.login("ada").await;
    for _ in 0..5 {
        cluster.advance(5 * DAY);
        tokens = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    }
    // 100 s before the absolute end
    cluster.advance(5 * DAY - 100 * SECOND);
    let answer = node.refresh(&tokens.refresh).await.expect(200);
    assert_eq!(answer.json()["refresh_expires_in"], 100);
    assert_eq!(answer.json()["expires_in"], 100, "no access token outlives its session");
    let last = Tokens::of(&answer);
    // 1 ms before the absolute end, which is 0 whole seconds
    cluster.advance(100 * SECOND - Duration::from_millis(1));
    node.get("/v1/me", &last.access).await.expect(200);
    assert_eq!(node.refresh(&last.refresh).await.expect(200).json()["expires_in"], 0);
    cluster.advance(Duration::from_millis(1));
    assert_eq!(node.refresh(&last.refresh).await.problem(), problem(401, "session_expired"));
    assert_eq!(node.get("/v1/me", &last.access).await.problem(), problem(401, "invalid_token"));
}

#[tokio::test]
async fn i4_refresh_of_a_session_removed_by_redis_reports_expiry() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    // without the session's record, only the expiry in the token shows whether the session has expired or was ended
    cluster.redis.command(&["DEL", &sessions_key(&node, &tokens)]);
    cluster.advance(7 * DAY - SECOND);
    assert_eq!(node.refresh(&tokens.refresh).await.problem(), problem(401, "invalid_refresh_token"));
    cluster.advance(SECOND);
    assert_eq!(node.refresh(&tokens.refresh).await.problem(), problem(401, "session_expired"));
}

#[tokio::test]
async fn i4_expired_sessions_are_not_listed_and_do_not_accumulate() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let old = node.login("ada").await;
    cluster.advance(6 * DAY);
    let young = node.login("ada").await;
    cluster.advance(DAY);
    let young = Tokens::of(&node.refresh(&young.refresh).await.expect(200));
    // `old` is at its idle timeout
    let listed = node.get("/v1/sessions", &young.access).await.expect(200).json();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(listed["sessions"][0]["id"], young.session);

    let key = sessions_key(&node, &old);
    let fields = || cluster.redis.command(&["HLEN", &key]).parse::<usize>().unwrap();
    // the hash still has the expired session beside the live one
    let per_session = fields() / 2;
    // With one sign-in a day, seven sessions are live at a time. Allows as many expired ones, and three more.
    for _ in 0..40 {
        cluster.advance(DAY);
        node.login("ada").await;
        assert!(fields() <= (2 * 7 + 3) * per_session, "{} fields, {per_session} per session", fields());
    }
}

#[tokio::test]
async fn i4_redis_keeps_each_session_until_it_expires_and_no_key_forever() {
    let mut cluster = TestCluster::new();
    cluster.config.session.absolute_timeout = 10 * DAY; // limits the last refreshes below
    let node = cluster.node().await;
    node.register("ada").await;
    let day = i128::try_from(DAY.as_millis()).unwrap();
    // The test advances the clock of the nodes, and real time hardly passes in Redis, so TTLs stay within a minute of their first value.
    let slack = 60_000;
    let first = node.login("ada").await;
    assert!(sessions_ttl(&cluster, &node, &first) > 7 * day - slack);
    // the key does not stay much longer than the session
    assert!(sessions_ttl(&cluster, &node, &first) < 8 * day);
    assert_every_key_expires(&cluster);

    // A session that is refreshed each day is kept for its remaining lifetime, also after the TTL in Redis has decreased.
    let mut tokens = first.clone();
    for _ in 0..9 {
        cluster.advance(DAY);
        let before = sessions_ttl(&cluster, &node, &tokens);
        // as a day of real time would shorten it
        cluster.redis.command(&["PEXPIRE", &sessions_key(&node, &tokens), &(before - day).to_string()]);
        let answer = node.refresh(&tokens.refresh).await.expect(200);
        tokens = Tokens::of(&answer);
        let remaining_millis = i128::from(answer.json()["refresh_expires_in"].as_u64().unwrap()) * 1000;
        assert!(sessions_ttl(&cluster, &node, &tokens) > remaining_millis - slack, "{remaining_millis}");
    }
    assert_every_key_expires(&cluster);

    // The TTL covers the youngest session, even when other sessions end.
    let young = node.login("ada").await;
    assert!(sessions_ttl(&cluster, &node, &young) > 7 * day - slack);
    node.logout(&tokens.refresh).await.expect(204);
    assert!(sessions_ttl(&cluster, &node, &young) > 7 * day - slack);
    assert_every_key_expires(&cluster);
    let other = node.login("ada").await;
    node.delete("/v1/sessions?keep_current=true", &other.access).await.expect(200);
    assert!(sessions_ttl(&cluster, &node, &other) > 7 * day - slack);
    assert_every_key_expires(&cluster);
    // With a new epoch (a counter of the account), Redis keeps only a fence, for 15 minutes: it refuses sign-ins that read epoch 0.
    let epoch = latchkey::domain::account::Epoch(1);
    let ended = node.state.redis.sessions.revoke_all(
        AccountSessions::all(account(&node, &other)).with_epoch(epoch),
        EndReason::Disabled,
        cluster.clock.now(),
    );
    assert_eq!(ended.await.unwrap(), 1);
    assert!(sessions_ttl(&cluster, &node, &other) > 0, "the fence is kept");
    assert!(sessions_ttl(&cluster, &node, &other) < day);
    assert_every_key_expires(&cluster);
}
