//! Tokens of current sessions are accepted, and tokens of ended sessions are refused.

use std::time::Duration;

use latchkey_verify::{Invalid, VerifyError};

use crate::{
    fixture::{Fixture, invalid, wait_until_revoked},
    harness::{
        client::{PASSWORD, Tokens},
        wait,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn token_is_accepted_until_logout() {
    let fixture = Fixture::new().await;
    let account = fixture.node.register("ada").await.text_of("id");
    let (ended, live) = (fixture.node.login("ada").await, fixture.node.login("ada").await);
    let verifier = fixture.verifier().await;
    let claims = verifier.verify(&ended.access).await.unwrap();
    assert_eq!(claims.sub, account);
    assert_eq!(claims.sid.as_deref(), Some(ended.session.as_str()));
    assert_eq!(claims.aud, ["latchkey"]);
    assert_eq!(claims.client_id, "latchkey");
    assert_eq!(claims.exp - claims.iat, 300, "seconds");
    assert_eq!(claims.auth_time, Some(claims.iat));
    assert!(claims.has_scope("account") && !claims.has_scope("") && !claims.has_role("admin"));
    assert!(!claims.is_service_client());

    fixture.node.logout(&ended.refresh).await.expect(204);
    wait_until_revoked(&verifier, &ended.access).await;
    assert!(verifier.verify(&live.access).await.is_ok());
    assert_eq!(verifier.status().revocations, 1);
    // This verifier subscribes to the feed after the logout. The feed begins with all current revocations.
    let late_verifier = fixture.verifier().await;
    assert_eq!(late_verifier.verify(&ended.access).await.unwrap_err(), VerifyError::Revoked);
    assert!(late_verifier.verify(&live.access).await.is_ok());
    assert_eq!(fixture.proxy.count_requests("introspect"), 0, "the verifiers decide without calls to the service");
    drop((verifier, late_verifier));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn password_change_revokes_all_earlier_tokens_of_the_account_only() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    fixture.node.register("bob").await;
    let [caller, other_device, bob] =
        [fixture.node.login("ada").await, fixture.node.login("ada").await, fixture.node.login("bob").await];
    let verifier = fixture.verifier().await;
    for tokens in [&caller, &other_device, &bob] {
        assert!(verifier.verify(&tokens.access).await.is_ok());
    }
    // One event ends all sessions that began before the second of the change. The test is about this event, so the change is
    // not in the second of the logins.
    fixture.cluster.advance(Duration::from_secs(2));
    let new_password = "quite another phrase of words";
    let answer = fixture.node.change_password(&caller.access, PASSWORD, new_password).await.expect(200);
    // The caller gets a new session in the same step.
    let replacement = Tokens::of(&answer);
    for tokens in [&caller, &other_device] {
        wait_until_revoked(&verifier, &tokens.access).await;
    }
    let next_login = fixture.node.login_with("ada", new_password).await;
    for tokens in [&replacement, &bob, &next_login] {
        assert!(verifier.verify(&tokens.access).await.is_ok());
    }
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_is_checked_on_every_cache_hit() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let verifier = fixture.verifier().await;
    assert!(verifier.verify(&tokens.access).await.is_ok());
    // The token is valid for 300 s, and the leeway is 5 s. So it is refused after 305 s.
    fixture.cluster.advance(Duration::from_secs(304));
    // After the clock has jumped, the verifier is live again once a heartbeat of the feed has arrived.
    wait::until("the verifier is live", async || verifier.status().live).await;
    assert!(verifier.verify(&tokens.access).await.is_ok(), "within the leeway");
    fixture.cluster.advance(Duration::from_secs(1));
    assert_eq!(verifier.verify(&tokens.access).await.unwrap_err(), invalid(Invalid::Expired));
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_one_of_many_logouts_revokes_its_token() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let mut all = Vec::new();
    for _ in 0..50 {
        all.push(fixture.node.login("ada").await);
    }
    let verifier = fixture.verifier().await;
    let (ended, live) = all.split_at(25);
    for tokens in ended {
        fixture.node.logout(&tokens.refresh).await.expect(204);
    }
    for tokens in ended {
        wait_until_revoked(&verifier, &tokens.access).await;
    }
    for tokens in live {
        assert!(verifier.verify(&tokens.access).await.is_ok());
    }
    drop(verifier);
    fixture.stop().await;
}
