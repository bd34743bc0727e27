//! I3, revoked stays revoked: once a logout or a revocation has been answered, no refresh succeeds on any node, and no request in
//! flight revives the session. The event is appended in the same atomic step as the revocation.

use std::time::Duration;

use futures_util::future::{join, join_all};

use latchkey::{
    domain::session::AcceptedTransport,
    service::{
        change_password::{ChangePasswordError, change_password},
        request_origin::RequestOrigin,
    },
};

use crate::harness::{
    client::{Answer, PASSWORD, Tokens},
    events,
    test_cluster::{Node, TestCluster},
};

/// The ways in which the owner of a session ends it.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Logout,
    LogoutByAccessToken,
    Revoke,
    RevokeAll,
}

impl Ending {
    const ALL: [Self; 4] = [Self::Logout, Self::LogoutByAccessToken, Self::Revoke, Self::RevokeAll];

    async fn execute(self, node: &Node, tokens: &Tokens) -> Answer {
        match self {
            Self::Logout => node.logout(&tokens.refresh).await.expect(204),
            Self::LogoutByAccessToken => {
                let request = node.request(reqwest::Method::POST, "/v1/logout").bearer_auth(&tokens.access);
                node.send(request).await.expect(204)
            }
            Self::Revoke => node.delete(&format!("/v1/sessions/{}", tokens.session), &tokens.access).await.expect(204),
            Self::RevokeAll => node.delete("/v1/sessions", &tokens.access).await.expect(200),
        }
    }

