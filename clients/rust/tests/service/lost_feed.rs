//! A lost feed: its connection is cut or frozen, its node stops, or it has too many revocations.

use std::time::Duration;

use latchkey_verify::{OnFeedLost, Verifier, VerifyError};

use crate::{
    fixture::{Fixture, wait_until_revoked},
    harness::{fault_proxy::Mode, wait},
};

/// One millisecond longer than the default of `max_staleness`, 5 s.
const PAST_MAX_STALENESS: Duration = Duration::from_millis(5001);

async fn wait_until_live(verifier: &Verifier) {
    wait::until("the verifier is live", async || verifier.status().live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_feed_falls_back_to_introspection() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let (first, second) = (fixture.node.login("ada").await, fixture.node.login("ada").await);
    let verifier = fixture.verifier().await;
    assert!(verifier.verify(&first.access).await.is_ok());
    // cuts the feed, but not other requests
    fixture.proxy.set(Mode::CutSubscribers);
    fixture.node.logout(&first.refresh).await.expect(204);
    // local revocations, which lack the sign-out, still count as up to date
    assert!(verifier.verify(&first.access).await.is_ok());
    assert_eq!(fixture.proxy.count_requests("introspect"), 0);
    fixture.clock.advance(PAST_MAX_STALENESS);
    assert!(!verifier.status().live);
    assert_eq!(verifier.verify(&first.access).await, Err(VerifyError::Revoked));
    assert!(verifier.verify(&second.access).await.is_ok());
    assert_eq!(fixture.proxy.count_requests("introspect"), 2, "one for each token");
    assert!(verifier.verify_locally(&second.access).unwrap_err().is_unavailable());
    // now neither the feed nor introspection works
    fixture.proxy.set(Mode::Cut);
    assert!(verifier.verify(&second.access).await.unwrap_err().is_unavailable());
    // the feed is back and sends the missed revocation
    fixture.proxy.set(Mode::Open);
    wait_until_live(&verifier).await;
    assert_eq!(verifier.verify_locally(&first.access), Err(VerifyError::Revoked));
    assert!(verifier.verify_locally(&second.access).is_ok());
    assert_eq!(verifier.status().last_error, None);
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_feed_refuses_all_tokens_if_configured() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let (first, second) = (fixture.node.login("ada").await, fixture.node.login("ada").await);
    let verifier = fixture.verifier_with(|builder| builder.on_feed_lost(OnFeedLost::Refuse)).await;
    fixture.node.logout(&first.refresh).await.expect(204);
    wait_until_revoked(&verifier, &first.access).await;
    fixture.proxy.set(Mode::Frozen);
    assert!(verifier.verify(&second.access).await.is_ok());
    fixture.clock.advance(PAST_MAX_STALENESS);
    assert!(verifier.verify(&second.access).await.unwrap_err().is_unavailable());
    // a token that is known to be revoked is still refused as such
    assert_eq!(verifier.verify(&first.access).await, Err(VerifyError::Revoked));
    fixture.proxy.set(Mode::Open);
    wait_until_live(&verifier).await;
    assert!(verifier.verify(&second.access).await.is_ok());
    assert_eq!(fixture.proxy.count_requests("introspect"), 0);
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_feed_is_reconnected_without_a_gap() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = [fixture.node.login("ada").await, fixture.node.login("ada").await, fixture.node.login("ada").await];
    // A verifier drops a stream that sends no event for `max_staleness`, by default 5 s of real time.
    let verifier = fixture.verifier().await;
    fixture.proxy.set(Mode::Frozen);
    let connections_before = verifier.status().connections;
    // the first sign-out happens on the frozen connection, the second one while the verifier is disconnected
    fixture.node.logout(&tokens[0].refresh).await.expect(204);
    wait::until("the frozen feed is dropped", async || verifier.status().last_error.is_some()).await;
    fixture.node.logout(&tokens[1].refresh).await.expect(204);
    fixture.proxy.set(Mode::Open);
    wait::until("the verifier has reconnected", async || verifier.status().connections > connections_before).await;
    wait_until_revoked(&verifier, &tokens[0].access).await;
    wait_until_revoked(&verifier, &tokens[1].access).await;
    wait_until_live(&verifier).await;
    assert!(verifier.verify_locally(&tokens[2].access).is_ok());
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_resumes_on_another_node() {
    let mut fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = [fixture.node.login("ada").await, fixture.node.login("ada").await, fixture.node.login("ada").await];
    let verifier = fixture.verifier().await;
    fixture.node.logout(&tokens[0].refresh).await.expect(204);
    wait_until_revoked(&verifier, &tokens[0].access).await;
    let second_node = fixture.cluster.node().await;
    let first_node = std::mem::replace(&mut fixture.node, second_node);
    fixture.proxy.forward_to(fixture.node.address());
    first_node.stop().await;
    fixture.node.logout(&tokens[1].refresh).await.expect(204);
    wait_until_revoked(&verifier, &tokens[1].access).await;
    assert_eq!(verifier.verify(&tokens[0].access).await, Err(VerifyError::Revoked));
    wait_until_live(&verifier).await;
    assert!(verifier.verify(&tokens[2].access).await.is_ok());
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_revocations_than_the_limit_make_the_feed_lost() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = [fixture.node.login("ada").await, fixture.node.login("ada").await, fixture.node.login("ada").await];
    let refusing = fixture.verifier_with(|builder| builder.max_revocations(1).on_feed_lost(OnFeedLost::Refuse)).await;
    let introspecting = fixture.verifier_with(|builder| builder.max_revocations(1)).await;
    for signed_out in &tokens[..2] {
        fixture.node.logout(&signed_out.refresh).await.expect(204);
    }
    wait::until("both feeds are lost", async || !refusing.status().live && !introspecting.status().live).await;
    // Only one of the two revocations fits. Of the two tokens, `refusing` refuses one as revoked and the other as unverifiable.
    for signed_out in &tokens[..2] {
        assert!(refusing.verify(&signed_out.access).await.is_err());
        assert_eq!(introspecting.verify(&signed_out.access).await, Err(VerifyError::Revoked));
    }
    assert!(refusing.verify(&tokens[2].access).await.unwrap_err().is_unavailable());
    assert!(introspecting.verify(&tokens[2].access).await.is_ok());
    assert_eq!(refusing.status().last_error.as_deref(), Some("more revocations than max_revocations"));
    assert_eq!(refusing.status().revocations, 1);
    drop((refusing, introspecting));
    fixture.stop().await;
}
