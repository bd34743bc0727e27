//! `POST /oauth2/introspect`.

use std::time::Duration;

use latchkey::{
    domain::{
        account::{Email, Roles},
        secret::SecretText,
    },
    service::{
        clients::NewClient,
        register::{Register, register},
    },
};
use serde_json::json;

use super::{client_token, error, introspect, part, post, refused};
use crate::harness::{
    client::{PASSWORD, Tokens},
    monitor::Monitor,
    test_cluster::TestCluster,
    wait,
};

#[tokio::test]
async fn an_access_token_is_told_of_in_full() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    let account = node.account("ada").await.text_of("id");
    let tokens = node.login("ada").await;
    let jti = part(&tokens.access, 1)["jti"].clone();
    let expected = json!({
        "active": true, "scope": "account", "client_id": "latchkey", "token_type": "Bearer", "exp": 1_800_000_300,
        "iat": 1_800_000_000, "sub": account, "aud": "latchkey", "iss": "https://auth.example.com", "jti": jti,
        "sid": tokens.session, "auth_time": 1_800_000_000, "acr": "aal1", "amr": ["pwd"],
    });
    assert_eq!(introspect(&node, &client, &tokens.access).await, expected);
    for hint in ["access_token", "refresh_token", "anything"] {
        let form = [("token", tokens.access.as_str()), ("token_type_hint", hint)];
        assert_eq!(post(&node, "/oauth2/introspect", Some(&client), &form).await.expect(200).json(), expected);
    }
    let roles = Roles::parse(["ops", "admin"]).unwrap();
    let new = Register {
        email: Email::parse("root@example.com").unwrap(),
        username: None,
        password: SecretText::from(PASSWORD),
        roles,
    };
    register(&node.state, new).await.unwrap();
    let root = node.login("root@example.com").await;
    assert_eq!(introspect(&node, &client, &root.access).await["roles"], json!(["admin", "ops"]));
}

#[tokio::test]
async fn a_clients_token_has_no_session_to_tell_of() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    let token = client_token(&node, &client).await;
    let jti = part(&token, 1)["jti"].clone();
    let expected = json!({
        "active": true, "scope": "read write", "client_id": "billing", "token_type": "Bearer", "exp": 1_800_000_300,
        "iat": 1_800_000_000, "sub": "billing", "aud": "latchkey", "iss": "https://auth.example.com", "jti": jti,
    });
    assert_eq!(introspect(&node, &client, &token).await, expected);
}

#[tokio::test]
async fn a_refresh_token_is_active_as_long_as_presenting_it_would_succeed() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    let account = node.account("ada").await.text_of("id");
    let first = node.login("ada").await;
    let whole = |iat, exp| {
        json!({ "active": true, "scope": "account", "client_id": "latchkey", "exp": exp, "iat": iat, "sub": account,
            "iss": "https://auth.example.com", "sid": first.session })
    };
    let week = 7 * 86_400;
    assert_eq!(introspect(&node, &client, &first.refresh).await, whole(1_800_000_000, 1_800_000_000 + week));
    cluster.advance(Duration::from_secs(100));
    let second = Tokens::of(&node.refresh(&first.refresh).await.expect(200));
    assert_eq!(introspect(&node, &client, &second.refresh).await, whole(1_800_000_100, 1_800_000_100 + week));
    assert_eq!(introspect(&node, &client, &first.refresh).await["active"], true, "within the grace window");
    cluster.advance(Duration::from_secs(5));
    let third = Tokens::of(&node.refresh(&second.refresh).await.expect(200));
    cluster.advance(Duration::from_secs(5));
    let active = async |token: &str| introspect(&node, &client, token).await["active"] == true;
    assert!(!active(&first.refresh).await, "superseded ten seconds ago");
    assert!(active(&second.refresh).await && active(&third.refresh).await);
    // asking changes nothing: neither is a token used up, nor does reuse end the session
    assert!(active(&third.refresh).await);
    node.refresh(&third.refresh).await.expect(200);
    cluster.advance(Duration::from_secs(7 * 86_400));
    assert!(!active(&third.refresh).await, "the session lay idle for too long");
}

