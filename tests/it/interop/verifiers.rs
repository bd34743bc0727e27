//! Libraries that verify access tokens, as services would that know nothing of Latchkey but its issuer.

use latchkey::domain::{clock::Clock, key::Algorithm};
use serde_json::json;

use super::Verifier;
use crate::harness::test_cluster::TestCluster;

/// Lets a program verify tokens that are signed in these ways, a user's and a client's, and some that are none.
async fn check(program: &'static str, algorithms: &[Algorithm]) {
    for algorithm in algorithms {
        let mut cluster = TestCluster::new();
        cluster.clock = Clock::System;
        cluster.config.keys.algorithm = *algorithm;
        let node = cluster.node_at_issuer().await;
        let account = node.account("ada").await.text_of("id");
        let tokens = node.login("ada").await;
        let service = cluster.service_client("stock").await;
        let form = [("grant_type", "client_credentials")];
        let request = node.request(reqwest::Method::POST, "/oauth2/token").form(&form);
        let own = node.send(request.basic_auth(&service.id, Some(&service.secret))).await.expect(200);
        let own = own.text_of("access_token");
        let mut verifier =
            Verifier::start(program, &json!({ "issuer": cluster.config.issuer, "audience": "latchkey" }));
        for _ in 0..2 {
            assert_eq!(verifier.verify(&tokens.access).await, Ok(account.clone()), "{algorithm}");
            assert_eq!(verifier.verify(&own).await, Ok(service.id.clone()), "{algorithm}");
        }
        let (message, signature) = tokens.access.rsplit_once('.').unwrap();
        let (_, others) = own.rsplit_once('.').unwrap();
        for wrong in [format!("{message}.{others}"), format!("{message}."), format!(".{signature}"), tokens.refresh] {
            assert!(verifier.verify(&wrong).await.is_err(), "{algorithm}: {wrong}");
        }
        let mut elsewhere =
            Verifier::start(program, &json!({ "issuer": cluster.config.issuer, "audience": "elsewhere" }));
        assert!(elsewhere.verify(&tokens.access).await.is_err(), "{algorithm}: the audience isn't looked at");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jose_verifies_every_algorithm() {
    check("verify_jose.mjs", &Algorithm::ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth4webapi_verifies_every_algorithm() {
    check("verify_oauth4webapi.mjs", &Algorithm::ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn express_oauth2_jwt_bearer_verifies_every_algorithm() {
    check("verify_express.mjs", &Algorithm::ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pyjwt_verifies_every_algorithm() {
    check("verify_pyjwt.py", &Algorithm::ALL).await;
}

/// All but EdDSA and PS256, which it refuses unless it is told otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn authlib_verifies_what_it_knows() {
    check("verify_authlib.py", &[Algorithm::Es256, Algorithm::Rs256]).await;
}
