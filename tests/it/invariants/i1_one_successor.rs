//! Tests I1: However many concurrent requests present a refresh token, the session advances by exactly one generation (the number of its
//! current refresh token). Within the grace window (10 s), a superseded token is answered with the current one.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use latchkey::{
    domain::{
        account::{ClaimsVersion, Epoch, Roles},
        additional_claims::AdditionalClaims,
        clock::{Clock, Timestamp},
        ids::AccountId,
        session::{Generation, OriginTag, Rotation, SessionOrigin, Transport},
    },
    store::redis::{CreateOutcome, NewSession, SessionBasis},
};

use crate::{
    harness::{
        client::{Answer, Tokens},
        test_cluster::{Node, TestCluster},
    },
    store::server::Rotate,
};

const MS: Duration = Duration::from_millis(1);

async fn two_nodes(cluster: &TestCluster) -> [Node; 2] {
    [cluster.node().await, cluster.node().await]
}

/// Refreshes with `token` and returns the new refresh token.
async fn refreshed(node: &Node, token: &str) -> String {
    Tokens::of(&node.refresh(token).await.expect(200)).refresh
}

/// The generation of a refresh token.
fn generation(node: &Node, token: &str) -> u32 {
    node.state.refresh_tokens.decode(token).unwrap().generation.0
}

/// The distinct refresh tokens of these responses, all of which must be 200.
fn distinct_tokens(answers: Vec<Answer>) -> HashSet<String> {
    answers.into_iter().map(|answer| Tokens::of(&answer.expect(200)).refresh).collect()
}

