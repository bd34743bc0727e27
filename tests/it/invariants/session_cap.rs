//! An account has at most `session.max_per_account` sessions; the oldest ends when another is created.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;

use crate::harness::{client::Tokens, events, test_cluster::TestCluster};

/// The default of `session.max_per_account`.
const DEFAULT_CAP: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn session_beyond_the_cap_ends_the_oldest_on_every_node() {
    let cluster = TestCluster::new();
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    let mut sessions = Vec::new();
    for i in 0..DEFAULT_CAP {
        sessions.push(nodes[i % 2].login("ada").await);
        // the sessions are created at different times, so that one is the oldest
        cluster.advance(Duration::from_secs(1));
    }
    let account = nodes[0].state.refresh_tokens.decode(&sessions[0].refresh).unwrap().account;
    assert_eq!(events::of_account(&cluster.redis, account), [], "no session has ended yet");
    // The age of a session counts from its sign-in: a refresh does not make it younger.
    let oldest = Tokens::of(&nodes[1].refresh(&sessions[0].refresh).await.expect(200));
    let newest = nodes[1].login("ada").await;
    for node in &nodes {
        assert_eq!(node.refresh(&oldest.refresh).await.problem(), (401, "invalid_refresh_token".to_owned()));
        assert_eq!(node.get("/v1/me", &oldest.access).await.problem(), (401, "invalid_token".to_owned()));
    }
    let events = events::sessions_and_causes(&cluster.redis, account);
    assert_eq!(events, [(oldest.session, "limit".to_owned())]);
    // the second-oldest session is live
    nodes[0].refresh(&sessions[1].refresh).await.expect(200);
    let listed = nodes[0].get("/v1/sessions", &newest.access).await.expect(200).json();
    let listed = listed["sessions"].as_array().unwrap();
    assert_eq!(listed.len(), DEFAULT_CAP);
    assert_eq!(listed[DEFAULT_CAP - 1]["id"], newest.session, "the sessions are listed by age, the newest last");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_concurrent_logins_never_exceed_the_session_cap() {
    const CAP: usize = 3;
    const LOGINS: usize = 16;
    let mut cluster = TestCluster::new();
    cluster.config.session.max_per_account = u32::try_from(CAP).unwrap();
    // The throttle would limit concurrent logins.
    cluster.config.limits.login_backoff = None;
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    for round in 1..=5 {
        let racers = join_all((0..LOGINS).map(|i| nodes[i % 2].login("ada"))).await;
        let account = nodes[0].state.refresh_tokens.decode(&racers[0].refresh).unwrap().account;
        let live = nodes[0].state.redis.sessions.list(account, cluster.clock.now()).await.unwrap();
        assert_eq!(live.len(), CAP);
        let events = events::sessions_and_causes(&cluster.redis, account);
        assert_eq!(events.len(), LOGINS * round - CAP, "all sessions so far have ended, except the live ones");
        let ended_ids: HashSet<_> = events.iter().map(|(session, _)| session.clone()).collect();
        assert_eq!(ended_ids.len(), events.len(), "one event for each ended session");
        assert!(events.iter().all(|(_, cause)| cause == "limit"), "{events:?}");
        assert!(live.iter().all(|session| !ended_ids.contains(&session.id.to_string())), "no event for live sessions");
    }
}
