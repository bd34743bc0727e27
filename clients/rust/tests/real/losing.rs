//! The feed is lost: cut, frozen, or its node gone.

use std::time::Duration;

use latchkey_verify::{OnFeedLost, Verifier, VerifyError};

use crate::{
    harness::wait,
    place::{Place, until_revoked},
    proxy::Mode,
};

async fn until_in_step(verifier: &Verifier) {
    wait::until("it is in step", async || verifier.status().in_step).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_feed_is_lost_the_issuer_is_asked() {
    let place = Place::new().await;
    place.node.account("ada").await;
    let (one, other) = (place.node.login("ada").await, place.node.login("ada").await);
    let verifier = place.verifier().await;
    assert!(verifier.verify(&one.access).await.is_ok());
    place.proxy.set(Mode::NoFeed);
    place.node.logout(&one.refresh).await.expect(204);
    // a moment long, memory is gone by
    assert!(verifier.verify(&one.access).await.is_ok());
    assert_eq!(place.proxy.asked_for("introspect"), 0);
    place.hands.pass(Duration::from_millis(5001));
    assert!(!verifier.status().in_step);
    assert_eq!(verifier.verify(&one.access).await, Err(VerifyError::Revoked));
    assert!(verifier.verify(&other.access).await.is_ok());
    assert_eq!(place.proxy.asked_for("introspect"), 2);
    assert!(verifier.verify_in_memory(&other.access).unwrap_err().is_unavailable());
    // the issuer doesn't answer either
    place.proxy.set(Mode::Cut);
    assert!(verifier.verify(&other.access).await.unwrap_err().is_unavailable());
    // back: what was missed is told
    place.proxy.set(Mode::Open);
    until_in_step(&verifier).await;
    assert_eq!(verifier.verify_in_memory(&one.access), Err(VerifyError::Revoked));
    assert!(verifier.verify_in_memory(&other.access).is_ok());
    assert_eq!(verifier.status().trouble, None);
    drop(verifier);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_feed_is_lost_everything_is_refused_if_that_is_wanted() {
    let place = Place::new().await;
    place.node.account("ada").await;
    let (one, other) = (place.node.login("ada").await, place.node.login("ada").await);
    let verifier = place.verifier_with(|builder| builder.on_feed_lost(OnFeedLost::Refuse)).await;
    place.node.logout(&one.refresh).await.expect(204);
    until_revoked(&verifier, &one.access).await;
    place.proxy.set(Mode::Frozen);
    assert!(verifier.verify(&other.access).await.is_ok());
    place.hands.pass(Duration::from_millis(5001));
    assert!(verifier.verify(&other.access).await.unwrap_err().is_unavailable());
    // what is known to be revoked is said so
    assert_eq!(verifier.verify(&one.access).await, Err(VerifyError::Revoked));
    place.proxy.set(Mode::Open);
    until_in_step(&verifier).await;
    assert!(verifier.verify(&other.access).await.is_ok());
    assert_eq!(place.proxy.asked_for("introspect"), 0);
    drop(verifier);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_feed_is_given_up_and_found_again_without_a_gap() {
    let place = Place::new().await;
    place.node.account("ada").await;
    let tokens = [place.node.login("ada").await, place.node.login("ada").await, place.node.login("ada").await];
    let verifier = place.verifier_with(|builder| builder.max_staleness(Duration::from_secs(1))).await;
    place.proxy.set(Mode::Frozen);
    let connected = verifier.status().connections;
    place.node.logout(&tokens[0].refresh).await.expect(204);
    // by itself it finds out that nothing comes any more
    wait::until("it is given up", async || verifier.status().trouble.is_some()).await;
    place.node.logout(&tokens[1].refresh).await.expect(204);
    place.proxy.set(Mode::Open);
    wait::until("it is connected again", async || verifier.status().connections > connected).await;
    until_revoked(&verifier, &tokens[0].access).await;
    until_revoked(&verifier, &tokens[1].access).await;
    until_in_step(&verifier).await;
    assert!(verifier.verify_in_memory(&tokens[2].access).is_ok());
    drop(verifier);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_goes_on_where_the_one_before_ended() {
    let mut place = Place::new().await;
    place.node.account("ada").await;
    let tokens = [place.node.login("ada").await, place.node.login("ada").await, place.node.login("ada").await];
    let verifier = place.verifier().await;
    place.node.logout(&tokens[0].refresh).await.expect(204);
    until_revoked(&verifier, &tokens[0].access).await;
    let next = place.cluster.node().await;
    let first = std::mem::replace(&mut place.node, next);
    place.proxy.lead_to(&place.node.client.base);
    first.stop().await;
    place.node.logout(&tokens[1].refresh).await.expect(204);
    until_revoked(&verifier, &tokens[1].access).await;
    assert_eq!(verifier.verify(&tokens[0].access).await, Err(VerifyError::Revoked));
    until_in_step(&verifier).await;
    assert!(verifier.verify(&tokens[2].access).await.is_ok());
    drop(verifier);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_more_than_it_may_remember_the_feed_counts_as_lost() {
    let place = Place::new().await;
    place.node.account("ada").await;
    let tokens = [place.node.login("ada").await, place.node.login("ada").await, place.node.login("ada").await];
    let few = place.verifier_with(|builder| builder.max_revocations(1).on_feed_lost(OnFeedLost::Refuse)).await;
    let asking = place.verifier_with(|builder| builder.max_revocations(1)).await;
    for tokens in &tokens[..2] {
        place.node.logout(&tokens.refresh).await.expect(204);
    }
    wait::until("it is too much", async || !few.status().in_step && !asking.status().in_step).await;
    for tokens in &tokens[..2] {
        assert!(few.verify(&tokens.access).await.is_err());
        assert_eq!(asking.verify(&tokens.access).await, Err(VerifyError::Revoked));
    }
    assert!(few.verify(&tokens[2].access).await.unwrap_err().is_unavailable());
    assert!(asking.verify(&tokens[2].access).await.is_ok());
    assert_eq!(few.status().trouble.as_deref(), Some("there are too many revocations"));
    assert_eq!(few.status().revocations, 1);
    drop((few, asking));
    place.stop().await;
}
