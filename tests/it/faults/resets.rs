//! The connection to Redis is reset at every point of an exchange: whether or not the command was executed, the retry
//! returns the one successor.

use std::collections::HashSet;

use super::refreshed;
use crate::{
    degradation::{assert_unavailable, cluster_at},
    harness::{
        client::{PASSWORD, Tokens},
        fault_proxy::{FaultProxy, Mode},
    },
    store::server::Redis,
};

/// Number of intervals between the points at which a message is cut.
const POINTS: usize = 10;

fn points(length: usize) -> Vec<usize> {
    let mut points: Vec<usize> = (0..=POINTS).map(|part| length * part / POINTS).collect();
    points.extend([1, length - 1]);
    points.sort_unstable();
    points.dedup();
    points
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_reset_during_refresh_loses_nothing() {
    let server = Redis::start();
    let proxy = FaultProxy::start(server.socket()).await;
    let mut cluster = cluster_at(&proxy.redis_url());
    cluster.config.redis.pool_size = 1;
    let node = cluster.node().await;
    node.account("ada").await;
    let first = node.login("ada").await;
    let mut tokens = refreshed(&node, &first).await;
    let (question, answer) = proxy.lengths();
    assert!(question > 100 && answer > 20, "{question} and {answer} bytes");

    let questions = points(question).into_iter().map(Mode::CutRequest);
    let (mut generation, mut unanswered) = (1, 0);
    for mode in questions.chain(points(answer).into_iter().map(Mode::CutResponse)) {
        proxy.set(mode);
        let cut = node.refresh(&tokens.refresh).await;
        let mut successors = HashSet::new();
        if cut.status == 503 {
            assert_unavailable(&cut);
            unanswered += 1;
        } else {
            successors.insert(Tokens::of(&cut.expect(200)).refresh);
        }
        // the retries run without faults
        proxy.set(Mode::Open);
        let next = refreshed(&node, &tokens).await;
        successors.insert(refreshed(&node, &tokens).await.refresh);
        successors.insert(next.refresh.clone());
        assert_eq!(successors.len(), 1, "{mode:?}: a second successor");
        generation += 1;
        let claims = node.state.refresh_tokens.decode(&next.refresh).unwrap();
        assert_eq!(claims.generation.0, generation, "{mode:?}: rotated once");
        tokens = next;
    }
    assert!(unanswered > POINTS, "{unanswered} were cut");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_reset_during_logout_is_completed_by_repeat() {
    let server = Redis::start();
    let proxy = FaultProxy::start(server.socket()).await;
    let mut cluster = cluster_at(&proxy.redis_url());
    cluster.config.redis.pool_size = 1;
    // the login is repeated until the connection is restored, which may exceed the limit on a slow machine
    cluster.config.limits.login_per_address = None;
    let node = cluster.node().await;
    node.account("ada").await;
    node.logout(&node.login("ada").await.refresh).await.expect(204);
    let (question, answer) = proxy.lengths();

    let questions = [0, question / 2, question - 1, question].map(Mode::CutRequest);
    for mode in questions.into_iter().chain((0..answer).map(Mode::CutResponse)) {
        let tokens = Tokens::of(&super::retry_until("a login succeeds", 200, || node.try_login("ada", PASSWORD)).await);
        proxy.set(mode);
        let cut = node.logout(&tokens.refresh).await;
        let ended = super::has_succeeded(&cut, 204);
        proxy.set(Mode::Open);
        if !ended {
            super::retry_until("the second logout succeeds", 204, || node.logout(&tokens.refresh)).await;
        }
        super::retry_until("the session has ended", 401, || node.get("/v1/me", &tokens.access)).await;
        super::retry_until("the refresh is refused", 401, || node.refresh(&tokens.refresh)).await;
        let ends = server.events().iter().filter(|event| event[1] == tokens.session).count();
        assert_eq!(ends, 1, "{mode:?}: one event");
    }
    node.stop().await;
}
