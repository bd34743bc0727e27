//! I2: A superseded token is answered if its holder may have lost the response. Any other superseded token revokes its session and no
//! other session, and the reuse is recorded. Repeats from another network or user agent in four consecutive generations reveal a second
//! holder, and also revoke the session.

use std::time::Duration;

use futures_util::future::join_all;
use latchkey::store::sql::{AuditFilter, AuditRow};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    client::{Answer, PASSWORD, Tokens},
    events,
    sse::Feed,
    test_cluster::{Node, TestCluster},
};

const HOUR: Duration = Duration::from_hours(1);

/// The default of `session.retry_window`.
const RETRY_WINDOW: Duration = Duration::from_hours(24);

/// The IP address and the user agent of a request.
#[derive(Clone, Copy)]
struct Origin {
    address: &'static str,
    user_agent: &'static str,
}

const HOME: Origin = Origin { address: "192.0.2.7", user_agent: "App/1" };
/// Another address of the same network.
const SAME_NETWORK: Origin = Origin { address: "192.0.2.8", user_agent: "App/1" };
const OTHER_NETWORK: Origin = Origin { address: "198.51.100.4", user_agent: "App/1" };
const THIEF: Origin = Origin { address: "203.0.113.9", user_agent: "Tool/1" };

/// A cluster whose nodes take client addresses from the header of a trusted proxy.
fn cluster() -> TestCluster {
    let mut cluster = TestCluster::new();
    cluster.config.http.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    cluster
}

/// Starts two nodes, and registers `ada`.
async fn nodes_with_ada(cluster: &TestCluster) -> [Node; 2] {
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    nodes
}

async fn send(node: &Node, path: &str, body: Value, origin: Origin) -> Answer {
    let request = node.request(Method::POST, path).json(&body);
    node.send(request.header("x-forwarded-for", origin.address).header("user-agent", origin.user_agent)).await
}

async fn sign_in(node: &Node, origin: Origin) -> Tokens {
    let body = json!({ "identifier": "ada", "password": PASSWORD });
    Tokens::of(&send(node, "/v1/login", body, origin).await.expect(200))
}

async fn present(node: &Node, token: &str, origin: Origin) -> Answer {
    send(node, "/v1/refresh", json!({ "refresh_token": token }), origin).await
}

async fn refreshed(node: &Node, token: &str, origin: Origin) -> Tokens {
    Tokens::of(&present(node, token, origin).await.expect(200))
}

/// The event, reason, IP address and count of an audit row, which stands for `count` equal events.
type AuditSummary = (String, Option<String>, Option<String>, i64);

/// The audit rows about superseded tokens, oldest first.
async fn audited(node: &Node) -> Vec<AuditSummary> {
    node.state.audit.flush().await.unwrap();
    let newest_first = node.state.sql.audit(&AuditFilter::default(), 1000).await.unwrap();
    let summary = |row: AuditRow| (row.event, row.reason, row.address, row.count);
    newest_first.into_iter().rev().filter(|row| row.event.starts_with("refresh_")).map(summary).collect()
}

fn repeats_from(origin: Origin, count: i64) -> AuditSummary {
    ("refresh_repeat".to_owned(), None, Some(origin.address.to_owned()), count)
}

/// The status and code of the problem that answers reuse.
fn reuse() -> (u16, String) {
    (401, "refresh_token_reused".to_owned())
}

