//! Rotation of the secret, node by node: a node that has only the old secret answers tokens of the new secret with 503, so that
//! clients retry.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use latchkey::{
    config::Secrets,
    crypto::key_rotation::SigningStart,
    domain::entropy::Entropy,
    service::{clients::NewClient, keys},
};
use reqwest::Method;

use crate::{
    degradation::assert_unavailable,
    factors,
    harness::{
        client::Tokens,
        log::Log,
        test_cluster::{Node, TestCluster},
        wait::until,
    },
};

/// Starts a node with the old secret, and then a node with the new secret and the old one.
async fn nodes_during_rotation() -> (TestCluster, Node, Node) {
    let mut cluster = TestCluster::new();
    let (old, new) = start_old_and_new(&mut cluster).await;
    (cluster, old, new)
}

/// Starts both nodes of [`nodes_during_rotation`] in this cluster.
async fn start_old_and_new(cluster: &mut TestCluster) -> (Node, Node) {
    // Without it, a node that has no peers refuses a token at once, and does not check whether it lacks a secret.
    cluster.config.multi_node = true;
    let old = cluster.node().await;
    let previous = vec![cluster.config.secrets.current.clone()];
    cluster.config.secrets = Secrets { current: "the new secret of a test, 32 bytes".into(), previous };
    let new = cluster.node().await;
    (old, new)
}

/// Changes the MAC of a refresh token, whose bytes are the token's last.
fn with_other_mac(token: &str) -> String {
    let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&token["lk_rt_".len()..]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    format!("lk_rt_{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_token_of_newer_secret_is_retried_instead_of_refused() {
    let (cluster, old, new) = nodes_during_rotation().await;
    new.register("ada").await;
    let client = cluster.service_client("api").await;
    let tokens = new.login("ada").await;
    for answer in [old.refresh(&tokens.refresh).await, old.logout(&tokens.refresh).await] {
        assert_eq!(answer.problem(), (503, "unavailable".to_owned()));
        assert_eq!(answer.header("retry-after"), "1");
    }
    let form = [("token", tokens.refresh.as_str())];
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        let request = old.request(Method::POST, path).basic_auth(&client.id, Some(&client.secret)).form(&form);
        assert_eq!(old.send(request).await.status, 503, "{path}");
    }
    // A client of another audience may not introspect refresh tokens, and learns nothing about them.
    let audiences = vec!["reports".to_owned()];
    let stranger = NewClient { name: "stranger".to_owned(), audiences, ..NewClient::default() };
    let stranger = cluster.service_client_with(stranger).await;
    let request = old.request(Method::POST, "/oauth2/introspect").basic_auth(&stranger.id, Some(&stranger.secret));
    assert_eq!(old.send(request.form(&form)).await.expect(200).json()["active"], false);
    // The refused requests have not changed the session.
    let tokens = Tokens::of(&new.refresh(&tokens.refresh).await.expect(200));
    new.logout(&tokens.refresh).await.expect(204);
}

/// A node that lacks the secret can't decrypt the signing key of the token. The node that has the secret accepts the token.
#[tokio::test(flavor = "multi_thread")]
async fn access_token_of_a_key_under_the_newer_secret_is_retried_instead_of_refused() {
    let (cluster, old, new) = nodes_during_rotation().await;
    new.register("ada").await;
    let client = cluster.service_client("api").await;
    keys::rotate(&new.state.config, &cluster.clock, &Entropy::system(), &new.state.sql, SigningStart::Now)
        .await
        .unwrap();
    new.state.keys.reload().await.unwrap();
    let tokens = new.login("ada").await;
    let logout = |node: &Node| node.request(Method::POST, "/v1/logout").bearer_auth(&tokens.access);
    for answer in [
        old.send(logout(&old)).await,
        old.get("/v1/me", &tokens.access).await,
        old.get("/v1/verify", &tokens.access).await,
    ] {
        assert_unavailable(&answer);
    }
    let form = [("token", tokens.access.as_str())];
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        let request = old.request(Method::POST, path).basic_auth(&client.id, Some(&client.secret)).form(&form);
        assert_unavailable(&old.send(request).await);
    }
    // The refused requests have not changed the session.
    new.get("/v1/me", &tokens.access).await.expect(200);
    new.send(logout(&new)).await.expect(204);
    new.refresh(&tokens.refresh).await.expect(401);
}

