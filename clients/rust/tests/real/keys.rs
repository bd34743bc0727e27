//! Keys that come and go while tokens are verified.

use std::time::Duration;

use latchkey::{crypto::key_rotation::Start, domain::key::Algorithm, service::keys};
use latchkey_verify::{Invalid, VerifyError};

use crate::{
    harness::{
        test_cluster::{Node, TestCluster},
        wait,
    },
    place::{Place, invalid, until_revoked},
    proxy::Mode,
};

async fn rotate(node: &Node, start: Start) -> String {
    let app = &node.state;
    let kid = keys::rotate(&app.config, &app.clock, &app.entropy, &app.sql, start).await.unwrap().kid;
    app.keys.reload().await.unwrap();
    kid
}

async fn retire(node: &Node, kid: &str) {
    let app = &node.state;
    keys::retire(&app.clock, &app.sql, &app.redis.revocation_log, kid).await.unwrap();
    app.keys.reload().await.unwrap();
}

fn signer(node: &Node) -> String {
    node.state.keys.current().signer(node.state.clock.now()).unwrap().kid().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_every_algorithm_are_verified() {
    for algorithm in Algorithm::ALL {
        let mut cluster = TestCluster::new();
        cluster.config.keys.algorithm = algorithm;
        let place = Place::with(cluster).await;
        place.node.account("ada").await;
        let tokens = place.node.login("ada").await;
        let verifier = place.verifier().await;
        assert!(verifier.verify(&tokens.access).await.is_ok(), "{algorithm}");
        let mut forged = tokens.access.clone();
        forged.replace_range(
            forged.len() - 9..forged.len() - 8,
            if forged.as_bytes()[forged.len() - 9] == b'A' { "B" } else { "A" },
        );
        assert_eq!(verifier.verify(&forged).await.unwrap_err(), invalid(Invalid::BadSignature), "{algorithm}");
        drop(verifier);
        place.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_looked_for_and_the_old_one_goes_on_until_it_is_retired() {
    let place = Place::new().await;
    place.node.account("ada").await;
    let before = place.node.login("ada").await;
    let verifier = place.verifier().await;
    assert!(verifier.verify(&before.access).await.is_ok());
    let old = signer(&place.node);
    rotate(&place.node, Start::Now).await;
    let after = place.node.login("ada").await;
    // keys were fetched a moment ago: not again so soon
    assert_eq!(verifier.verify(&after.access).await.unwrap_err(), invalid(Invalid::UnknownKey));
    place.hands.pass(Duration::from_secs(1));
    assert!(verifier.verify(&after.access).await.is_ok());
    assert!(verifier.verify(&before.access).await.is_ok());
    assert_eq!(verifier.status().keys, 2);

    retire(&place.node, &old).await;
    until_revoked(&verifier, &before.access).await;
    assert!(verifier.verify(&after.access).await.is_ok());
    // and whoever comes now
    let later = place.verifier().await;
    assert!(later.verify(&before.access).await.is_err());
    assert!(later.verify(&after.access).await.is_ok());
    drop((verifier, later));
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_do_not_exist_make_it_ask_once_in_a_while_only() {
    let place = Place::new().await;
    place.node.account("ada").await;
    let tokens = place.node.login("ada").await;
    let verifier = place.verifier().await;
    place.hands.pass(Duration::from_secs(1));
    wait::until("it is in step", async || verifier.status().in_step).await;
    let asked = place.proxy.asked_for("jwks");
    let forged = crate::forged::with_header(&tokens.access, |header| header["kid"] = "unheard-of".into());
    for _ in 0..20 {
        assert_eq!(verifier.verify(&forged).await.unwrap_err(), invalid(Invalid::UnknownKey));
    }
    assert_eq!(place.proxy.asked_for("jwks"), asked + 1);
    place.hands.pass(Duration::from_secs(1));
    assert_eq!(verifier.verify(&forged).await.unwrap_err(), invalid(Invalid::UnknownKey));
    assert_eq!(place.proxy.asked_for("jwks"), asked + 2);
    // the issuer can't be asked: perhaps the key is new
    place.hands.pass(Duration::from_secs(1));
    place.proxy.set(Mode::Cut);
    let answer = verifier.verify(&forged).await.unwrap_err();
    assert!(answer.is_unavailable(), "{answer}");
    drop(verifier);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_listed_any_more_is_refused_and_known_ones_stay_while_the_issuer_is_away() {
    let place = Place::new().await;
    place.node.account("ada").await;
    let before = place.node.login("ada").await;
    let verifier = place.builder().without_revocations().build().await.unwrap();
    assert!(verifier.verify(&before.access).await.is_ok());
    let old = signer(&place.node);
    rotate(&place.node, Start::Now).await;
    retire(&place.node, &old).await;
    // nobody told it
    assert!(verifier.verify(&before.access).await.is_ok());
    // the issuer is away when the keys' time is over
    place.proxy.set(Mode::Cut);
    place.hands.pass(Duration::from_secs(301));
    for _ in 0..5 {
        assert!(verifier.verify(&before.access).await.is_ok());
        tokio::task::yield_now().await;
    }
    place.proxy.set(Mode::Open);
    wait::until("the key is refused", async || {
        place.hands.pass(Duration::from_secs(5));
        verifier.verify(&before.access).await == Err(invalid(Invalid::UnknownKey))
    })
    .await;
    let after = place.node.login("ada").await;
    assert!(verifier.verify(&after.access).await.is_ok());
    assert_ne!(verifier.verify(&before.access).await, Err(VerifyError::Revoked));
    drop(verifier);
    place.stop().await;
}