/// The first session of the account's list.
async fn listed(node: &Node, access: &str) -> Value {
    node.get("/v1/sessions", access).await.expect(200).json()["sessions"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_superseded_token_without_retry_window_revokes_its_session_only_and_is_recorded() {
    let mut cluster = cluster();
    cluster.config.session.retry_window = Duration::ZERO;
    let nodes = nodes_with_ada(&cluster).await;
    let (stolen, other) = (nodes[0].login("ada").await, nodes[1].login("ada").await);
    let account = nodes[0].verified(&stolen.access).sub;
    let newest = Tokens::of(&nodes[0].refresh(&stolen.refresh).await.expect(200));

    // the last millisecond of the grace window, which is 10 s
    cluster.advance(Duration::from_millis(9_999));
    assert_eq!(Tokens::of(&nodes[1].refresh(&stolen.refresh).await.expect(200)).refresh, newest.refresh);
    assert_eq!(events::of_account(&cluster.redis, account), []);
    cluster.advance(Duration::from_millis(1));
    assert_eq!(nodes[1].refresh(&stolen.refresh).await.problem(), reuse());

    // Every token of the session is invalid on every node.
    for node in &nodes {
        for token in [&newest.refresh, &stolen.refresh] {
            assert_eq!(node.refresh(token).await.problem(), (401, "invalid_refresh_token".to_owned()));
        }
        for token in [&newest.access, &stolen.access] {
            assert_eq!(node.get("/v1/me", token).await.problem(), (401, "invalid_token".to_owned()));
        }
    }
    // The other session continues.
    let other = Tokens::of(&nodes[0].refresh(&other.refresh).await.expect(200));
    nodes[1].get("/v1/me", &other.access).await.expect(200);
    let events = events::of_account(&cluster.redis, account);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].session, stolen.session);
    assert_eq!(events[0].cause, "reuse");
    assert_eq!(events[0].at, cluster.clock.now().as_millis().to_string());
    let address = Some("127.0.0.1".to_owned());
    assert_eq!(audited(&nodes[1]).await, [("refresh_reuse".to_owned(), Some("superseded".to_owned()), address, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_sixteen_concurrent_reuses_are_recorded_once() {
    let mut cluster = cluster();
    cluster.config.session.retry_window = Duration::ZERO;
    let nodes = nodes_with_ada(&cluster).await;
    // several races, because each may have another winner
    for _ in 0..10 {
        let first = nodes[0].login("ada").await;
        let account = nodes[0].verified(&first.access).sub;
        let newest = Tokens::of(&nodes[0].refresh(&first.refresh).await.expect(200));
        // the end of the grace window
        cluster.advance(Duration::from_secs(10));
        // Half of the requests present the current token: they succeed until the first reuse, and not afterwards.
        let tokens = [&first.refresh, &newest.refresh];
        let answers = join_all((0..16).map(|i| nodes[i % 2].refresh(tokens[i / 8]))).await;
        let reused = answers.iter().filter(|answer| answer.status == 401 && answer.problem() == reuse());
        assert_eq!(reused.count(), 1);
        for answer in answers.iter().filter(|answer| answer.status == 200) {
            let token = Tokens::of(answer).refresh;
            assert_eq!(nodes[1].refresh(&token).await.problem(), (401, "invalid_refresh_token".to_owned()));
        }
        assert_eq!(events::causes_of_session(&cluster.redis, account, &first.session), ["reuse"]);
    }
}

#[tokio::test]
async fn i2_token_thirty_generations_behind_revokes_session() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let first = node.login("ada").await;
    let mut current = first.refresh.clone();
    for _ in 0..30 {
        current = Tokens::of(&node.refresh(&current).await.expect(200)).refresh;
        cluster.advance(Duration::from_millis(700));
    }
    // superseded 30 × 0.7 s = 21 s ago, beyond the grace window, and not the predecessor of the current token
    assert_eq!(node.refresh(&first.refresh).await.problem(), reuse());
    assert_eq!(node.refresh(&current).await.problem(), (401, "invalid_refresh_token".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_lost_response_retried_hours_later_from_another_network_is_answered_counted_and_recorded() {
    let cluster = cluster();
    let nodes = nodes_with_ada(&cluster).await;
    let first = sign_in(&nodes[0], HOME).await;
    let account = nodes[0].verified(&first.access).sub;
    let lost = refreshed(&nodes[0], &first.refresh, HOME).await;
    cluster.advance(8 * HOUR);
    let retried = refreshed(&nodes[1], &first.refresh, OTHER_NETWORK).await;
    assert_eq!(retried.refresh, lost.refresh, "the current token");
    let list = listed(&nodes[0], &retried.access).await;
    assert_eq!(list["counted_repeats"], 1);
    assert_eq!(list["last_used_ip"], HOME.address, "a repeat does not change the last use");
    assert_eq!(audited(&nodes[1]).await, [repeats_from(OTHER_NETWORK, 1)]);

    // The session continues, and the repeat is no longer counted after eight generations.
    let mut current = retried;
    for round in 0..8 {
        cluster.advance(HOUR);
        current = refreshed(&nodes[round % 2], &current.refresh, OTHER_NETWORK).await;
    }
    let list = listed(&nodes[0], &current.access).await;
    assert_eq!(list["counted_repeats"], 0);
    assert_eq!(list["last_used_ip"], OTHER_NETWORK.address);
    assert_eq!(events::of_account(&cluster.redis, account), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_predecessor_superseded_longer_ago_than_the_retry_window_is_reuse() {
    let cluster = cluster();
    let nodes = nodes_with_ada(&cluster).await;
    for (late, is_answered) in [(Duration::ZERO, true), (Duration::from_millis(1), false)] {
        let first = sign_in(&nodes[0], HOME).await;
        let next = refreshed(&nodes[0], &first.refresh, HOME).await;
        cluster.advance(RETRY_WINDOW + late);
        let answer = present(&nodes[1], &first.refresh, HOME).await;
        if is_answered {
            assert_eq!(Tokens::of(&answer.expect(200)).refresh, next.refresh);
        } else {
            assert_eq!(answer.problem(), reuse());
        }
    }
    // Only the predecessor of the current token may be repeated, which `first` no longer is.
    let first = sign_in(&nodes[0], HOME).await;
    let second = refreshed(&nodes[0], &first.refresh, HOME).await;
    cluster.advance(HOUR);
    refreshed(&nodes[1], &second.refresh, HOME).await;
    assert_eq!(present(&nodes[0], &first.refresh, HOME).await.problem(), reuse());
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_repeats_from_the_network_of_the_rotation_are_not_counted() {
    let cluster = cluster();
    let nodes = nodes_with_ada(&cluster).await;
    let mut current = sign_in(&nodes[0], HOME).await;
    for round in 0..10 {
        let next = refreshed(&nodes[round % 2], &current.refresh, HOME).await;
        cluster.advance(HOUR);
        for origin in [HOME, SAME_NETWORK] {
            assert_eq!(refreshed(&nodes[0], &current.refresh, origin).await.refresh, next.refresh);
        }
        current = next;
    }
    let current = refreshed(&nodes[0], &current.refresh, HOME).await;
    assert_eq!(listed(&nodes[0], &current.access).await["counted_repeats"], 0);
    assert_eq!(audited(&nodes[0]).await, []);
    assert_eq!(audited(&nodes[1]).await, []);
}

/// In each round the owner refreshes from `HOME`, and then each origin of that round repeats the superseded token. Returns the tokens of
/// the sign-in, and the answer to the last repeat.
async fn run_rounds(cluster: &TestCluster, nodes: &[Node; 2], rounds: &[&[Origin]]) -> (Tokens, Answer) {
    let signed_in = sign_in(&nodes[0], HOME).await;
    let mut current = signed_in.clone();
    let mut last = None;
    for (round, origins) in rounds.iter().enumerate() {
        cluster.advance(HOUR);
        let next = refreshed(&nodes[round % 2], &current.refresh, HOME).await;
        for origin in *origins {
            last = Some(present(&nodes[(round + 1) % 2], &current.refresh, *origin).await);
        }
        current = next;
    }
    (signed_in, last.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_four_consecutive_generations_with_a_counted_repeat_end_the_session() {
    let cluster = cluster();
    let nodes = nodes_with_ada(&cluster).await;
    let (signed_in, last) =
        run_rounds(&cluster, &nodes, &[&[OTHER_NETWORK], &[OTHER_NETWORK, THIEF], &[THIEF], &[OTHER_NETWORK]]).await;
    assert_eq!(last.problem(), reuse());
    let account = nodes[0].state.refresh_tokens.decode(&signed_in.refresh).unwrap().account;
    assert_eq!(events::causes_of_session(&cluster.redis, account, &signed_in.session), ["reuse"]);
    // A repeat from `HOME` is not counted. A generation without a counted repeat restarts the count of consecutive generations.
    let (_, last) = run_rounds(
        &cluster,
        &nodes,
        &[&[OTHER_NETWORK], &[OTHER_NETWORK], &[OTHER_NETWORK], &[HOME], &[OTHER_NETWORK], &[OTHER_NETWORK]],
    )
    .await;
    last.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_limit_of_counted_repeats_is_configurable() {
    let mut cluster = cluster();
    cluster.config.session.counted_repeats_limit = 2;
    let nodes = nodes_with_ada(&cluster).await;
    let (_, last) = run_rounds(&cluster, &nodes, &[&[OTHER_NETWORK], &[OTHER_NETWORK]]).await;
    assert_eq!(last.problem(), reuse());
    let (_, last) = run_rounds(&cluster, &nodes, &[&[OTHER_NETWORK], &[HOME], &[OTHER_NETWORK]]).await;
    last.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_second_use_without_grace_and_retry_window_revokes_session() {
    let mut cluster = cluster();
    cluster.config.session.grace = Duration::ZERO;
    cluster.config.session.retry_window = Duration::ZERO;
    let nodes = nodes_with_ada(&cluster).await;
    let first = sign_in(&nodes[0], HOME).await;
    refreshed(&nodes[0], &first.refresh, HOME).await;
    assert_eq!(present(&nodes[1], &first.refresh, HOME).await.problem(), reuse());
}

/// A thief with a copy of the owner's refresh token presents each token two seconds after the owner has used it.
#[tokio::test(flavor = "multi_thread")]
async fn i2_thief_who_repeats_the_owners_tokens_is_recorded_at_once_and_ends_the_session_within_four_refreshes() {
    let cluster = cluster();
    let nodes = nodes_with_ada(&cluster).await;
    let service = cluster.service_client("billing").await;
    let mut feed = Feed::open(&nodes[1], &service).await;
    feed.caught_up().await;
    let mut owner = sign_in(&nodes[0], HOME).await;
    let mut thief = owner.clone();
    for round in 1..=4 {
        // Both refresh when their access tokens have expired, after 5 minutes.
        cluster.advance(Duration::from_mins(6));
        owner = refreshed(&nodes[0], &owner.refresh, HOME).await;
        cluster.advance(Duration::from_secs(2));
        let answer = present(&nodes[1], &thief.refresh, THIEF).await;
        if round == 4 {
            assert_eq!(answer.problem(), reuse());
            break;
        }
        thief = Tokens::of(&answer.expect(200));
        assert_eq!(thief.refresh, owner.refresh);
        // The list shows the repeats to the owner. It rounds times to the minute, so that it does not show a thief the second at which the
        // owner refreshes.
        let list = listed(&nodes[0], &owner.access).await;
        assert_eq!(list["counted_repeats"], round);
        assert_eq!(list["last_used_ip"], HOME.address);
        assert!(list["last_used_at"].as_str().unwrap().ends_with(":00.000Z"), "{list}");
    }
    let event = feed.revocation().await;
    assert_eq!(event["session_id"], owner.session);
    assert_eq!(event["reason"], "reuse");
    for (node, tokens) in [(&nodes[0], &owner), (&nodes[1], &thief)] {
        assert_eq!(present(node, &tokens.refresh, HOME).await.problem().1, "invalid_refresh_token");
        node.get("/v1/me", &tokens.access).await.expect(401);
    }
    let ended = ("refresh_reuse".to_owned(), Some("second_holder".to_owned()), Some(THIEF.address.to_owned()), 1);
    assert_eq!(audited(&nodes[1]).await, [repeats_from(THIEF, 3), ended]);
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_sixteen_concurrent_requests_from_two_networks_end_the_session_once_in_the_fourth_generation() {
    let cluster = cluster();
    let nodes = nodes_with_ada(&cluster).await;
    // several races, because each may have another winner
    for _ in 0..5 {
        let mut current = sign_in(&nodes[0], HOME).await;
        let account = nodes[0].verified(&current.access).sub;
        for round in 1..=4 {
            // eight requests of each network, alternately at both nodes
            let racers = (0..16).map(|i| present(&nodes[i % 2], &current.refresh, [HOME, THIEF][i / 8]));
            let answers = join_all(racers).await;
            let successors: Vec<Tokens> =
                answers.iter().filter(|answer| answer.status == 200).map(Tokens::of).collect();
            assert!(successors.iter().all(|tokens| tokens.refresh == successors[0].refresh), "one successor");
            if round == 4 {
                let refused = answers.iter().filter(|answer| answer.status == 401).map(Answer::problem);
                assert_eq!(refused.filter(|problem| *problem == reuse()).count(), 1);
            } else {
                assert_eq!(successors.len(), 16);
            }
            current = successors[0].clone();
            cluster.advance(Duration::from_mins(1));
        }
        assert_eq!(events::causes_of_session(&cluster.redis, account, &current.session), ["reuse"]);
    }
}
