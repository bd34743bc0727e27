//! I16: Once a change of roles is answered, it applies on every node: older access tokens are refused, and the next refresh returns an
//! access token with the current claims.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use latchkey::{
    crypto::access_token::AccessClaims,
    domain::{
        account::{ClaimsVersion, Roles},
        additional_claims::AdditionalClaims,
        ids::AccountId,
    },
    service::accounts,
    store::redis::RedisStores,
};
use reqwest::Method;

use crate::harness::{
    client::{Answer, PASSWORD, Tokens},
    monitor::Monitor,
    test_cluster::{Node, ServiceClient, TestCluster},
    wait,
};

/// Two nodes that know each other, an account and a service client. The account has the role `editor`. The change that added the role
/// incremented the account's claims version, the counter of such changes, to 1.
struct Fixture {
    // Fields are dropped in order: the nodes before their Redis and database.
    nodes: [Node; 2],
    cluster: TestCluster,
    service: ServiceClient,
    account: AccountId,
}

impl Fixture {
    async fn start() -> Self {
        let mut cluster = TestCluster::new();
        // the tests send more requests than these limits allow
        cluster.config.limits.refresh_per_account = None;
        cluster.config.limits.refresh_per_address = None;
        cluster.config.limits.introspection_per_client = None;
        let nodes = [cluster.node().await, cluster.node().await];
        let service = cluster.service_client("billing").await;
        nodes[0].register("ada").await;
        let account = accounts::find(&nodes[0].state.sql, "ada").await.unwrap().id;
        add_and_remove_roles(&nodes[0], account, &["editor"], &[]).await;
        cluster.wait_for_peers().await;
        Self { cluster, nodes, service, account }
    }

    async fn introspect(&self, node: &Node, token: &str) -> Answer {
        let request = node.request(Method::POST, "/oauth2/introspect").form(&[("token", token)]);
        node.send(request.basic_auth(&self.service.id, Some(&self.service.secret))).await.expect(200)
    }

    /// An access token without a claims version, as Latchkey 0.1 issues it, with the other claims of `template`.
    fn token_of_0_1(&self, template: &Tokens, issued_at: i64) -> String {
        let claims = self.nodes[0].verified(&template.access).claims.clone();
        let claims = AccessClaims { claims_version: None, iat: issued_at, ..claims };
        let keys = self.nodes[0].state.keys.current();
        keys.signer(self.cluster.clock.now()).unwrap().encode(&claims).unwrap().into_exposed()
    }
}

/// Changes the roles of an account through a node. Returns once the change applies on every node.
async fn add_and_remove_roles(node: &Node, account: AccountId, add: &[&str], remove: &[&str]) {
    let roles = |names: &[&str]| Roles::parse(names).unwrap();
    accounts::change_roles(&node.state, account, &roles(add), &roles(remove)).await.unwrap();
}

