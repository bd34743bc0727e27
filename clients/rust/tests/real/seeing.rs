//! Sign-ins are accepted, and every way in which sessions end is seen.

use std::time::Duration;

use latchkey_verify::{Invalid, VerifyError};

use crate::{
    harness::{client::PASSWORD, wait},
    place::{Place, invalid, until_revoked},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_is_accepted_and_refused_as_soon_as_it_is_signed_out() {
    let place = Place::new().await;
    let account = place.node.account("ada").await.text_of("id");
    let (one, other) = (place.node.login("ada").await, place.node.login("ada").await);
    let verifier = place.verifier().await;
    let claims = verifier.verify(&one.access).await.unwrap();
    assert_eq!((claims.sub.as_str(), claims.sid.as_deref()), (account.as_str(), Some(one.session.as_str())));
    assert_eq!((claims.aud.as_slice(), claims.client_id.as_str()), (&["latchkey".to_owned()][..], "latchkey"));
    assert_eq!((claims.exp - claims.iat, claims.auth_time), (300, Some(claims.iat)));
    assert!(claims.has_scope("account") && !claims.has_scope("") && !claims.has_role("admin"));
    assert!(!claims.is_clients_own());

    place.node.logout(&one.refresh).await.expect(204);
    until_revoked(&verifier, &one.access).await;
    assert!(verifier.verify(&other.access).await.is_ok());
    assert_eq!(verifier.status().revocations, 1);
    // who comes later learns it from the snapshot
    let later = place.verifier().await;
    assert_eq!(later.verify(&one.access).await.unwrap_err(), VerifyError::Revoked);
    assert!(later.verify(&other.access).await.is_ok());
    assert_eq!(place.proxy.asked_for("introspect"), 0);
    drop((verifier, later));
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_ends_the_other_sessions_only() {
    let place = Place::new().await;
    place.node.account("ada").await;
    place.node.account("bob").await;
    let [here, there, bob] =
        [place.node.login("ada").await, place.node.login("ada").await, place.node.login("bob").await];
    let verifier = place.verifier().await;
    for tokens in [&here, &there, &bob] {
        assert!(verifier.verify(&tokens.access).await.is_ok());
    }
    place.cluster.advance(Duration::from_secs(2));
    place.node.change_password(&here.access, PASSWORD, "quite another phrase of words").await.expect(204);
    until_revoked(&verifier, &there.access).await;
    let after = place.node.login_with("ada", "quite another phrase of words").await;
    for tokens in [&here, &bob, &after] {
        assert!(verifier.verify(&tokens.access).await.is_ok());
    }
    drop(verifier);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_is_looked_at_every_time() {
    let place = Place::new().await;
    place.node.account("ada").await;
    let tokens = place.node.login("ada").await;
    let verifier = place.verifier().await;
    assert!(verifier.verify(&tokens.access).await.is_ok());
    place.cluster.advance(Duration::from_secs(304));
    // the clock of the machine has moved: heard is what is told after
    wait::until("it is in step", async || verifier.status().in_step).await;
    assert!(verifier.verify(&tokens.access).await.is_ok(), "within the leeway");
    place.cluster.advance(Duration::from_secs(1));
    assert_eq!(verifier.verify(&tokens.access).await.unwrap_err(), invalid(Invalid::Expired));
    drop(verifier);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dozens_of_sign_outs_are_all_seen() {
    let place = Place::new().await;
    place.node.account("ada").await;
    let mut all = Vec::new();
    for _ in 0..50 {
        all.push(place.node.login("ada").await);
    }
    let verifier = place.verifier().await;
    let (out, stay) = all.split_at(25);
    for tokens in out {
        place.node.logout(&tokens.refresh).await.expect(204);
    }
    for tokens in out {
        until_revoked(&verifier, &tokens.access).await;
    }
    for tokens in stay {
        assert!(verifier.verify(&tokens.access).await.is_ok());
    }
    drop(verifier);
    place.stop().await;
}
