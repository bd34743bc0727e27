//! Introspection of tokens by service clients: `POST /oauth2/introspect`.

use std::time::Duration;

use latchkey::{
    domain::account::{Email, Roles},
    service::{
        clients::NewClient,
        register::{Register, register},
    },
};
use serde_json::json;

use super::{client_token, error, introspect, jwt_claims, post, refused};
use crate::harness::{
    client::{PASSWORD, Tokens},
    monitor::Monitor,
    test_cluster::TestCluster,
    wait,
};

/// The time that the clock of a cluster shows until a test advances it, in seconds since the Unix epoch. Access tokens are valid for 300 s.
const START: i64 = 1_800_000_000;

#[tokio::test]
async fn introspection_of_an_access_token_returns_all_its_claims() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    let account = node.register("ada").await.text_of("id");
    let tokens = node.login("ada").await;
    let jti = jwt_claims(&tokens.access)["jti"].clone();
    let expected = json!({
        "active": true, "scope": "account", "client_id": "latchkey", "token_type": "Bearer", "exp": START + 300,
        "iat": START, "sub": account, "aud": "latchkey", "iss": "https://auth.example.com", "jti": jti,
        "sid": tokens.session, "auth_time": START, "acr": "aal1", "amr": ["pwd"],
    });
    assert_eq!(introspect(&node, &client, &tokens.access).await, expected);
    for hint in ["access_token", "refresh_token", "anything"] {
        let form = [("token", tokens.access.as_str()), ("token_type_hint", hint)];
        assert_eq!(post(&node, "/oauth2/introspect", Some(&client), &form).await.expect(200).json(), expected);
    }
    // An account with roles, which an anonymous registration over HTTP can't have.
    let roles = Roles::parse(["ops", "admin"]).unwrap();
    let new = Register {
        email: Email::parse("root@example.com").unwrap(),
        username: None,
        password: node.state.passwords.check_new(PASSWORD.into()).unwrap(),
        roles,
    };
    register(&node.state, new).await.unwrap();
    let root = node.login("root@example.com").await;
    assert_eq!(introspect(&node, &client, &root.access).await["roles"], json!(["admin", "ops"]), "sorted");
}

#[tokio::test]
async fn introspection_of_a_client_token_returns_no_session() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    let token = client_token(&node, &client).await;
    let jti = jwt_claims(&token)["jti"].clone();
    let expected = json!({
        "active": true, "scope": "read write", "client_id": "billing", "token_type": "Bearer", "exp": START + 300,
        "iat": START, "sub": "billing", "aud": "latchkey", "iss": "https://auth.example.com", "jti": jti,
    });
    assert_eq!(introspect(&node, &client, &token).await, expected);
}

#[tokio::test]
async fn introspection_of_a_refresh_token_is_active_while_a_refresh_would_succeed() {
    let mut cluster = TestCluster::new();
    // Without a retry window, a superseded token is valid for the grace window of ten seconds.
    cluster.config.session.retry_window = Duration::ZERO;
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    let account = node.register("ada").await.text_of("id");
    let first = node.login("ada").await;
    let active_response = |iat, exp| {
        json!({ "active": true, "scope": "account", "client_id": "latchkey", "exp": exp, "iat": iat, "sub": account,
            "iss": "https://auth.example.com", "sid": first.session })
    };
    let week = 7 * 86_400; // the idle timeout, in seconds
    assert_eq!(introspect(&node, &client, &first.refresh).await, active_response(START, START + week));
    cluster.advance(Duration::from_secs(100));
    let second = Tokens::of(&node.refresh(&first.refresh).await.expect(200));
    assert_eq!(introspect(&node, &client, &second.refresh).await, active_response(START + 100, START + 100 + week));
    assert_eq!(introspect(&node, &client, &first.refresh).await["active"], true, "within the grace window");
    cluster.advance(Duration::from_secs(5));
    let third = Tokens::of(&node.refresh(&second.refresh).await.expect(200));
    cluster.advance(Duration::from_secs(5));
    let active = async |token: &str| introspect(&node, &client, token).await["active"] == true;
    assert!(!active(&first.refresh).await, "superseded ten seconds ago");
    assert!(active(&second.refresh).await && active(&third.refresh).await);
    // The introspections above had no effect: they consumed no token, and the superseded token did not end the session.
    assert!(active(&third.refresh).await);
    let fourth = Tokens::of(&node.refresh(&third.refresh).await.expect(200));
    assert!(active(&fourth.refresh).await);
    cluster.advance(Duration::from_hours(7 * 24));
    assert!(!active(&fourth.refresh).await, "the idle timeout has passed");
}