/// The problem of a request with an older access token.
fn claims_changed() -> (u16, String) {
    (401, "claims_changed".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn i16_removed_role_is_gone_on_every_node() {
    let fixture = Fixture::start().await;
    let tokens = fixture.nodes[0].login("ada").await;
    // Both nodes cache the session, the token and the response: the second pass uses the caches.
    for node in &fixture.nodes {
        for _ in 0..2 {
            assert_eq!(fixture.introspect(node, &tokens.access).await.json()["roles"][0], "editor");
            assert_eq!(node.get("/v1/verify", &tokens.access).await.expect(200).header("x-auth-roles"), "editor");
        }
    }
    add_and_remove_roles(&fixture.nodes[0], fixture.account, &[], &["editor"]).await;
    // The other node first: it must know of the change by now.
    for node in [&fixture.nodes[1], &fixture.nodes[0]] {
        assert_eq!(fixture.introspect(node, &tokens.access).await.text, "{\"active\":false}");
        for path in ["/v1/verify", "/v1/me", "/v1/sessions"] {
            let refused = node.get(path, &tokens.access).await;
            assert_eq!(refused.problem(), claims_changed());
            let challenge = refused.header("www-authenticate");
            assert!(challenge.starts_with("Bearer ") && challenge.contains("error=\"invalid_token\""), "{challenge}");
            assert!(challenge.contains("reason=\"claims_changed\""), "{challenge}");
        }
        assert_eq!(fixture.introspect(node, &tokens.refresh).await.json()["active"], true, "the session continues");
    }
    let refreshed = Tokens::of(&fixture.nodes[1].refresh(&tokens.refresh).await.expect(200));
    let claims = fixture.nodes[1].verified(&refreshed.access);
    assert!(claims.roles.is_empty(), "{:?}", claims.roles);
    assert_eq!(claims.claims_version, Some(ClaimsVersion(2)));
    for node in &fixture.nodes {
        assert_eq!(fixture.introspect(node, &refreshed.access).await.json()["active"], true);
        assert_eq!(node.get("/v1/verify", &refreshed.access).await.expect(200).header("x-auth-roles"), "");
    }
    // A sign-out needs no current claims.
    let logout = fixture.nodes[0].request(Method::POST, "/v1/logout").bearer_auth(&tokens.access);
    fixture.nodes[0].send(logout).await.expect(204);
    fixture.nodes[1].refresh(&refreshed.refresh).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn i16_cached_token_of_current_claims_needs_no_redis() {
    let fixture = Fixture::start().await;
    let tokens = fixture.nodes[0].login("ada").await;
    let node = &fixture.nodes[1];
    let request = async || {
        assert_eq!(fixture.introspect(node, &tokens.access).await.json()["active"], true);
        node.get("/v1/verify", &tokens.access).await.expect(200);
    };
    // fills the caches
    request().await;
    let mut monitor = Monitor::start(&fixture.cluster.redis);
    for _ in 0..20 {
        request().await;
    }
    let commands = monitor.commands(&fixture.cluster.redis);
    let lookups = commands.iter().filter(|words| words[0].eq_ignore_ascii_case("HMGET")).count();
    // The cache may be invalid for a moment on a busy machine. Without the cache, each of the 40 requests would look the session up.
    assert!(lookups < 20, "{lookups} lookups for 40 requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn i16_token_without_a_version_is_refused_if_issued_in_or_before_the_second_of_the_change() {
    let fixture = Fixture::start().await;
    // 10 s, so that a token of the second before `now` was issued after the change of roles by the fixture
    fixture.cluster.advance(Duration::from_secs(10));
    let tokens = fixture.nodes[0].login("ada").await;
    let now = fixture.cluster.clock.now().as_secs();
    let [before, same, after] = [now - 1, now, now + 1].map(|issued_at| fixture.token_of_0_1(&tokens, issued_at));
    for node in &fixture.nodes {
        for token in [&before, &same] {
            node.get("/v1/verify", token).await.expect(200);
        }
    }
    add_and_remove_roles(&fixture.nodes[1], fixture.account, &[], &["editor"]).await;
    for node in &fixture.nodes {
        for token in [&before, &same] {
            assert_eq!(node.get("/v1/verify", token).await.problem(), claims_changed());
            assert_eq!(fixture.introspect(node, token).await.text, "{\"active\":false}");
        }
        node.get("/v1/verify", &after).await.expect(200);
    }
    // A token of another account from the second of the change stays valid.
    fixture.nodes[0].register("ben").await;
    let ben = fixture.token_of_0_1(&fixture.nodes[0].login("ben").await, now);
    fixture.nodes[1].get("/v1/verify", &ben).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn i16_sign_in_after_a_change_has_its_version_on_every_node() {
    let fixture = Fixture::start().await;
    add_and_remove_roles(&fixture.nodes[0], fixture.account, &["owner"], &["editor"]).await;
    let other_password = "gravel lantern opera six";
    for node in &fixture.nodes {
        let tokens = node.login("ada").await;
        let claims = node.verified(&tokens.access);
        assert_eq!(claims.roles, ["owner"]);
        assert_eq!(claims.claims_version, Some(ClaimsVersion(2)));
        for other in &fixture.nodes {
            other.get("/v1/verify", &tokens.access).await.expect(200);
        }
        let refreshed = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
        assert_eq!(node.verified(&refreshed.access).claims_version, Some(ClaimsVersion(2)));
        let changed = node.change_password(&refreshed.access, PASSWORD, other_password);
        let changed = Tokens::of(&changed.await.expect(200));
        assert_eq!(node.verified(&changed.access).claims_version, Some(ClaimsVersion(2)));
        let restored = node.change_password(&changed.access, other_password, PASSWORD);
        node.get("/v1/verify", &Tokens::of(&restored.await.expect(200)).access).await.expect(200);
    }
}

/// Refreshes, introspections, calls of `/v1/verify` and role changes run concurrently. No node accepts a token with a role that was removed
/// before the request, and no refresh returns one.
#[tokio::test(flavor = "multi_thread")]
async fn i16_no_removed_role_is_accepted_among_sixteen_racers() {
    const ROUNDS: u32 = 25;

    let fixture = Fixture::start().await;
    let sessions = [fixture.nodes[0].login("ada").await, fixture.nodes[1].login("ada").await];
    // Two of the racers change roles: in each round, a changer adds a role for this round and removes the role of the round before. The
    // floor of a changer is the oldest round whose role may still be accepted.
    let floors = [AtomicU32::new(0), AtomicU32::new(0)];
    let access_tokens = [Mutex::new(sessions[0].access.clone()), Mutex::new(sessions[1].access.clone())];
    let refresh_tokens = sessions.map(|tokens| Mutex::new(tokens.refresh));
    let (active_changers, accepted) = (AtomicU32::new(2), AtomicU32::new(0));
    let read_floors = || floors.each_ref().map(|floor| floor.load(Ordering::SeqCst));
    // A role is named after its changer and the round: `one-7`.
    let assert_current = |roles: &[String], floors: [u32; 2], what: &str| {
        for (name, floor) in ["one", "two"].into_iter().zip(floors) {
            let round_of = |role: &String| role.strip_prefix(name)?.strip_prefix('-')?.parse::<u32>().ok();
            let rounds: Vec<u32> = roles.iter().filter_map(round_of).collect();
            assert!(rounds.iter().all(|round| *round >= floor), "{what}: {roles:?} after round {floor} of {name}");
            assert!(floor == 0 || !rounds.is_empty(), "{what}: {roles:?} without a role of {name} after round {floor}");
        }
    };

    let racer = async |number: usize| {
        // Each node gets the tokens of each session.
        let (node, session) = (&fixture.nodes[number % 2], number / 2 % 2);
        // 0 and 1 change roles, 2 to 5 refresh, 6 to 10 introspect, the others call `/v1/verify`
        if number < 2 {
            let name = ["one", "two"][number];
            for round in 1..=ROUNDS {
                let (new, old) = (format!("{name}-{round}"), format!("{name}-{}", round - 1));
                add_and_remove_roles(node, fixture.account, &[&new], &[&old]).await;
                floors[number].store(round, Ordering::SeqCst);
            }
            active_changers.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        while active_changers.load(Ordering::SeqCst) > 0 {
            let floors = read_floors();
            if number < 6 {
                let token = refresh_tokens[session].lock().unwrap().clone();
                let refreshed = Tokens::of(&node.refresh(&token).await.expect(200));
                let claims = node.verified(&refreshed.access);
                assert_current(&claims.roles, floors, "refresh");
                *refresh_tokens[session].lock().unwrap() = refreshed.refresh;
                *access_tokens[session].lock().unwrap() = refreshed.access;
                continue;
            }
            let token = access_tokens[session].lock().unwrap().clone();
            let roles = if number < 11 {
                let answer = fixture.introspect(node, &token).await.json();
                if answer["active"] == false {
                    continue;
                }
                answer["roles"].as_array().unwrap().iter().map(|role| role.as_str().unwrap().to_owned()).collect()
            } else {
                let answer = node.get("/v1/verify", &token).await;
                if answer.status == 401 {
                    assert_eq!(answer.problem(), claims_changed());
                    continue;
                }
                answer.expect(200).header("x-auth-roles").split(',').map(str::to_owned).collect::<Vec<String>>()
            };
            assert_current(&roles, floors, "accepted");
            accepted.fetch_add(1, Ordering::Relaxed);
        }
    };
    join_all((0..16).map(racer)).await;
    assert!(accepted.load(Ordering::Relaxed) > 0, "some tokens are accepted");

    let account = accounts::find(&fixture.nodes[0].state.sql, "ada").await.unwrap();
    // version 1 is the fixture's, and each of the two changers made one change a round
    assert_eq!(account.claims_version, ClaimsVersion(1 + 2 * ROUNDS), "no change is lost");
    let token = refresh_tokens[0].lock().unwrap().clone();
    let last = Tokens::of(&fixture.nodes[1].refresh(&token).await.expect(200));
    assert_eq!(fixture.nodes[1].verified(&last.access).roles, account.roles.names());
    for node in &fixture.nodes {
        node.get("/v1/verify", &last.access).await.expect(200);
    }
}

/// A command such as `latchkey user roles` is not a node: it publishes the change and returns without waiting for the nodes.
#[tokio::test(flavor = "multi_thread")]
async fn i16_change_by_a_command_reaches_every_node() {
    let fixture = Fixture::start().await;
    let tokens = fixture.nodes[0].login("ada").await;
    for node in &fixture.nodes {
        node.get("/v1/verify", &tokens.access).await.expect(200);
    }
    let config = &fixture.cluster.config;
    let cores = latchkey::runtime::Cores::start().unwrap();
    let url = config.redis.url.as_ref().unwrap();
    let command_stores = RedisStores::connect(url, &config.redis, &config.cache, &cores).unwrap();
    let account = accounts::find(&fixture.nodes[0].state.sql, "ada").await.unwrap();
    let (next_version, epoch) = (account.claims_version.next(), account.epoch.next());
    let now = fixture.cluster.clock.now();
    command_stores
        .sessions
        .set_claims(fixture.account, &Roles::default(), &AdditionalClaims::default(), next_version, epoch, now)
        .await
        .unwrap();
    for node in &fixture.nodes {
        let refused = || async { node.get("/v1/verify", &tokens.access).await.status == 401 };
        wait::until("the node refuses the token", refused).await;
    }
    command_stores.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i16_change_that_the_database_did_not_store_is_undone_by_the_next_sign_in() {
    let fixture = Fixture::start().await;
    let node = &fixture.nodes[0];
    let tokens = node.login("ada").await;
    let account = accounts::find(&node.state.sql, "ada").await.unwrap();
    let roles = Roles::parse(["owner"]).unwrap();
    let (epoch, now) = (account.epoch.next(), fixture.cluster.clock.now());
    // Redis stores the change, as if the transaction of the database had failed to commit afterwards.
    let sessions = &node.state.redis.sessions;
    let version = sessions
        .set_claims(fixture.account, &roles, &AdditionalClaims::default(), account.claims_version.next(), epoch, now)
        .await
        .unwrap();
    assert_eq!(version, ClaimsVersion(2));
    let before = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    assert_eq!(node.verified(&before.access).roles, ["owner"]);

    let after = fixture.nodes[1].login("ada").await;
    let claims = fixture.nodes[1].verified(&after.access);
    assert_eq!(claims.roles, ["editor"]);
    assert_eq!(claims.claims_version, Some(ClaimsVersion(3)));
    for node in &fixture.nodes {
        node.get("/v1/verify", &after.access).await.expect(200);
        assert_eq!(node.get("/v1/verify", &before.access).await.problem(), claims_changed());
    }
    let refreshed = Tokens::of(&node.refresh(&before.refresh).await.expect(200));
    assert_eq!(node.verified(&refreshed.access).roles, ["editor"]);
}