/// Introspection decides in Rust what refreshing decides in Lua.
#[tokio::test]
async fn introspection_and_refreshing_agree_whatever_the_history() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.account("ada").await;
    let mut state = 20_261_123_u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    for _ in 0..12 {
        let mut tokens = vec![node.login("ada").await.refresh];
        for _ in 0..random(14) {
            cluster.advance(Duration::from_millis(random(4000).into()));
            tokens.push(node.refresh(tokens.last().unwrap()).await.expect(200).text_of("refresh_token"));
        }
        cluster.advance(Duration::from_millis(random(9000).into()));
        // the newest first: one that was superseded too long ago ends the session
        for token in tokens.iter().rev() {
            let said = introspect(&node, &client, token).await["active"] == true;
            let was = node.refresh(token).await.status == 200;
            assert_eq!(said, was, "generation of {}", tokens.len());
            if !was {
                break;
            }
        }
    }
}

#[tokio::test]
async fn anything_else_is_exactly_inactive() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.account("ada").await;
    let (tokens, ended) = (node.login("ada").await, node.login("ada").await);
    node.logout(&ended.refresh).await.expect(204);
    let mut tampered = tokens.access.clone();
    let at = tampered.len() - 20;
    let other = if &tampered[at..=at] == "A" { "B" } else { "A" };
    tampered.replace_range(at..=at, other);
    let long = "x".repeat(20_000);
    for token in ["x", "a.b.c", "lk_rt_", &client.secret, &ended.access, &ended.refresh, &tampered, &long] {
        let answer = post(&node, "/oauth2/introspect", Some(&client), &[("token", token)]).await.expect(200);
        assert_eq!(answer.text, "{\"active\":false}", "{token}");
    }
    cluster.advance(Duration::from_secs(306));
    assert_eq!(introspect(&node, &client, &tokens.access).await, json!({ "active": false }), "expired");
    assert_eq!(introspect(&node, &client, &tokens.refresh).await["active"], true);
}

#[tokio::test]
async fn a_client_learns_nothing_of_tokens_for_others_and_others_learn_nothing() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.account("ada").await;
    let tokens = node.login("ada").await;
    let audiences = vec!["reports".to_owned()];
    let stranger =
        cluster.service_client_with(NewClient { name: "stranger".to_owned(), audiences, ..NewClient::default() }).await;
    for token in [&tokens.access, &tokens.refresh] {
        assert_eq!(introspect(&node, &stranger, token).await, json!({ "active": false }));
        let nobody = post(&node, "/oauth2/introspect", None, &[("token", token)]).await;
        assert_eq!(error(&nobody), refused(401, "invalid_client"));
        let app = post(&node, "/oauth2/introspect", None, &[("token", token), ("client_id", "latchkey")]).await;
        assert_eq!(error(&app), refused(401, "invalid_client"));
    }
    let bearer = node.request(reqwest::Method::POST, "/oauth2/introspect").form(&[("token", &tokens.access)]);
    assert_eq!(error(&node.send(bearer.bearer_auth(&tokens.access)).await), refused(401, "invalid_client"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_introspection_asks_neither_redis_nor_the_signature() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.account("ada").await;
    let tokens = node.login("ada").await;
    wait::until("it is in step", || async { node.state.redis.revocation_log.cache_is_valid() }).await;
    assert_eq!(introspect(&node, &client, &tokens.access).await["active"], true);
    let signatures = node.state.tokens.metrics().misses.get();
    let mut monitor = Monitor::start(&cluster.redis);
    for _ in 0..20 {
        assert_eq!(introspect(&node, &client, &tokens.access).await["active"], true);
    }
    let asked = monitor.commands(&cluster.redis);
    // a busy machine may lose a step, and ask once more
    assert!(asked.len() < 5, "{asked:?}");
    assert_eq!(node.state.tokens.metrics().misses.get(), signatures);
}
