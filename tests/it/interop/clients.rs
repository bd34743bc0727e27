//! OAuth client libraries use discovery, client credentials, refresh, introspection and revocation.

use base64::{Engine, prelude::BASE64_STANDARD};
use latchkey::{
    crypto::{client_keys::to_jwks, signing_key::SigningKey},
    domain::{clock::Clock, key::Algorithm},
    service::clients::NewClient,
};
use serde_json::json;

use super::{command, folder};
use crate::{harness::test_cluster::TestCluster, openapi_external::succeed};

/// Runs a program that uses a client library at every OAuth endpoint for clients. The program fails if a call has an unexpected
/// result.
async fn run_client(program: &'static str) {
    let mut cluster = TestCluster::new();
    // The client library checks times with the system clock.
    cluster.clock = Clock::System;
    let node = cluster.node_at_issuer().await;
    // the client's own key, with which it can authenticate instead of its secret
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let new = NewClient {
        // Client libraries may percent-encode `.` and `-` in HTTP Basic credentials (RFC 6749, section 2.3.1).
        name: "interop.client-1".to_owned(),
        scopes: vec!["read".to_owned(), "write".to_owned()],
        jwks: Some(to_jwks(key.public_jwk()).unwrap()),
        ..NewClient::default()
    };
    let service = cluster.service_client_with(new).await;
    let subject = node.register("ada").await.text_of("id");
    let pkcs8 = key.to_pkcs8().unwrap();
    let private_key = BASE64_STANDARD.encode(pkcs8.as_slice());
    let settings = json!({
        "issuer": cluster.config.issuer,
        "audience": "latchkey",
        "client_id": service.id,
        "client_secret": service.secret,
        "private_key": format!("-----BEGIN PRIVATE KEY-----\n{private_key}\n-----END PRIVATE KEY-----\n"),
        "kid": key.kid(),
        // the public client that `node.login` uses, so that the refresh token below belongs to it
        "app_id": "latchkey",
        "subject": subject,
        "refresh_token": node.login("ada").await.refresh,
    });
    tokio::task::spawn_blocking(move || succeed(&mut command(&folder(), program, &settings))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth4webapi_completes_all_client_flows() {
    run_client("client_oauth4webapi.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_completes_all_client_flows() {
    run_client("client_openid_client.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib_completes_all_client_flows() {
    run_client("client_authlib.py").await;
}
