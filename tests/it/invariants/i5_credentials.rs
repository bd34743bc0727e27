//! I5: A password change ends all sessions of the account, and starts a new one for the caller. Disabling or deleting an account ends all its
//! sessions. A login whose password was checked before such a change creates no session afterwards.

use std::time::Duration;

use futures_util::future::{join, join_all};
use latchkey::{
    domain::{
        account::{ClaimsVersion, Epoch, Roles},
        additional_claims::AdditionalClaims,
        event::EndReason,
        ids::AccountId,
        session::{OriginTag, SessionOrigin, Transport},
    },
    service::accounts,
    store::redis::{AccountSessions, CreateOutcome, NewSession, SessionBasis},
};
use reqwest::Method;

use crate::{
    accounts::problem,
    harness::{
        client::{PASSWORD, Tokens},
        events,
        test_cluster::{Node, TestCluster},
        wait,
    },
};

const NEW_PASSWORD: &str = "gravel lantern opera sixpence";

/// The account of the session with these tokens.
fn account_of(node: &Node, tokens: &Tokens) -> AccountId {
    node.state.refresh_tokens.decode(&tokens.refresh).unwrap().account
}

/// The status and the code of the problem that a refused refresh token gets.
fn invalid_refresh_token() -> (u16, String) {
    problem(401, "invalid_refresh_token")
}

/// The ids of the account's sessions.
async fn session_ids(cluster: &TestCluster, node: &Node, account: AccountId) -> Vec<String> {
    let sessions = node.state.redis.sessions.list(account, cluster.clock.now()).await.unwrap();
    sessions.iter().map(|session| session.id.to_string()).collect()
}

