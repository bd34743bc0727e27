//! I1: However many concurrent requests present a refresh token, the session advances by exactly one generation. A token that
//! was superseded within the grace window is answered with the session's current token.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use latchkey::{
    domain::{
        account::{ClaimsVersion, Epoch, Roles},
        additional_claims::AdditionalClaims,
        clock::{Clock, Timestamp},
        session::{Generation, OriginTag, Rotation, SessionOrigin, Transport},
    },
    store::redis::{CreateOutcome, NewSession, SessionBasis},
};

use crate::{
    harness::{
        client::Tokens,
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

/// Signs in and refreshes `times` times, `pause` apart, on alternating nodes. Returns all refresh tokens, the current one last.
async fn rotate(cluster: &TestCluster, nodes: &[Node; 2], times: usize, pause: Duration) -> Vec<String> {
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
        let answers: HashSet<String> =
            join_all(racers).await.into_iter().map(|answer| Tokens::of(&answer.expect(200)).refresh).collect();
        assert_eq!(answers.len(), 1, "one successor for all");
        let next = answers.into_iter().next().unwrap();
        assert_ne!(next, current);
        current = next;
        // past the grace window of 10 s
        cluster.advance(Duration::from_secs(11));
    }
    // One generation for each round.
    let claims = nodes[0].state.refresh_tokens.decode(&current).unwrap();
    assert_eq!(claims.generation.0, 50);
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
    let newest =
        last_tokens.iter().map(|token| nodes[0].state.refresh_tokens.decode(token).unwrap().generation).max().unwrap();
    assert!(newest.0 >= 20, "each of the 20 refreshes of a client returns a newer generation: {newest:?}");
    // Clients whose token was superseded by another client get a current token.
    let answers: HashSet<String> = join_all(last_tokens.iter().map(|token| nodes[1].refresh(token)))
        .await
        .into_iter()
        .map(|answer| Tokens::of(&answer.expect(200)).refresh)
        .collect();
    let generations: Vec<_> =
        answers.iter().map(|token| nodes[0].state.refresh_tokens.decode(token).unwrap().generation.0).collect();
    assert!(generations.iter().all(|generation| *generation >= newest.0), "{generations:?}");
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
    assert_eq!(
        nodes[0].refresh(&first).await.problem(),
        (401, "refresh_token_reused".into()),
        "the grace window is 10 s"
    );
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
        let mut tokens = rotate(&cluster, &nodes, times, pause).await;
        let current = tokens.pop().unwrap();
        for (i, token) in tokens.iter().enumerate() {
            assert_eq!(refreshed(&nodes[i % 2], token).await, current, "{i} of {times}");
        }
        // The repeated refreshes did not advance the session.
        let next = refreshed(&nodes[0], &current).await;
        let generation = nodes[0].state.refresh_tokens.decode(&next).unwrap().generation;
        assert_eq!(usize::try_from(generation.0).unwrap(), times + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_grace_window_of_seven_rotations_is_exact() {
    let mut cluster = TestCluster::new();
    cluster.config.session.retry_window = Duration::ZERO;
    let nodes = two_nodes(&cluster).await;
    nodes[0].register("ada").await;
    for late in 0..7 {
        let mut tokens = rotate(&cluster, &nodes, 7, MS * 1000).await;
        let current = tokens.pop().unwrap();
        // The first token was superseded six seconds ago, and each later one a second after the one before. So the token at index `late`
        // is now 1 ms before the end of its grace window.
        cluster.advance(MS * (3999 + 1000 * late));
        let index = usize::try_from(late).unwrap();
        assert_eq!(refreshed(&nodes[1], &tokens[index]).await, current, "{late}");
        cluster.advance(MS);
        assert_eq!(nodes[0].refresh(&tokens[index]).await.problem(), (401, "refresh_token_reused".into()), "{late}");
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
        let count =
            |code: &str| answers.iter().filter(|answer| answer.status == 401 && answer.problem().1 == code).count();
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
        let tokens: HashSet<String> =
            answers.into_iter().map(|answer| Tokens::of(&answer.expect(200)).refresh).collect();
        // Each node signs with its own secret; the claims are equal, and both nodes accept both tokens.
        assert_eq!(tokens.len(), 2);
        let claims: Vec<_> = tokens.iter().map(|token| nodes[round % 2].state.refresh_tokens.decode(token)).collect();
        assert_eq!(claims[0], claims[1]);
        assert_eq!(usize::try_from(claims[0].unwrap().generation.0).unwrap(), round);
        current = tokens.into_iter().next().unwrap();
        // past the grace window of 10 s
        cluster.advance(Duration::from_secs(11));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_concurrent_refreshes_on_nodes_with_clock_skew_get_one_successor() {
    let mut cluster = TestCluster::new();
    // The clock of the second node is three seconds ahead of the clock of the first.
    let ahead = Clock::manual(cluster.clock.now() + Duration::from_secs(3));
    let node = cluster.node().await;
    // From here on, `cluster.advance` advances the clock of the second node.
    let clock_of_first = std::mem::replace(&mut cluster.clock, ahead);
    let peer = cluster.node().await;
    let nodes = [node, peer];
    nodes[0].register("ada").await;
    let mut current = nodes[0].login("ada").await.refresh;
    for round in 1..=20 {
        let answers = join_all((0..16).map(|i| nodes[i % 2].refresh(&current))).await;
        let tokens: HashSet<String> =
            answers.into_iter().map(|answer| Tokens::of(&answer.expect(200)).refresh).collect();
        assert_eq!(tokens.len(), 1);
        current = tokens.into_iter().next().unwrap();
        assert_eq!(nodes[0].state.refresh_tokens.decode(&current).unwrap().generation.0, round);
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
    assert_eq!(node.state.refresh_tokens.decode(&next).unwrap().generation, Generation(6));
    assert_eq!(refreshed(&node, ahead.expose()).await, next);
    // Redis regards the generations in between as superseded just now, so a second tab is not signed out.
    assert_eq!(refreshed(&node, &tokens.refresh).await, next);
    cluster.advance(Duration::from_secs(10));
    assert_eq!(node.refresh(&tokens.refresh).await.problem(), (401, "refresh_token_reused".into()));
}

#[tokio::test]
async fn i1_rotation_by_a_node_with_a_fast_clock_extends_grace_by_one_window_at_most() {
    const GRACE: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(86_400 * 7);
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let claims = node.state.refresh_tokens.decode(&node.login("ada").await.refresh).unwrap();
    let now = cluster.clock.now();
    let rotate = async |generation, now| {
        node.state
            .redis
            .sessions
            .rotate(claims.account, claims.session, Generation(generation), GRACE, IDLE, now)
            .await
            .unwrap()
    };
    assert!(matches!(rotate(0, now + Duration::from_secs(86_400)).await, Rotation::Rotated(_)));
    // The next rotation, by a node with a correct clock, limits the recorded time to one grace window ahead.
    assert!(matches!(rotate(1, now).await, Rotation::Rotated(_)));
    assert!(matches!(rotate(2, now + Duration::from_secs(15)).await, Rotation::Rotated(_)));
    // Without this limit, generation 0 would be answered with the current token for a day.
    assert_eq!(rotate(0, now + Duration::from_secs(30)).await, Rotation::Reused);
}

/// Rotates at random and compares the store with a model, which records when each generation was superseded. Redis stores the times of
/// seven rotations within a grace window. Of more, it merges two that lie in the same sixth of the window.
#[tokio::test(flavor = "multi_thread")]
async fn i1_grace_in_random_histories_is_never_shorter_and_at_most_a_sixth_longer() {
    const GRACE: i64 = 10_000; // milliseconds
    const IDLE: Duration = Duration::from_secs(86_400);
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
    for walk in 0..30 {
        let account = node.state.entropy.account_id(cluster.clock.now());
        let mut now = Timestamp::from_millis(1_800_000_000_000);
        let new = NewSession {
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
            idle_timeout: IDLE,
            absolute_timeout: IDLE,
            max_per_account: 1,
        };
        let session = new.id;
        assert!(matches!(redis.sessions.create(new, now).await.unwrap(), CreateOutcome::Created { .. }));
        // Some histories have fewer than seven rotations in a window, others more.
        let longest_pause_ms = [3000, 3000, 800, 100][walk % 4];
        let mut superseded: Vec<i64> = Vec::new();
        for _ in 0..100 {
            now = now + MS * u32::try_from(random(longest_pause_ms)).unwrap();
            let current = i64::try_from(superseded.len()).unwrap();
            let back = if random(3) == 0 { 0 } else { random(40).min(current) };
            let presented = current - back;
            let generation = Generation(u32::try_from(presented).unwrap());
            let grace = Duration::from_millis(GRACE.unsigned_abs());
            let outcome = redis.sessions.rotate(account, session, generation, grace, IDLE, now).await.unwrap();
            if back == 0 {
                let Rotation::Rotated(grant) = outcome else { panic!("{outcome:?}") };
                superseded.push(now.as_millis());
                assert_eq!(i64::from(grant.generation.0), current + 1);
                continue;
            }
            let superseded_at = superseded[usize::try_from(presented).unwrap()];
            let age = now.as_millis() - superseded_at;
            let rotations = superseded.iter().filter(|other| **other + GRACE > superseded_at).count();
            match outcome {
                Rotation::Repeated(grant) => {
                    assert_eq!(i64::from(grant.generation.0), current, "the current generation, without a fork");
                    assert!(age < GRACE + GRACE / 6 + 1, "accepted too long after it was superseded: {age} ms");
                    assert!(
                        age < GRACE || rotations > 7,
                        "accepted after the grace window with few rotations: {age} ms, {rotations} rotations"
                    );
                }
                Rotation::Reused => {
                    assert!(age >= GRACE, "refused within the grace window: {age} ms");
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