    /// The event that the ending appends: the session that it names (or `all`), and its cause.
    fn event(self, session: &str) -> (String, String) {
        match self {
            Self::Logout | Self::LogoutByAccessToken => (session.to_owned(), "logout".to_owned()),
            Self::Revoke => (session.to_owned(), "revoked".to_owned()),
            Self::RevokeAll => ("all".to_owned(), "revoked".to_owned()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_refresh_in_flight_does_not_revive_an_ended_session() {
    let cluster = TestCluster::new();
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    let mut expected = Vec::new();
    for round in 0..40 {
        let ending = Ending::ALL[round % Ending::ALL.len()];
        let tokens = nodes[round % 2].login("ada").await;
        let claims = nodes[0].verified(&tokens.access);
        // `RevokeAll` appends one event if all sessions began in an earlier second
        cluster.advance(Duration::from_secs(1));
        // Each client refreshes with its newest token until it is refused.
        let racers = join_all((0..16).map(|i| {
            let (node, mut token) = (&nodes[i % 2], tokens.refresh.clone());
            async move {
                loop {
                    let answer = node.refresh(&token).await;
                    if answer.status != 200 {
                        assert_eq!(answer.problem(), (401, "invalid_refresh_token".to_owned()));
                        return token;
                    }
                    token = Tokens::of(&answer).refresh;
                }
            }
        }));
        let end = async {
            // Meanwhile the clients refresh: more often in some rounds than in others.
            for _ in 0..round % 7 {
                nodes[0].get("/v1/me", &tokens.access).await.expect(200);
            }
            // not on the node of the login
            ending.execute(&nodes[(round + 1) % 2], &tokens).await;
            join_all((0..4).map(|i| nodes[i % 2].refresh(&tokens.refresh))).await
        };
        let (newest_tokens, answers_after_end) = join(racers, end).await;
        for answer in answers_after_end {
            assert_eq!(answer.problem(), (401, "invalid_refresh_token".to_owned()), "{ending:?}");
        }
        for node in &nodes {
            for token in &newest_tokens {
                assert_eq!(node.refresh(token).await.problem(), (401, "invalid_refresh_token".to_owned()));
            }
            assert_eq!(node.get("/v1/me", &tokens.access).await.problem(), (401, "invalid_token".to_owned()));
        }
        assert_eq!(nodes[0].state.redis.sessions.list(claims.sub, cluster.clock.now()).await.unwrap(), []);
        assert_eq!(cluster.redis.command(&["--scan", "--pattern", "lk:s*"]), "", "no key of the session is left");
        expected.push(ending.event(&tokens.session));
        assert_eq!(events::sessions_and_causes(&cluster.redis, claims.sub), expected, "the event, exactly once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_sixteen_concurrent_logouts_append_one_event() {
    let cluster = TestCluster::new();
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    for _ in 0..10 {
        let tokens = nodes[0].login("ada").await;
        let account = nodes[0].verified(&tokens.access).sub;
        for answer in join_all((0..16).map(|i| nodes[i % 2].logout(&tokens.refresh))).await {
            answer.expect(204);
        }
        assert_eq!(events::causes_of_session(&cluster.redis, account, &tokens.session), ["logout"]);
    }
}

#[tokio::test]
async fn i3_ending_a_session_leaves_other_sessions_and_accounts_alone() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    node.register("grace").await;
    let stranger = node.login("grace").await;
    let [one, two, three] = [node.login("ada").await, node.login("ada").await, node.login("ada").await];
    node.logout(&one.refresh).await.expect(204);
    node.get("/v1/me", &two.access).await.expect(200);
    // The session of another account can't be ended, and is answered like an unknown session.
    let strangers_session = format!("/v1/sessions/{}", stranger.session);
    assert_eq!(node.delete(&strangers_session, &two.access).await.problem(), (404, "unknown_session".to_owned()));
    // to a later second, so that one event ends all sessions but one
    cluster.advance(Duration::from_secs(1));
    let answer = node.delete("/v1/sessions?keep_current=true", &two.access).await.expect(200);
    assert_eq!(answer.json()["revoked"], 1, "the third session; the first had ended");
    assert_eq!(node.refresh(&three.refresh).await.problem(), (401, "invalid_refresh_token".to_owned()));
    node.refresh(&two.refresh).await.expect(200);
    node.refresh(&stranger.refresh).await.expect(200);
    let account = node.verified(&two.access).sub;
    let events = events::sessions_and_causes(&cluster.redis, account);
    // the first event is that of the logout
    assert_eq!(events[1], (format!("all but {}", two.session), "revoked".to_owned()));
}

#[tokio::test]
async fn i3_redis_out_of_memory_still_revokes_and_refuses_other_writes() {
    let mut cluster = TestCluster::new();
    // Redis would expire the keys of these limits during the test, and the dumps would differ.
    cluster.config.limits.login_per_address = None;
    cluster.config.limits.login_service = None;
    let node = cluster.node().await;
    node.register("ada").await;
    node.login("ada").await; // another session, which only `RevokeAll` ends
    let mut expected = Vec::new();
    for ending in Ending::ALL {
        // 0 is no limit, so the login succeeds
        cluster.redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
        let tokens = node.login("ada").await;
        let account = node.verified(&tokens.access).sub;
        // `RevokeAll` appends one event if all sessions began in an earlier second
        cluster.advance(Duration::from_secs(1));
        // a limit of one byte: Redis is out of memory
        cluster.redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
        let before = cluster.redis.dump();
        // the second refresh is the client's retry
        for _ in 0..2 {
            let answer = node.refresh(&tokens.refresh).await;
            assert_eq!(answer.problem(), (503, "unavailable".to_owned()));
            assert!(!answer.header("retry-after").is_empty());
        }
        assert_eq!(node.try_login("ada", PASSWORD).await.status, 503);
        assert!(cluster.redis.dump() == before, "refused requests change nothing");
        // a read still succeeds
        node.get("/v1/me", &tokens.access).await.expect(200);

        ending.execute(&node, &tokens).await;
        expected.push(ending.event(&tokens.session));
        assert_eq!(node.refresh(&tokens.refresh).await.problem(), (401, "invalid_refresh_token".to_owned()));
        assert_eq!(events::sessions_and_causes(&cluster.redis, account), expected);
    }
}

#[tokio::test]
async fn i3_reuse_with_redis_out_of_memory_revokes_session() {
    let mut cluster = TestCluster::new();
    // so that a repeat after the grace window is reuse
    cluster.config.session.retry_window = Duration::ZERO;
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let account = node.verified(&tokens.access).sub;
    node.refresh(&tokens.refresh).await.expect(200);
    // past the grace window of 10 s
    cluster.advance(Duration::from_secs(10));
    // a limit of one byte: Redis is out of memory
    cluster.redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(node.refresh(&tokens.refresh).await.problem(), (401, "refresh_token_reused".to_owned()));
    assert_eq!(events::sessions_and_causes(&cluster.redis, account), [(tokens.session, "reuse".to_owned())]);
}

#[tokio::test]
async fn i3_password_change_by_a_session_that_ended_meanwhile_is_refused() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let thief = node.login("ada").await;
    let owner = node.login("ada").await;
    let claims = node.verified(&thief.access);
    node.delete(&format!("/v1/sessions/{}", thief.session), &owner.access).await.expect(204);
    // Called directly: the thief's request was authenticated before the session ended.
    let new_password = "an other ocean of marmalade".into();
    let origin = RequestOrigin::default();
    let changed =
        change_password(&node.state, &claims, PASSWORD.into(), new_password, origin, AcceptedTransport::Any).await;
    assert!(matches!(changed, Err(ChangePasswordError::SessionEnded)), "{changed:?}");
    node.get("/v1/me", &owner.access).await.expect(200);
    node.try_login("ada", PASSWORD).await.expect(200);
}
