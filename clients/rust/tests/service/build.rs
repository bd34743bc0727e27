//! Errors of building a verifier, and the state of a verifier with a wrong client secret.

use latchkey_verify::{BuildError, Builder, Verifier, VerifyError};

use crate::{
    fixture::Fixture,
    harness::{fault_proxy::Mode, wait},
};

#[tokio::test(flavor = "multi_thread")]
async fn build_with_invalid_configuration_fails() {
    let fixture = Fixture::new().await;
    let url = fixture.proxy.http_url();
    let build_error = async |builder: Builder| builder.build().await.unwrap_err();
    let without_feed = |issuer: &str| Verifier::builder(issuer).audience("latchkey").without_revocations();
    let with_slash = format!("{url}/");
    for issuer in ["", "auth.example.com", "http://auth.example.com", "https://example.com/?a", &with_slash] {
        let error = build_error(without_feed(issuer)).await;
        assert!(matches!(error, BuildError::Issuer(_)), "{issuer}: {error}");
    }
    let without_audience = Verifier::builder(&url).without_revocations();
    assert!(matches!(build_error(without_audience).await, BuildError::NoAudience));
    // the feed needs the credentials of a service client, and nothing else uses them
    let without_credentials = Verifier::builder(&url).audience("latchkey");
    assert!(matches!(build_error(without_credentials).await, BuildError::Client));
    let unused_credentials = without_feed(&url).client("orders", "secret");
    assert!(matches!(build_error(unused_credentials).await, BuildError::Client));
    // the same service under another host name: its metadata names the issuer 127.0.0.1
    let other_host = url.replace("127.0.0.1", "localhost");
    let error = build_error(without_feed(&other_host)).await;
    assert!(matches!(error, BuildError::Fetch(_)), "{error}");
    assert!(error.to_string().contains("another issuer"), "{error}");
    // the service is unreachable
    fixture.proxy.set(Mode::Cut);
    assert!(matches!(build_error(without_feed(&url)).await, BuildError::Fetch(_)));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_answering_401_names_the_client_in_the_status() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let verifier = fixture.builder().client("orders", "lk_cs_wrong").build().await.unwrap();
    wait::until("the feed answers 401", async || verifier.status().last_error.is_some()).await;
    let expected = r#"the response is 401: the service client "orders" is unknown or disabled, or its secret is wrong"#;
    assert_eq!(verifier.status().last_error.as_deref(), Some(expected));
    // without the feed, the verifier does not know whether the session has ended
    let error = verifier.verify(&tokens.access).await.unwrap_err();
    assert!(matches!(error, VerifyError::Unavailable(_)), "{error}");
    assert!(!format!("{verifier:?}").contains("lk_cs_wrong"), "the debug output omits the secret");
    // ends the verifier's connections before the service stops
    drop(verifier);
    fixture.stop().await;
}
