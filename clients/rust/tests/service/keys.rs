//! Key rotation and retirement while tokens are verified.

use std::time::Duration;

use latchkey::{crypto::key_rotation::SigningStart, domain::key::Algorithm, service::keys};
use latchkey_verify::Invalid;

use crate::{
    fixture::{Fixture, invalid, wait_until_revoked},
    harness::{
        fault_proxy::Mode,
        test_cluster::{Node, TestCluster},
        wait,
    },
};

/// Rotates the signing key. The node signs with the new key at once.
async fn rotate(node: &Node) {
    let app = &node.state;
    keys::rotate(&app.config, &app.clock, &app.entropy, &app.sql, SigningStart::Now).await.unwrap();
    app.keys.reload().await.unwrap();
}

/// Retires the key with this id. The node refuses its tokens at once.
async fn retire(node: &Node, kid: &str) {
    let app = &node.state;
    keys::retire(&app.clock, &app.sql, &app.redis.revocation_log, kid).await.unwrap();
    app.keys.reload().await.unwrap();
}

/// The id of the key that signs now.
fn current_kid(node: &Node) -> String {
    node.state.keys.current().signer(node.state.clock.now()).unwrap().kid().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_every_algorithm_is_accepted() {
    for algorithm in Algorithm::ALL {
        let mut cluster = TestCluster::new();
        cluster.config.keys.algorithm = algorithm;
        let fixture = Fixture::with_cluster(cluster).await;
        fixture.node.register("ada").await;
        let tokens = fixture.node.login("ada").await;
        let verifier = fixture.verifier().await;
        assert!(verifier.verify(&tokens.access).await.is_ok(), "{algorithm}");
        // changes one character of the signature, but not the last one, of which base64url uses only some bits
        let position = tokens.access.len() - 9;
        let replacement = if tokens.access.as_bytes()[position] == b'A' { "B" } else { "A" };
        let mut forged = tokens.access.clone();
        forged.replace_range(position..=position, replacement);
        assert_eq!(verifier.verify(&forged).await.unwrap_err(), invalid(Invalid::BadSignature), "{algorithm}");
        drop(verifier);
        fixture.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_key_is_fetched_and_old_key_stays_valid_until_retired() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let before = fixture.node.login("ada").await;
    let verifier = fixture.verifier().await;
    assert!(verifier.verify(&before.access).await.is_ok());
    let old_kid = current_kid(&fixture.node);
    rotate(&fixture.node).await;
    let after = fixture.node.login("ada").await;
    // an unknown key causes at most one fetch a second, and the verifier has just fetched the keys
    assert_eq!(verifier.verify(&after.access).await.unwrap_err(), invalid(Invalid::UnknownKey));
    fixture.clock.advance(Duration::from_secs(1));
    assert!(verifier.verify(&after.access).await.is_ok());
    assert!(verifier.verify(&before.access).await.is_ok());
    assert_eq!(verifier.status().keys, 2, "the old key and the new one");

    retire(&fixture.node, &old_kid).await;
    wait_until_revoked(&verifier, &before.access).await;
    assert!(verifier.verify(&after.access).await.is_ok());
    // a verifier that starts later does not get the retired key
    let later = fixture.verifier().await;
    assert!(later.verify(&before.access).await.is_err());
    assert!(later.verify(&after.access).await.is_ok());
    drop((verifier, later));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_for_unknown_kids_are_rate_limited() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let verifier = fixture.verifier().await;
    // ends the cooldown that the first fetch has started
    fixture.clock.advance(Duration::from_secs(1));
    let fetches_before = fixture.proxy.count_requests("jwks");
    let forged = crate::forged::with_header(&tokens.access, |header| header["kid"] = "unknown".into());
    for _ in 0..20 {
        assert_eq!(verifier.verify(&forged).await.unwrap_err(), invalid(Invalid::UnknownKey));
    }
    assert_eq!(fixture.proxy.count_requests("jwks"), fetches_before + 1);
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(verifier.verify(&forged).await.unwrap_err(), invalid(Invalid::UnknownKey));
    assert_eq!(fixture.proxy.count_requests("jwks"), fetches_before + 2);
    // the issuer is unreachable: the unknown key may be a new one, so the token is not refused as invalid
    fixture.clock.advance(Duration::from_secs(1));
    fixture.proxy.set(Mode::Cut);
    let answer = verifier.verify(&forged).await.unwrap_err();
    assert!(answer.is_unavailable(), "{answer}");
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unlisted_key_is_refused_after_the_next_refresh_and_keys_survive_an_outage() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let before = fixture.node.login("ada").await;
    let verifier = fixture.builder().without_revocations().build().await.unwrap();
    assert!(verifier.verify(&before.access).await.is_ok());
    let old_kid = current_kid(&fixture.node);
    rotate(&fixture.node).await;
    retire(&fixture.node, &old_kid).await;
    // without the feed the verifier learns of the retirement when it next fetches the keys
    assert!(verifier.verify(&before.access).await.is_ok());
    // the issuer is unreachable when the keys are due for a refresh, after 300 s
    fixture.proxy.set(Mode::Cut);
    fixture.clock.advance(Duration::from_secs(301));
    // each yield lets the refresher try a fetch, which fails
    for _ in 0..5 {
        assert!(verifier.verify(&before.access).await.is_ok());
        tokio::task::yield_now().await;
    }
    fixture.proxy.set(Mode::Open);
    // A failed fetch is repeated after 5 s. Without the feed, the retired key counts as unknown.
    wait::until("the token of the unlisted key is refused", async || {
        fixture.clock.advance(Duration::from_secs(5));
        verifier.verify(&before.access).await == Err(invalid(Invalid::UnknownKey))
    })
    .await;
    let after = fixture.node.login("ada").await;
    assert!(verifier.verify(&after.access).await.is_ok());
    drop(verifier);
    fixture.stop().await;
}
