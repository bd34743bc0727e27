//! What a verifier can't be made of.

use latchkey_verify::{BuildError, Verifier, VerifyError};

use crate::{harness::wait, place::Place, proxy::Mode};

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused() {
    let place = Place::new().await;
    let url = place.proxy.url();
    let refused = async |builder: latchkey_verify::Builder| builder.build().await.unwrap_err();
    let plain = |issuer: &str| Verifier::builder(issuer).audience("x").without_revocations();
    for issuer in ["", "auth.example.com", "http://auth.example.com", "https://example.com/?a", &format!("{url}/")] {
        assert!(matches!(refused(plain(issuer)).await, BuildError::Issuer(_)), "{issuer}");
    }
    assert!(matches!(refused(Verifier::builder(&url).without_revocations()).await, BuildError::NoAudience));
    assert!(matches!(refused(Verifier::builder(&url).audience("x")).await, BuildError::Client));
    assert!(matches!(refused(plain(&url).client("a", "b")).await, BuildError::Client));
    // the same service under another name
    let other = url.replace("127.0.0.1", "localhost");
    let error = refused(plain(&other)).await;
    assert!(matches!(error, BuildError::Fetch(_)) && error.to_string().contains("another issuer"), "{error}");
    place.proxy.set(Mode::Cut);
    assert!(matches!(refused(plain(&url)).await, BuildError::Fetch(_)));
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_not_known_hears_nothing_and_says_so() {
    let place = Place::new().await;
    place.node.account("ada").await;
    let tokens = place.node.login("ada").await;
    let verifier = place.builder().client("orders", "lk_cs_wrong").build().await.unwrap();
    wait::until("it is refused", async || verifier.status().trouble.is_some()).await;
    assert_eq!(verifier.status().trouble.as_deref(), Some("it answered 401 Unauthorized"));
    let answer = verifier.verify(&tokens.access).await.unwrap_err();
    assert!(matches!(answer, VerifyError::Unavailable(_)), "{answer}");
    assert!(!format!("{verifier:?}").contains("lk_cs_wrong"));
    drop(verifier);
    place.stop().await;
}
