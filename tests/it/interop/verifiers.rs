//! Tests that JWT libraries accept valid access tokens when only the issuer and the audience are configured.

use latchkey::domain::{clock::Clock, key::Algorithm};
use serde_json::json;

use super::Verifier;
use crate::harness::test_cluster::TestCluster;

/// Asserts, for each algorithm, that a program of `tests/interop` accepts the access tokens of a user and of a service client, and
/// refuses invalid tokens and tokens for another audience.
async fn check_verifier(program: &'static str, algorithms: &[Algorithm]) {
    for algorithm in algorithms {
        let mut cluster = TestCluster::new();
        // the program compares the times in tokens with this clock
        cluster.clock = Clock::System;
        cluster.config.keys.algorithm = *algorithm;
        let node = cluster.node_at_issuer().await;
        let account = node.register("ada").await.text_of("id");
        let tokens = node.login("ada").await;
        let service = cluster.service_client("stock").await;
        let form = [("grant_type", "client_credentials")];
        let request = node.request(reqwest::Method::POST, "/oauth2/token").form(&form);
        let answer = node.send(request.basic_auth(&service.id, Some(&service.secret))).await.expect(200);
        let service_token = answer.text_of("access_token");
        let settings = json!({ "issuer": cluster.config.issuer, "audience": "latchkey" });
        let mut verifier = Verifier::start(program, &settings);
        // The library fetches the keys in the first round, and has them in the second.
        for _ in 0..2 {
            assert_eq!(verifier.verify(&tokens.access).await, Ok(account.clone()), "{algorithm}");
            assert_eq!(verifier.verify(&service_token).await, Ok(service.id.clone()), "{algorithm}");
        }
        let (message, signature) = tokens.access.rsplit_once('.').unwrap();
        let (_, other_signature) = service_token.rsplit_once('.').unwrap();
        let invalid_tokens = [
            format!("{message}.{other_signature}"),
            format!("{message}."),
            format!(".{signature}"),
            tokens.refresh, // not a JWT
        ];
        for invalid in invalid_tokens {
            assert!(verifier.verify(&invalid).await.is_err(), "{algorithm}: {invalid}");
        }
        let settings = json!({ "issuer": cluster.config.issuer, "audience": "elsewhere" });
        let mut other_audience = Verifier::start(program, &settings);
        assert!(other_audience.verify(&tokens.access).await.is_err(), "{algorithm}: accepted for another audience");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jose_accepts_every_algorithm() {
    check_verifier("verify_jose.mjs", &Algorithm::ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth4webapi_accepts_every_algorithm() {
    check_verifier("verify_oauth4webapi.mjs", &Algorithm::ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn express_oauth2_jwt_bearer_accepts_every_algorithm() {
    check_verifier("verify_express.mjs", &Algorithm::ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pyjwt_accepts_every_algorithm() {
    check_verifier("verify_pyjwt.py", &Algorithm::ALL).await;
}

/// Authlib refuses EdDSA and PS256 with its default configuration.
#[tokio::test(flavor = "multi_thread")]
async fn authlib_accepts_es256_and_rs256() {
    check_verifier("verify_authlib.py", &[Algorithm::Es256, Algorithm::Rs256]).await;
}
