//! Two time limits (I4): every session has an idle timeout and an absolute lifetime, and all nodes follow the clock of Redis, which is
//! the test's clock here. One node's own clock is 20 seconds fast, and that of the other node 20 seconds slow. I1, I2 and I4 hold
//! nevertheless, and each node accepts the tokens of the other.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use latchkey::domain::clock::{ClockOffset, Timestamp};

use crate::harness::{
    client::Tokens,
    test_cluster::{Node, TestCluster},
    wait,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

/// A node whose own clock is 20 seconds fast, and one whose clock is 20 seconds slow. Registers `ada`.
async fn skewed_nodes(cluster: &mut TestCluster) -> [Node; 2] {
    let fast = cluster.node_with_clock_skew(ClockOffset::from_millis(20_000)).await;
    let slow = cluster.node_with_clock_skew(ClockOffset::from_millis(-20_000)).await;
    fast.register("ada").await;
    [fast, slow]
}

/// The tokens of a successful refresh.
async fn refreshed(node: &Node, token: &str) -> Tokens {
    Tokens::of(&node.refresh(token).await.expect(200))
}

/// Sets an offset to this many milliseconds.
fn set_offset(offset: &ClockOffset, millis: i64) {
    let here = Timestamp::from_millis(0);
    let other = Timestamp::from_millis(millis);
    // the measurement took no time, so it allows this offset only
    offset.correct(here, other, here);
}

fn unauthorized(code: &str) -> (u16, String) {
    (401, code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_sixteen_concurrent_refreshes_on_skewed_nodes_get_one_successor() {
    let mut cluster = TestCluster::new();
    let nodes = skewed_nodes(&mut cluster).await;
    let mut current = nodes[0].login("ada").await.refresh;
    for round in 1..=20 {
        let answers = join_all((0..16).map(|i| nodes[i % 2].refresh(&current))).await;
        let successors: HashSet<String> =
            answers.into_iter().map(|answer| Tokens::of(&answer.expect(200)).refresh).collect();
        assert_eq!(successors.len(), 1);
        current = successors.into_iter().next().unwrap();
        // the sixteen refreshes of a round rotate the token once
        assert_eq!(nodes[1].state.refresh_tokens.decode(&current).unwrap().generation.0, round);
        cluster.advance(SECOND);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_grace_window_is_exact_on_skewed_nodes() {
    let mut cluster = TestCluster::new();
    // Without the retry window, a superseded token is answered in the grace window only.
    cluster.config.session.retry_window = Duration::ZERO;
    let nodes = skewed_nodes(&mut cluster).await;
    for (node, peer) in [(0, 1), (1, 0)] {
        let first = nodes[node].login("ada").await;
        let next = refreshed(&nodes[node], &first.refresh).await;
        // the grace window is 10 seconds
        cluster.advance(Duration::from_millis(9_999));
        assert_eq!(refreshed(&nodes[peer], &first.refresh).await.refresh, next.refresh);
        cluster.advance(Duration::from_millis(1));
        assert_eq!(nodes[peer].refresh(&first.refresh).await.problem(), unauthorized("refresh_token_reused"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_sessions_expire_at_the_same_moment_on_skewed_nodes() {
    let mut cluster = TestCluster::new();
    let nodes = skewed_nodes(&mut cluster).await;
    for (node, peer) in [(0, 1), (1, 0)] {
        let idle = nodes[node].login("ada").await;
        let refreshed_in_time = nodes[node].login("ada").await;
        // the idle timeout is 7 days
        cluster.advance(7 * DAY - Duration::from_millis(1));
        refreshed(&nodes[peer], &refreshed_in_time.refresh).await;
        cluster.advance(Duration::from_millis(1));
        for either in &nodes {
            assert_eq!(either.refresh(&idle.refresh).await.problem(), unauthorized("session_expired"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn access_token_of_each_skewed_node_is_valid_on_the_other_for_its_whole_lifetime() {
    let mut cluster = TestCluster::new();
    // The leeway would hide a difference between the clocks.
    cluster.config.token.leeway = Duration::ZERO;
    let nodes = skewed_nodes(&mut cluster).await;
    for (node, peer) in [(0, 1), (1, 0)] {
        let tokens = nodes[node].login("ada").await;
        let claims = nodes[peer].verified(&tokens.access);
        let now = cluster.clock.now().as_secs();
        assert_eq!(claims.iat, now);
        assert_eq!(claims.auth_time, now);
        assert_eq!(claims.exp, now + 300, "the lifetime is 5 minutes");
        cluster.advance(299 * SECOND);
        nodes[peer].get("/v1/me", &tokens.access).await.expect(200);
        cluster.advance(SECOND);
        nodes[peer].get("/v1/me", &tokens.access).await.expect(401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_follows_the_clock_of_redis_when_its_own_is_set() {
    let mut cluster = TestCluster::new();
    let skew = ClockOffset::default();
    let node = cluster.node_with_clock_skew(skew.clone()).await;
    for millis in [20_000, -20_000] {
        set_offset(&skew, millis);
        let follows_redis = || async { node.state.clock.now() == cluster.clock.now() };
        wait::until("the node has measured its clock", follows_redis).await;
    }
}
