//! I2: A token that was superseded longer ago than the grace window revokes its session, and only that one, and is recorded.

use std::time::Duration;

use futures_util::future::join_all;

use crate::harness::{client::Tokens, events, test_cluster::TestCluster};

#[tokio::test(flavor = "multi_thread")]
async fn i2_superseded_token_after_grace_revokes_its_session_only_and_is_recorded() {
    let cluster = TestCluster::new();
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].account("ada").await;
    let (stolen, other) = (nodes[0].login("ada").await, nodes[1].login("ada").await);
    let account = nodes[0].verified(&stolen.access).sub;
    let newest = Tokens::of(&nodes[0].refresh(&stolen.refresh).await.expect(200));

    cluster.advance(Duration::from_millis(9_999));
    assert_eq!(Tokens::of(&nodes[1].refresh(&stolen.refresh).await.expect(200)).refresh, newest.refresh);
    assert_eq!(events::of(&cluster.redis, account), []);
    cluster.advance(Duration::from_millis(1));
    let answer = nodes[1].refresh(&stolen.refresh).await;
    assert_eq!(answer.problem(), (401, "refresh_token_reused".to_owned()));

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
    let events = events::of(&cluster.redis, account);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((events[0].session.as_str(), events[0].reason.as_str()), (stolen.session.as_str(), "reuse"));
    assert_eq!(events[0].at, cluster.clock.now().as_millis().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_sixteen_concurrent_reuses_are_recorded_once() {
    let cluster = TestCluster::new();
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].account("ada").await;
    for _ in 0..10 {
        let first = nodes[0].login("ada").await;
        let account = nodes[0].verified(&first.access).sub;
        let newest = Tokens::of(&nodes[0].refresh(&first.refresh).await.expect(200));
        cluster.advance(Duration::from_secs(10));
        // Half of them present the current token: they succeed until the first reuse, and not afterwards.
        let tokens = [&first.refresh, &newest.refresh];
        let answers = join_all((0..16).map(|i| nodes[i % 2].refresh(tokens[i / 8]))).await;
        let reused =
            answers.iter().filter(|answer| answer.status == 401 && answer.problem().1 == "refresh_token_reused");
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
    node.account("ada").await;
    let first = node.login("ada").await;
    let mut current = first.refresh.clone();
    for _ in 0..30 {
        current = Tokens::of(&node.refresh(&current).await.expect(200)).refresh;
        cluster.advance(Duration::from_millis(700));
    }
    assert_eq!(node.refresh(&first.refresh).await.problem(), (401, "refresh_token_reused".to_owned()));
    assert_eq!(node.refresh(&current).await.problem(), (401, "invalid_refresh_token".to_owned()));
}