/// Signs in and refreshes `times` times, `pause` apart, on alternating nodes. Returns all refresh tokens, the current one last.
async fn sign_in_and_rotate(cluster: &TestCluster, nodes: &[Node; 2], times: usize, pause: Duration) -> Vec<String> {
    let mut tokens = vec![nodes[0].login("ada").await.refresh];
    for i in 0..times {
        if i > 0 {
            cluster.advance(pause);
        }
        tokens.push(refreshed(&nodes[i % 2], &tokens[i]).await);
    }
    tokens
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_sixteen_concurrent_refreshes_on_two_nodes_get_one_successor() {
    let cluster = TestCluster::new();
    let nodes = two_nodes(&cluster).await;
    nodes[0].register("ada").await;
    let mut current = nodes[0].login("ada").await.refresh;
    for _ in 0..50 {
        let racers = (0..16).map(|i| nodes[i % 2].refresh(&current));
        let successors = distinct_tokens(join_all(racers).await);
        assert_eq!(successors.len(), 1, "one successor for all");
        let next = successors.into_iter().next().unwrap();
        assert_ne!(next, current);
        current = next;
        // past the grace window of 10 s
        cluster.advance(Duration::from_secs(11));
    }
    assert_eq!(generation(&nodes[0], &current), 50, "one generation for each round");
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_sixteen_concurrent_clients_of_one_session_stay_signed_in() {
    let cluster = TestCluster::new();
    let nodes = two_nodes(&cluster).await;
    nodes[0].register("ada").await;
    let first = nodes[0].login("ada").await.refresh;
    let racers = (0..16).map(|i| {
        let (node, mut token) = (&nodes[i % 2], first.clone());
        async move {
            for _ in 0..20 {
                token = refreshed(node, &token).await;
            }
            token
        }
    });
    let last_tokens = join_all(racers).await;
    let newest = last_tokens.iter().map(|token| generation(&nodes[0], token)).max().unwrap();
    assert!(newest >= 20, "each of the 20 refreshes of a client returns a newer generation: {newest}");
    // A client whose token was superseded by another client gets a newer token.
    let successors = distinct_tokens(join_all(last_tokens.iter().map(|token| nodes[1].refresh(token))).await);
    for token in &successors {
        assert!(generation(&nodes[0], token) >= newest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_lost_response_retry_and_third_tab_within_grace_get_the_current_token() {
    let mut cluster = TestCluster::new();
    // without the retry window, only the grace window of 10 s allows repeats
    cluster.config.session.retry_window = Duration::ZERO;
    let nodes = two_nodes(&cluster).await;
    nodes[0].register("ada").await;
    let first = nodes[0].login("ada").await.refresh;
    let lost = refreshed(&nodes[0], &first).await;
    cluster.advance(MS * 4000);
    assert_eq!(refreshed(&nodes[1], &first).await, lost, "a retry returns the lost token");
    let third = refreshed(&nodes[1], &lost).await;
    // `first` was superseded 9.999 s ago, and `lost` 5.999 s ago
    cluster.advance(MS * 5999);
    assert_eq!(refreshed(&nodes[0], &first).await, third, "a tab with an older token gets the current one");
    assert_eq!(refreshed(&nodes[0], &lost).await, third);
    cluster.advance(MS);
    assert_eq!(refreshed(&nodes[0], &lost).await, third);
    let refused = nodes[0].refresh(&first).await;
    assert_eq!(refused.problem(), (401, "refresh_token_reused".into()), "the grace window is 10 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_every_token_superseded_within_grace_gets_the_current_token() {
    let cluster = TestCluster::new();
    let nodes = two_nodes(&cluster).await;
    nodes[0].register("ada").await;
    // Redis stores up to seven rotations one by one, and merges further ones.
    for times in [1, 2, 7, 8, 20, 100] {
        // all rotations lie within the grace window of 10 s
        let pause = Duration::from_millis(9999 / u64::try_from(times).unwrap());
        let mut tokens = sign_in_and_rotate(&cluster, &nodes, times, pause).await;
        let current = tokens.pop().unwrap();
        for (i, token) in tokens.iter().enumerate() {
            assert_eq!(refreshed(&nodes[i % 2], token).await, current, "{i} of {times}");
        }
        // Refreshes with superseded tokens did not advance the session.
        let next = refreshed(&nodes[0], &current).await;
        assert_eq!(usize::try_from(generation(&nodes[0], &next)).unwrap(), times + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_grace_window_of_seven_rotations_is_exact() {
    let mut cluster = TestCluster::new();
    cluster.config.session.retry_window = Duration::ZERO;
    let nodes = two_nodes(&cluster).await;
    nodes[0].register("ada").await;
    for (index, seconds) in (0..7).enumerate() {
        let mut tokens = sign_in_and_rotate(&cluster, &nodes, 7, MS * 1000).await;
        let current = tokens.pop().unwrap();
        // The first token was superseded six seconds ago, and each later one a second after the one before. The pause ends 1 ms before the
        // grace window (10 s) of the token at `index`.
        cluster.advance(MS * (3999 + 1000 * seconds));
        assert_eq!(refreshed(&nodes[1], &tokens[index]).await, current, "{index}");
        cluster.advance(MS);
        assert_eq!(nodes[0].refresh(&tokens[index]).await.problem(), (401, "refresh_token_reused".into()), "{index}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_second_use_with_zero_grace_revokes_session() {
    let mut cluster = TestCluster::new();
    cluster.config.session.retry_window = Duration::ZERO;
    cluster.config.session.grace = Duration::ZERO;
    let nodes = two_nodes(&cluster).await;
    nodes[0].register("ada").await;
    for _ in 0..10 {
        let token = nodes[0].login("ada").await.refresh;
        let answers = join_all((0..16).map(|i| nodes[i % 2].refresh(&token))).await;
        let is_refused_as = |answer: &Answer, code: &str| answer.status == 401 && answer.problem().1 == code;
        let count = |code: &str| answers.iter().filter(|answer| is_refused_as(answer, code)).count();
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "one succeeds");
        assert_eq!(count("refresh_token_reused"), 1, "the second ends the session");
        assert_eq!(count("invalid_refresh_token"), 14, "all other requests find no session");
    }
    // A single client that refreshes with each new token stays signed in.
    let token = nodes[0].login("ada").await.refresh;
    let next = refreshed(&nodes[0], &token).await;
    refreshed(&nodes[1], &next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_concurrent_refreshes_during_secret_rotation_advance_one_generation() {
    let mut cluster = TestCluster::new();
    // The first node signs with the old secret, and the second with the new one. Each accepts both.
    let old = cluster.config.secrets.current.clone();
    cluster.config.secrets.previous = vec!["another secret, which is long enough as well".into()];
    let before = cluster.node().await;
    cluster.config.secrets.current = cluster.config.secrets.previous[0].clone();
    cluster.config.secrets.previous = vec![old];
    let after = cluster.node().await;
    let nodes = [before, after];
    nodes[0].register("ada").await;
    let mut current = nodes[0].login("ada").await.refresh;
    for round in 1..=20 {
        let answers = join_all((0..16).map(|i| nodes[i % 2].refresh(&current))).await;
        let tokens = distinct_tokens(answers);
        assert_eq!(tokens.len(), 2, "each node signs with its own secret");
        // The rounds alternate between the nodes, which accept both tokens.
        let claims: Vec<_> = tokens.iter().map(|token| nodes[round % 2].state.refresh_tokens.decode(token)).collect();
        assert_eq!(claims[0], claims[1], "both tokens are of the same session and generation");
        assert_eq!(usize::try_from(claims[0].unwrap().generation.0).unwrap(), round);
        current = tokens.into_iter().next().unwrap();
        // past the grace window of 10 s
        cluster.advance(Duration::from_secs(11));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_concurrent_refreshes_on_nodes_with_clock_skew_get_one_successor() {
    let mut cluster = TestCluster::new();
    let first = cluster.node().await;
    let clock_of_first = cluster.clock.clone();
    // From here on, the clock of the cluster is that of the second node, three seconds ahead.
    cluster.clock = Clock::manual(clock_of_first.now() + Duration::from_secs(3));
    let second = cluster.node().await;
    let nodes = [first, second];
    nodes[0].register("ada").await;
    let mut current = nodes[0].login("ada").await.refresh;
    for round in 1..=20 {
        let answers = join_all((0..16).map(|i| nodes[i % 2].refresh(&current))).await;
        let successors = distinct_tokens(answers);
        assert_eq!(successors.len(), 1);
        current = successors.into_iter().next().unwrap();
        assert_eq!(generation(&nodes[0], &current), round);
        clock_of_first.advance(Duration::from_secs(1));
        cluster.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn i1_refresh_after_redis_lost_rotations_continues_from_the_presented_generation() {
    let mut cluster = TestCluster::new();
    cluster.config.session.retry_window = Duration::ZERO;
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    // Redis has generation 0, and the client a token of generation 5, as after a loss of five rotations.
    let mut claims = node.state.refresh_tokens.decode(&tokens.refresh).unwrap();
    claims.generation = Generation(5);
    let ahead = node.state.refresh_tokens.encode(&claims);
    let next = refreshed(&node, ahead.expose()).await;
    assert_eq!(generation(&node, &next), 6);
    assert_eq!(refreshed(&node, ahead.expose()).await, next);
    // Redis regards the generations in between as superseded just now, so a second tab is not signed out.
    assert_eq!(refreshed(&node, &tokens.refresh).await, next);
    cluster.advance(Duration::from_secs(10)); // the grace window
    assert_eq!(node.refresh(&tokens.refresh).await.problem(), (401, "refresh_token_reused".into()));
}

#[tokio::test]
async fn i1_rotation_by_a_node_with_a_fast_clock_extends_grace_by_one_window_at_most() {
    const GRACE: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_hours(7 * 24);
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let claims = node.state.refresh_tokens.decode(&tokens.refresh).unwrap();
    let now = cluster.clock.now();
    let present = async |generation, at| {
        let sessions = &node.state.redis.sessions;
        sessions.rotate(claims.account, claims.session, Generation(generation), GRACE, IDLE, at).await.unwrap()
    };
    let by_fast_clock = present(0, now + Duration::from_hours(24)).await;
    assert!(matches!(by_fast_clock, Rotation::Rotated(_)));
    // The next rotation, by a node with a correct clock, moves the recorded time of the first to at most one grace window ahead.
    let by_correct_clock = present(1, now).await;
    assert!(matches!(by_correct_clock, Rotation::Rotated(_)));
    let current = present(2, now + Duration::from_secs(15)).await;
    assert!(matches!(current, Rotation::Rotated(_)));
    // So the grace window of generation 0 ends at 20 s. Without this limit, its token would be answered for a day.
    assert_eq!(present(0, now + Duration::from_secs(30)).await, Rotation::Reused);
}

/// A session with this idle timeout and lifetime.
fn new_session(node: &Node, account: AccountId, timeout: Duration) -> NewSession {
    NewSession {
        id: node.state.entropy.session_id(),
        account,
        roles: Roles::default(),
        additional_claims: AdditionalClaims::default(),
        epoch: Epoch(0),
        claims_version: ClaimsVersion(0),
        transport: Transport::Bearer,
        origin: SessionOrigin::default(),
        tag: OriginTag::default(),
        basis: SessionBasis::default(),
        idle_timeout: timeout,
        absolute_timeout: timeout,
        max_per_account: 1,
    }
}

/// Rotates at random and compares the store with a model, which records when each generation was superseded. Redis stores the times of
/// seven rotations within a grace window. If there are more, it merges two that lie in the same sixth of the window.
#[tokio::test(flavor = "multi_thread")]
async fn i1_grace_in_random_histories_is_never_shorter_and_at_most_a_sixth_longer() {
    const GRACE_MS: i64 = 10_000;
    const TIMEOUT: Duration = Duration::from_hours(24); // longer than a history
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let redis = &node.state.redis;
    // xorshift64, so that a failure repeats
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        i64::try_from(seed % below).unwrap()
    };
    for history in 0..30 {
        let account = node.state.entropy.account_id(cluster.clock.now());
        let mut now = Timestamp::from_millis(1_800_000_000_000);
        let new = new_session(&node, account, TIMEOUT);
        let session = new.id;
        let created = redis.sessions.create(new, now).await.unwrap();
        assert!(matches!(created, CreateOutcome::Created { .. }));
        // With longer pauses, a window has fewer than seven rotations, with shorter pauses more.
        let longest_pause_ms = [3000, 3000, 800, 100][history % 4];
        // when each generation was superseded, in milliseconds; the index is the generation
        let mut superseded: Vec<i64> = Vec::new();
        for _ in 0..100 {
            now = now + MS * u32::try_from(random(longest_pause_ms)).unwrap();
            let current = i64::try_from(superseded.len()).unwrap();
            let presents_current = random(3) == 0;
            let generations_back = if presents_current { 0 } else { random(40).min(current) };
            let presented = current - generations_back;
            let generation = Generation(u32::try_from(presented).unwrap());
            let grace = Duration::from_millis(GRACE_MS.unsigned_abs());
            let outcome = redis.sessions.rotate(account, session, generation, grace, TIMEOUT, now).await.unwrap();
            if generations_back == 0 {
                let Rotation::Rotated(grant) = outcome else { panic!("{outcome:?}") };
                superseded.push(now.as_millis());
                assert_eq!(i64::from(grant.generation.0), current + 1);
                continue;
            }
            let superseded_at = superseded[usize::try_from(presented).unwrap()];
            let age = now.as_millis() - superseded_at;
            // the rotation of `presented`, and all that Redis may have merged with it
            let rotations = superseded.iter().filter(|other| **other + GRACE_MS > superseded_at).count();
            match outcome {
                Rotation::Repeated(grant) => {
                    assert_eq!(i64::from(grant.generation.0), current, "the current generation, without a fork");
                    assert!(age <= GRACE_MS + GRACE_MS / 6, "accepted too long after it was superseded: {age} ms");
                    assert!(
                        age < GRACE_MS || rotations > 7,
                        "accepted after the grace window with few rotations: {age} ms, {rotations} rotations"
                    );
                }
                Rotation::Reused => {
                    assert!(age >= GRACE_MS, "refused within the grace window: {age} ms");
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