/// Introspection decides in Rust and a refresh in Lua, so the two rules could differ.
#[tokio::test]
async fn introspection_and_refresh_agree_in_random_histories() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.register("ada").await;
    // A linear congruential generator with a fixed seed, so that a failure repeats.
    let mut generator_state = 20_261_123_u32;
    let mut random_below = |limit: u32| {
        generator_state = generator_state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (generator_state >> 16) % limit
    };
    for _ in 0..12 {
        let mut tokens = vec![node.login("ada").await.refresh];
        // The pauses are so short that the grace windows (10 s) of several tokens overlap.
        for _ in 0..random_below(14) {
            cluster.advance(Duration::from_millis(random_below(4000).into()));
            tokens.push(node.refresh(tokens.last().unwrap()).await.expect(200).text_of("refresh_token"));
        }
        cluster.advance(Duration::from_millis(random_below(9000).into()));
        // Presents the newest token first, because a reused token ends the session.
        for token in tokens.iter().rev() {
            let active = introspect(&node, &client, token).await["active"] == true;
            let refreshed = node.refresh(token).await.status == 200;
            assert_eq!(active, refreshed, "a token of a session with {} generations", tokens.len());
            if !refreshed {
                // The session has ended.
                break;
            }
        }
    }
}

#[tokio::test]
async fn introspection_of_an_invalid_token_returns_only_active_false() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let ended = node.login("ada").await;
    node.logout(&ended.refresh).await.expect(204);
    let mut tampered = tokens.access.clone();
    // Change a character of the signature.
    let position = tampered.len() - 20;
    let other = if &tampered[position..=position] == "A" { "B" } else { "A" };
    tampered.replace_range(position..=position, other);
    let long = "x".repeat(20_000);
    for token in ["x", "a.b.c", "lk_rt_", &client.secret, &ended.access, &ended.refresh, &tampered, &long] {
        let answer = post(&node, "/oauth2/introspect", Some(&client), &[("token", token)]).await.expect(200);
        assert_eq!(answer.text, "{\"active\":false}", "{token}");
    }
    // The lifetime of 300 s and the leeway of 5 s have passed.
    cluster.advance(Duration::from_secs(306));
    assert_eq!(introspect(&node, &client, &tokens.access).await, json!({ "active": false }), "expired");
    assert_eq!(introspect(&node, &client, &tokens.refresh).await["active"], true);
}

#[tokio::test]
async fn introspection_by_another_audience_or_without_authentication_reveals_nothing() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    // The audience of the tokens is `latchkey`.
    let audiences = vec!["reports".to_owned()];
    let stranger =
        cluster.service_client_with(NewClient { name: "stranger".to_owned(), audiences, ..NewClient::default() }).await;
    for token in [&tokens.access, &tokens.refresh] {
        assert_eq!(introspect(&node, &stranger, token).await, json!({ "active": false }));
        let unauthenticated = post(&node, "/oauth2/introspect", None, &[("token", token)]).await;
        assert_eq!(error(&unauthenticated), refused(401, "invalid_client"));
        let by_public_client =
            post(&node, "/oauth2/introspect", None, &[("token", token), ("client_id", "latchkey")]).await;
        assert_eq!(error(&by_public_client), refused(401, "invalid_client"));
    }
    let request = node.request(reqwest::Method::POST, "/oauth2/introspect").form(&[("token", &tokens.access)]);
    let by_access_token = node.send(request.bearer_auth(&tokens.access)).await;
    assert_eq!(error(&by_access_token), refused(401, "invalid_client"));
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_introspection_needs_neither_redis_nor_a_signature_check() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    wait::until("the session cache is valid", || async { node.state.redis.revocation_log.cache_is_valid() }).await;
    assert_eq!(introspect(&node, &client, &tokens.access).await["active"], true);
    let misses_before = node.state.tokens.metrics().misses.get();
    let mut monitor = Monitor::start(&cluster.redis);
    for _ in 0..20 {
        assert_eq!(introspect(&node, &client, &tokens.access).await["active"], true);
    }
    let commands = monitor.commands(&cluster.redis);
    // Far fewer than the 20 introspections: on a busy machine the session cache may be invalid for a moment.
    assert!(commands.len() < 5, "{commands:?}");
    assert_eq!(node.state.tokens.metrics().misses.get(), misses_before, "a cache miss is a signature check");
}