#[tokio::test]
async fn i5_password_change_ends_all_sessions_and_starts_a_new_one() {
    let cluster = TestCluster::new();
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    let caller = nodes[0].login("ada").await;
    let other = nodes[1].login("ada").await;
    let third = nodes[1].login("ada").await;
    let refused = nodes[0].change_password(&caller.access, "not the password", NEW_PASSWORD).await;
    assert_eq!(refused.problem(), problem(403, "wrong_password"));
    nodes[1].refresh(&third.refresh).await.expect(200); // supersedes the token in `third`
    // The sessions began in an earlier second than the change, so one event ends all of them.
    cluster.advance(Duration::from_secs(1));
    let changed = Tokens::of(&nodes[0].change_password(&caller.access, PASSWORD, NEW_PASSWORD).await.expect(200));
    for node in &nodes {
        for tokens in [&caller, &other, &third] {
            assert_eq!(node.refresh(&tokens.refresh).await.problem(), invalid_refresh_token());
            assert_eq!(node.get("/v1/me", &tokens.access).await.problem(), problem(401, "invalid_token"));
        }
        node.get("/v1/me", &changed.access).await.expect(200);
        assert_eq!(node.try_login("ada", PASSWORD).await.problem(), problem(401, "invalid_credentials"));
        node.try_login("ada", NEW_PASSWORD).await.expect(200);
    }
    nodes[1].refresh(&changed.refresh).await.expect(200);
    let events = events::sessions_and_causes(&cluster.redis, account_of(&nodes[0], &caller));
    assert_eq!(events, [(format!("all but {}", changed.session), "password_changed".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_password_change_stops_copied_tokens_of_its_session_on_every_node() {
    let cluster = TestCluster::new();
    let nodes = [cluster.node().await, cluster.node().await];
    let client = cluster.service_client("billing").await;
    nodes[0].register("ada").await;
    let is_active = async |node: &Node, token: &str| {
        let request = node.request(Method::POST, "/oauth2/introspect").form(&[("token", token)]);
        let answer = node.send(request.basic_auth(&client.id, Some(&client.secret))).await.expect(200);
        answer.json()["active"] == true
    };
    // Until the nodes know each other, they do not use their caches.
    cluster.wait_for_peers().await;
    let first = nodes[0].login("ada").await;
    let second = Tokens::of(&nodes[0].refresh(&first.refresh).await.expect(200));
    // Both nodes cache the session.
    for node in &nodes {
        for token in [&first.access, &second.access, &second.refresh] {
            assert!(is_active(node, token).await);
        }
        node.get("/v1/verify", &second.access).await.expect(200);
    }
    // The change is in the same second as the sign-in, and within the grace window of the first refresh token.
    let changed = Tokens::of(&nodes[0].change_password(&second.access, PASSWORD, NEW_PASSWORD).await.expect(200));
    // The other node first: it must know of the change by now.
    for node in [&nodes[1], &nodes[0]] {
        for copy in [&first, &second] {
            assert!(!is_active(node, &copy.access).await);
            assert!(!is_active(node, &copy.refresh).await);
            node.get("/v1/verify", &copy.access).await.expect(401);
            assert_eq!(node.get("/v1/me", &copy.access).await.problem(), problem(401, "invalid_token"));
            assert_eq!(node.refresh(&copy.refresh).await.problem(), invalid_refresh_token());
        }
        assert!(is_active(node, &changed.access).await);
        assert!(is_active(node, &changed.refresh).await);
        node.get("/v1/verify", &changed.access).await.expect(200);
    }
    assert_eq!(
        events::sessions_and_causes(&cluster.redis, account_of(&nodes[0], &first)),
        [first.session, format!("all but {}", changed.session)].map(|ended| (ended, "password_changed".to_owned())),
        "an event for the session of this second, and one that spares the new session"
    );
}

#[tokio::test]
async fn i5_session_after_password_change_is_new_and_has_the_details_of_the_old_one() {
    let mut cluster = TestCluster::new();
    cluster.config.session.absolute_timeout = Duration::from_hours(10);
    let node = cluster.node().await;
    let id: AccountId = node.register("ada").await.text_of("id").parse().unwrap();
    let (added, removed) = (Roles::parse(["editor"]).unwrap(), Roles::default());
    accounts::change_roles(&node.state, id, &added, &removed).await.unwrap();
    let longest_device_name = "x".repeat(64);
    let body = serde_json::json!({ "identifier": "ada", "password": PASSWORD, "device": longest_device_name });
    let signed_in = Tokens::of(&node.post("/v1/login", body).await.expect(200));
    let list = || node.state.redis.sessions.list(id, cluster.clock.now());
    let [old] = list().await.unwrap().try_into().unwrap();
    cluster.advance(Duration::from_hours(9));
    let refreshed = Tokens::of(&node.refresh(&signed_in.refresh).await.expect(200));
    let changed = Tokens::of(&node.change_password(&refreshed.access, PASSWORD, NEW_PASSWORD).await.expect(200));
    let [new] = list().await.unwrap().try_into().unwrap();
    let now = cluster.clock.now();
    assert_eq!(new.id.to_string(), changed.session);
    assert_eq!(new.created_at, now);
    assert_eq!(new.last_used_at, now);
    assert_eq!(new.generation.0, 0);
    assert_eq!(new.ends_at, now + cluster.config.session.absolute_timeout, "the lifetime starts again");
    assert_eq!(new.origin, old.origin);
    assert_eq!(new.transport, old.transport);
    assert_eq!(node.verified(&changed.access).roles, ["editor"]);
    assert_eq!(node.verified(&changed.access).auth_time, now.as_secs());
    // The roles are kept for the next refresh.
    let next = Tokens::of(&node.refresh(&changed.refresh).await.expect(200));
    assert_eq!(node.verified(&next.access).roles, ["editor"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_one_of_sixteen_concurrent_password_changes_succeeds() {
    let mut cluster = TestCluster::new();
    // The limit would refuse some of the requests.
    cluster.config.limits.password_change_per_account = None;
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    let caller = nodes[0].login("ada").await;
    let id = account_of(&nodes[0], &caller);
    let new_password = |i: usize| format!("gravel lantern opera sixpence {i}");
    let answers = join_all((0..16).map(|i| {
        let (node, access, new_password) = (&nodes[i % 2], &caller.access, new_password(i));
        async move { node.change_password(access, PASSWORD, &new_password).await }
    }))
    .await;
    let won: Vec<usize> = (0..16).filter(|&i| answers[i].status == 200).collect();
    let [winner] = won[..] else { panic!("{won:?} succeeded: {answers:?}") };
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        // Such a request finds that the password has changed, or that its session has ended.
        let refusals = [problem(403, "wrong_password"), problem(401, "invalid_token")];
        assert!(refusals.contains(&answer.problem()), "{answer:?}");
    }
    let changed = Tokens::of(&answers[winner]);
    assert_eq!(session_ids(&cluster, &nodes[0], id).await, [changed.session.as_str()], "only the new session is left");
    for node in &nodes {
        assert_eq!(node.refresh(&caller.refresh).await.problem(), invalid_refresh_token());
        node.get("/v1/me", &changed.access).await.expect(200);
        node.try_login("ada", &new_password(winner)).await.expect(200);
        assert_eq!(node.try_login("ada", PASSWORD).await.problem(), problem(401, "invalid_credentials"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_refresh_in_flight_does_not_revive_the_session_that_changed_the_password() {
    let cluster = TestCluster::new();
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    let (mut old, mut new) = (PASSWORD, NEW_PASSWORD);
    // Repeats the race, since only some rounds have a refresh during the change. The passwords alternate.
    for round in 0..10 {
        let caller = nodes[round % 2].login_with("ada", old).await;
        let id = account_of(&nodes[0], &caller);
        // Eight holders of a copy of the refresh token refresh until they are refused.
        let racers = join_all((0..8).map(|i| {
            let (node, mut token) = (&nodes[i % 2], caller.refresh.clone());
            async move {
                loop {
                    let answer = node.refresh(&token).await;
                    if answer.status != 200 {
                        assert_eq!(answer.problem(), invalid_refresh_token());
                        return token;
                    }
                    token = Tokens::of(&answer).refresh;
                }
            }
        }));
        let (newest_tokens, changed) = join(racers, nodes[round % 2].change_password(&caller.access, old, new)).await;
        let changed = Tokens::of(&changed.expect(200));
        for token in newest_tokens {
            for node in &nodes {
                assert_eq!(node.refresh(&token).await.problem(), invalid_refresh_token());
            }
        }
        let left = session_ids(&cluster, &nodes[0], id).await;
        assert_eq!(left, [changed.session.as_str()], "only the new session is left");
        // The next round starts without sessions.
        nodes[1].logout(&changed.refresh).await.expect(204);
        (old, new) = (new, old);
    }
}

#[tokio::test]
async fn i5_disabling_or_deleting_an_account_ends_all_its_sessions() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    for reason in ["disabled", "deleted"] {
        let sessions = [node.login("ada").await, node.login("ada").await];
        let id = account_of(&node, &sessions[0]);
        let ended = match reason {
            "disabled" => accounts::disable(&node.state, id).await.unwrap(),
            _ => accounts::delete(&node.state, id).await.unwrap(),
        };
        assert_eq!(ended, 2);
        for tokens in &sessions {
            assert_eq!(node.refresh(&tokens.refresh).await.problem(), invalid_refresh_token());
            assert_eq!(node.get("/v1/me", &tokens.access).await.problem(), problem(401, "invalid_token"));
        }
        assert_eq!(node.try_login("ada", PASSWORD).await.problem(), problem(401, "invalid_credentials"));
        let events = events::sessions_and_causes(&cluster.redis, id);
        assert_eq!(*events.last().unwrap(), ("all".to_owned(), reason.to_owned()));
        if reason == "disabled" {
            accounts::enable(&node.state, id).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_concurrent_login_with_the_old_password_does_not_survive_its_change() {
    let mut cluster = TestCluster::new();
    // The throttle would refuse concurrent wrong passwords.
    cluster.config.limits.login_backoff = None;
    cluster.config.limits.login_per_address = None;
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    let (mut old, mut new) = (PASSWORD, NEW_PASSWORD);
    // Repeats the race, since only some rounds have a login during the change. The passwords alternate.
    for round in 0..20 {
        let caller = nodes[round % 2].login_with("ada", old).await;
        let id = account_of(&nodes[0], &caller);
        let racers = join_all((0..16).map(|i| nodes[i % 2].try_login("ada", old)));
        let (answers, changed) = join(racers, nodes[0].change_password(&caller.access, old, new)).await;
        let changed = Tokens::of(&changed.expect(200));
        for answer in answers {
            if answer.status == 200 {
                let tokens = Tokens::of(&answer);
                assert_eq!(nodes[round % 2].refresh(&tokens.refresh).await.problem(), invalid_refresh_token());
            } else {
                assert_eq!(answer.problem(), problem(401, "invalid_credentials"));
            }
        }
        let left = session_ids(&cluster, &nodes[0], id).await;
        assert_eq!(left, [changed.session.as_str()], "only the caller's new session is left");
        nodes[1].logout(&changed.refresh).await.expect(204);
        (old, new) = (new, old);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_concurrent_login_does_not_survive_disabling_the_account() {
    let mut cluster = TestCluster::new();
    // The throttle would refuse concurrent wrong passwords.
    cluster.config.limits.login_backoff = None;
    cluster.config.limits.login_per_address = None;
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    let first = nodes[0].login("ada").await;
    let id = account_of(&nodes[0], &first);
    // Repeats the race, since only some rounds have a login during the change.
    for _ in 0..20 {
        let racers = join_all((0..16).map(|i| nodes[i % 2].try_login("ada", PASSWORD)));
        let (answers, ended) = join(racers, accounts::disable(&nodes[1].state, id)).await;
        ended.unwrap();
        assert_eq!(nodes[0].state.redis.sessions.list(id, cluster.clock.now()).await.unwrap(), []);
        for answer in answers.iter().filter(|answer| answer.status == 200) {
            assert_eq!(nodes[0].refresh(&Tokens::of(answer).refresh).await.problem(), invalid_refresh_token());
        }
        accounts::enable(&nodes[0].state, id).await.unwrap();
        // An enabled account can log in at once.
        nodes[0].try_login("ada", PASSWORD).await.expect(200);
    }
}

/// A session of a sign-in that read the account at this epoch, a counter of changes that end its sessions.
fn new_session(node: &Node, account: AccountId, epoch: u32) -> NewSession {
    NewSession {
        id: node.state.entropy.session_id(),
        account,
        roles: Roles::default(),
        additional_claims: AdditionalClaims::default(),
        epoch: Epoch(epoch),
        claims_version: ClaimsVersion(0),
        transport: Transport::Bearer,
        origin: SessionOrigin::default(),
        tag: OriginTag::default(),
        basis: SessionBasis::default(),
        idle_timeout: Duration::from_secs(60),
        absolute_timeout: Duration::from_secs(60),
        max_per_account: 5,
    }
}

#[tokio::test]
async fn i5_login_checked_before_the_change_creates_no_session() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let redis = &node.state.redis;
    let now = cluster.clock.now();
    let id = node.state.entropy.account_id(now);
    let spared = new_session(&node, id, 0);
    let spared_id = spared.id;
    assert!(matches!(redis.sessions.create(spared, now).await.unwrap(), CreateOutcome::Created { .. }));
    let sign_in_with_epoch_1 = async || redis.sessions.create(new_session(&node, id, 1), now).await.unwrap();
    // Each change brings the account to epoch 2. A sign-in with epoch 1 read the account before. The first change spares a session.
    for except in [Some(spared_id), None] {
        let ended = AccountSessions { except, ..AccountSessions::all(id).with_epoch(Epoch(2)) };
        redis.sessions.revoke_all(ended, EndReason::PasswordChanged, now).await.unwrap();
        assert_eq!(sign_in_with_epoch_1().await, CreateOutcome::Stale);
        // The fence, which is epoch 2 in Redis, remains after other changes to the account's sessions.
        redis.sessions.revoke_all(AccountSessions::all(id), EndReason::Revoked, now).await.unwrap();
        assert_eq!(sign_in_with_epoch_1().await, CreateOutcome::Stale);
        // A delayed command with an older epoch does not lower the fence.
        let ended = AccountSessions::all(id).with_epoch(Epoch(1));
        redis.sessions.revoke_all(ended, EndReason::PasswordChanged, now).await.unwrap();
        assert_eq!(sign_in_with_epoch_1().await, CreateOutcome::Stale);
        // A newer sign-in and its end do not lower the fence either.
        let fresh = new_session(&node, id, 2);
        let session = fresh.id;
        assert!(matches!(redis.sessions.create(fresh, now).await.unwrap(), CreateOutcome::Created { .. }));
        redis.sessions.revoke(id, session, EndReason::Logout, now).await.unwrap();
        assert_eq!(sign_in_with_epoch_1().await, CreateOutcome::Stale);
    }
    assert_eq!(redis.sessions.list(id, now).await.unwrap(), []);
}

#[tokio::test]
async fn i5_change_that_cannot_end_the_sessions_is_rolled_back() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let (caller, other) = (node.login("ada").await, node.login("ada").await);
    let id = account_of(&node, &caller);

    // A replica refuses writes: the sessions can't be ended.
    cluster.redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let before = cluster.redis.dump();
    let answer = node.change_password(&caller.access, PASSWORD, NEW_PASSWORD).await;
    assert_eq!(answer.problem(), problem(503, "unavailable"));
    assert!(!answer.header("retry-after").is_empty());
    assert!(accounts::disable(&node.state, id).await.is_err());
    assert!(accounts::delete(&node.state, id).await.is_err());
    assert!(cluster.redis.dump() == before, "Redis has not changed");
    cluster.redis.command(&["REPLICAOF", "NO", "ONE"]);

    // The database has not changed either.
    assert_eq!(node.try_login("ada", NEW_PASSWORD).await.problem(), problem(401, "invalid_credentials"));
    node.try_login("ada", PASSWORD).await.expect(200);
    node.refresh(&other.refresh).await.expect(200);

    // The change succeeds when Redis accepts writes.
    node.change_password(&caller.access, PASSWORD, NEW_PASSWORD).await.expect(200);
    assert_eq!(node.refresh(&other.refresh).await.problem(), invalid_refresh_token());
    node.try_login("ada", NEW_PASSWORD).await.expect(200);
}

#[tokio::test]
async fn i5_change_rolled_back_after_the_sessions_ended_does_not_prevent_login() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let caller = node.login("ada").await;
    let id = account_of(&node, &caller);
    // Redis has the fence and the database does not have the change: the node was killed before it committed, or lost the response of Redis.
    let sessions = &node.state.redis.sessions;
    let ended = AccountSessions::all(id).with_epoch(Epoch(1));
    sessions.revoke_all(ended, EndReason::PasswordChanged, cluster.clock.now()).await.unwrap();
    assert_eq!(node.refresh(&caller.refresh).await.problem(), invalid_refresh_token());
    let answers = join_all((0..16).map(|_| node.try_login("ada", PASSWORD))).await;
    let mut logins: Vec<_> = answers.into_iter().map(|answer| Tokens::of(&answer.expect(200))).collect();
    let caller = logins.pop().unwrap();
    node.get("/v1/me", &caller.access).await.expect(200);
    // A login that was checked before the change is still refused.
    let created = sessions.create(new_session(&node, id, 0), cluster.clock.now()).await.unwrap();
    assert_eq!(created, CreateOutcome::Stale);
    node.change_password(&caller.access, PASSWORD, NEW_PASSWORD).await.expect(200);
    assert_eq!(node.try_login("ada", PASSWORD).await.problem(), problem(401, "invalid_credentials"));
    node.try_login("ada", NEW_PASSWORD).await.expect(200);
}

#[tokio::test]
async fn i5_redis_out_of_memory_allows_password_change_and_disabling() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    for name in ["ada", "grace", "mary"] {
        node.register(name).await;
    }
    let only_session = node.login("grace").await;
    let (caller, other) = (node.login("ada").await, node.login("ada").await);
    let account_without_session = accounts::find(&node.state.sql, "mary").await.unwrap();
    cluster.advance(Duration::from_secs(1)); // so that one event ends all sessions of an account
    // Redis refuses commands that may need memory.
    cluster.redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let answer = node.delete("/v1/sessions?keep_current=true", &only_session.access).await.expect(200);
    assert_eq!(answer.json()["revoked"], 0);
    let change_password = async |tokens: &Tokens| {
        let changed = Tokens::of(&node.change_password(&tokens.access, PASSWORD, NEW_PASSWORD).await.expect(200));
        node.get("/v1/me", &changed.access).await.expect(200);
        changed
    };
    change_password(&only_session).await;
    let changed = change_password(&caller).await;
    assert_eq!(node.refresh(&other.refresh).await.problem(), invalid_refresh_token());
    cluster.advance(Duration::from_secs(1));
    assert_eq!(accounts::disable(&node.state, account_without_session.id).await.unwrap(), 0);
    assert_eq!(accounts::disable(&node.state, account_of(&node, &caller)).await.unwrap(), 1);
    for tokens in [&caller, &changed] {
        assert_eq!(node.refresh(&tokens.refresh).await.problem(), invalid_refresh_token());
    }
    let events = events::sessions_and_causes(&cluster.redis, account_of(&node, &caller));
    let causes: Vec<_> = events.into_iter().map(|(_, cause)| cause).collect();
    assert_eq!(causes, ["password_changed", "disabled"]);
}

#[tokio::test]
async fn i5_change_while_redis_hangs_is_refused_and_rolled_back() {
    let mut cluster = TestCluster::new();
    cluster.config.redis.command_timeout = Duration::from_millis(300);
    let node = cluster.node().await;
    node.register("ada").await;
    let caller = node.login("ada").await;
    cluster.redis.signal(rustix::process::Signal::STOP);
    let answer = node.change_password(&caller.access, PASSWORD, NEW_PASSWORD).await;
    assert_eq!(answer.problem(), problem(503, "unavailable"));
    assert!(accounts::disable(&node.state, account_of(&node, &caller)).await.is_err());
    cluster.redis.signal(rustix::process::Signal::CONT);
    wait::until("Redis answers", async || node.state.redis.health.ping().await.is_ok()).await;
    node.try_login("ada", PASSWORD).await.expect(200);
    assert_eq!(node.try_login("ada", NEW_PASSWORD).await.problem(), problem(401, "invalid_credentials"));
}
