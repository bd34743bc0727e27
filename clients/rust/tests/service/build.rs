//! Errors of building a verifier.

use latchkey_verify::{BuildError, Verifier, VerifyError};

use crate::{
    fixture::Fixture,
    harness::{fault_proxy::Mode, wait},
};

#[tokio::test(flavor = "multi_thread")]
async fn build_with_invalid_configuration_fails() {
    let fixture = Fixture::new().await;
    let url = fixture.proxy.http_url();
    let refused = async |builder: latchkey_verify::Builder| builder.build().await.unwrap_err();
    let without_feed = |issuer: &str| Verifier::builder(issuer).audience("x").without_revocations();
    for issuer in ["", "auth.example.com", "http://auth.example.com", "https://example.com/?a", &format!("{url}/")] {
        assert!(matches!(refused(without_feed(issuer)).await, BuildError::Issuer(_)), "{issuer}");
    }
    assert!(matches!(refused(Verifier::builder(&url).without_revocations()).await, BuildError::NoAudience));
    // the feed needs the credentials of a service client, and nothing else uses them
    let without_credentials = Verifier::builder(&url).audience("x");
    assert!(matches!(refused(without_credentials).await, BuildError::Client));
    assert!(matches!(refused(without_feed(&url).client("orders", "secret")).await, BuildError::Client));
    // the same service under another host name
    let other = url.replace("127.0.0.1", "localhost");
    let error = refused(without_feed(&other)).await;
    assert!(matches!(error, BuildError::Fetch(_)) && error.to_string().contains("another issuer"), "{error}");
    fixture.proxy.set(Mode::Cut);
    assert!(matches!(refused(without_feed(&url)).await, BuildError::Fetch(_)));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_answering_401_names_the_client_in_the_status() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let verifier = fixture.builder().client("orders", "lk_cs_wrong").build().await.unwrap();
    wait::until("the feed is refused", async || verifier.status().last_error.is_some()).await;
    let expected = r#"the response is 401: the service client "orders" is unknown or disabled, or its secret is wrong"#;
    assert_eq!(verifier.status().last_error.as_deref(), Some(expected));
    let error = verifier.verify(&tokens.access).await.unwrap_err();
    assert!(matches!(error, VerifyError::Unavailable(_)), "{error}");
    assert!(!format!("{verifier:?}").contains("lk_cs_wrong"));
    drop(verifier);
    fixture.stop().await;
}
