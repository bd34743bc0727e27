//! The connection to Redis is reset at every point of an exchange. Whether or not Redis has executed the command, a retry of a
//! refresh returns the session's one successor, and a retry of a logout succeeds.

use std::collections::HashSet;

use super::{expect_status_or_503, refresh_with_retries, retry_until};
use crate::{
    degradation::{assert_unavailable, cluster_at},
    harness::{
        client::{PASSWORD, Tokens},
        fault_proxy::{FaultProxy, Mode},
    },
    store::server::Redis,
};

/// A message is cut before, between and after this many equal parts.
const PARTS: usize = 10;

/// The numbers of bytes after which a message of this length is cut. They include 0, 1, `length - 1` and `length`.
fn cut_points(length: usize) -> Vec<usize> {
    let mut points: Vec<usize> = (0..=PARTS).map(|part| length * part / PARTS).collect();
    points.extend([1, length - 1]);
    points.sort_unstable();
    points.dedup();
    points
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_whose_connection_is_reset_has_one_successor() {
    let server = Redis::start();
    let proxy = FaultProxy::start(server.socket()).await;
    let mut cluster = cluster_at(&proxy.redis_url());
    // With one connection only, a retry depends on the replacement of the connection that was reset.
    cluster.config.redis.pool_size = 1;
    let node = cluster.node().await;
    node.register("ada").await;
    let first = node.login("ada").await;
    let mut tokens = refresh_with_retries(&node, &first).await;
    // the lengths of this refresh, which later refreshes also have
    let (request_length, response_length) = proxy.last_script_lengths();
    // A shorter message would not belong to a refresh.
    assert!(request_length > 100 && response_length > 20, "{request_length} and {response_length} bytes");

    let cut_requests = cut_points(request_length).into_iter().map(Mode::CutRequest);
    // The first refresh has advanced the session to generation 1.
    let mut generation = 1;
    let mut unanswered = 0;
    let cut_responses = cut_points(response_length).into_iter().map(Mode::CutResponse);
    for mode in cut_requests.chain(cut_responses) {
        proxy.set(mode);
        let cut = node.refresh(&tokens.refresh).await;
        let mut successors = HashSet::new();
        if cut.status == 503 {
            assert_unavailable(&cut);
            unanswered += 1;
        } else {
            successors.insert(Tokens::of(&cut.expect(200)).refresh);
        }
        // No fault affects the retries.
        proxy.set(Mode::Open);
        let next = refresh_with_retries(&node, &tokens).await;
        successors.insert(next.refresh.clone());
        successors.insert(refresh_with_retries(&node, &tokens).await.refresh);
        assert_eq!(successors.len(), 1, "{mode:?}: a second successor");
        generation += 1;
        let claims = node.state.refresh_tokens.decode(&next.refresh).unwrap();
        assert_eq!(claims.generation.0, generation, "{mode:?}: rotated once");
        tokens = next;
    }
    // A cut after the last byte loses nothing, but most cuts must lose the answer.
    assert!(unanswered > PARTS, "only {unanswered} refreshes were cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_whose_connection_is_reset_is_completed_by_a_repeat() {
    let server = Redis::start();
    let proxy = FaultProxy::start(server.socket()).await;
    let mut cluster = cluster_at(&proxy.redis_url());
    cluster.config.redis.pool_size = 1;
    // The repeats of a login until the connection is restored may exceed the limit.
    cluster.config.limits.login_per_address = None;
    let node = cluster.node().await;
    node.register("ada").await;
    node.logout(&node.login("ada").await.refresh).await.expect(204);
    // the lengths of this logout, which later logouts also have
    let (request_length, response_length) = proxy.last_script_lengths();

    let cut_requests = [0, request_length / 2, request_length - 1, request_length].map(Mode::CutRequest);
    // The response is short, so it is cut after every byte.
    let cut_responses = (0..response_length).map(Mode::CutResponse);
    for mode in cut_requests.into_iter().chain(cut_responses) {
        let login = retry_until("a login succeeds", 200, || node.try_login("ada", PASSWORD)).await;
        let tokens = Tokens::of(&login);
        proxy.set(mode);
        let cut = node.logout(&tokens.refresh).await;
        let is_answered = expect_status_or_503(&cut, 204);
        proxy.set(Mode::Open);
        if !is_answered {
            retry_until("the second logout succeeds", 204, || node.logout(&tokens.refresh)).await;
        }
        retry_until("the session has ended", 401, || node.get("/v1/me", &tokens.access)).await;
        retry_until("the refresh is refused", 401, || node.refresh(&tokens.refresh)).await;
        let ends = server.events().iter().filter(|[_, session, ..]| *session == tokens.session).count();
        assert_eq!(ends, 1, "{mode:?}: events of the session");
    }
}