/// The signing keys are not lost. The advice for lost keys, to rotate and retire them, would end all sessions.
#[tokio::test(flavor = "multi_thread")]
async fn node_without_the_new_secret_logs_that_it_needs_the_secret_and_no_advice_to_replace_keys() {
    let (cluster, old, _new) = nodes_during_rotation().await;
    let kid = old.state.keys.current().signer(cluster.clock.now()).unwrap().kid().to_owned();
    let log = Log::start();
    let lines = || {
        let log = String::from_utf8_lossy(&log.bytes()).into_owned();
        log.lines().filter(|line| line.contains(&kid) && !line.contains("INFO")).map(str::to_owned).collect::<Vec<_>>()
    };
    // the first reload is at once, and the next one after the test
    tokio::select! {
        () = old.state.keys.run_reloader(&old.state.redis, Duration::from_hours(1)) => unreachable!("the reloader runs on"),
        () = until("the reload is logged", || async { lines().iter().any(|line| line.contains("ERROR")) }) => {}
    }
    for line in lines() {
        assert!(!line.contains("latchkey keys"), "{line}");
    }
    assert!(lines().iter().any(|line| line.contains("add that secret to this node's secret file")), "{:?}", lines());
}

/// A node that lacks the secret can't decrypt the factor. The node that has the secret accepts the code.
#[tokio::test(flavor = "multi_thread")]
async fn second_factor_under_the_newer_secret_is_retried_instead_of_refused() {
    let mut cluster = factors::cluster();
    let (old, new) = start_old_and_new(&mut cluster).await;
    let ada = factors::account_with_app(&cluster, &new, "ada").await;
    let challenge = factors::challenge(&old, "ada").await;
    for (method, code) in [("totp", &ada.app.code(&cluster.clock)), ("recovery_code", &ada.recovery_codes[0])] {
        let answer = factors::second_factor(&old, &challenge, method, code).await;
        assert_eq!(answer.problem(), (503, "unavailable".to_owned()), "{method}");
    }
    factors::second_factor(&new, &challenge, "totp", &ada.app.code(&cluster.clock)).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_token_of_old_secret_is_accepted_by_both_nodes_during_rotation() {
    let (_cluster, old, new) = nodes_during_rotation().await;
    old.register("ada").await;
    let tokens = old.login("ada").await;
    let tokens = Tokens::of(&old.refresh(&tokens.refresh).await.expect(200));
    new.refresh(&tokens.refresh).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_refresh_token_is_refused_by_node_that_has_all_secrets_and_malformed_token_by_every_node() {
    let (cluster, old, new) = nodes_during_rotation().await;
    new.register("ada").await;
    let tokens = new.login("ada").await;
    let forged = with_other_mac(&tokens.refresh);
    assert_eq!(new.refresh(&forged).await.problem(), (401, "invalid_refresh_token".to_owned()));
    // The old node refuses a malformed token, here one of 90 characters instead of 106: no secret can have issued it.
    let truncated = &tokens.refresh[..90];
    assert_eq!(old.refresh(truncated).await.problem(), (401, "invalid_refresh_token".to_owned()));

    // A new node with both secrets is like the old node after its restart. A node that can't verify a MAC reloads the keys, at most once a
    // second, to find out whether it lacks a secret. This node lacks none, so it refuses the token.
    let restarted = cluster.node().await;
    cluster.advance(Duration::from_secs(2));
    assert_eq!(restarted.refresh(&forged).await.problem(), (401, "invalid_refresh_token".to_owned()));
    restarted.refresh(&tokens.refresh).await.expect(200);
}
