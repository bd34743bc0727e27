//! I6, no secrets at rest or in logs, for service clients: their secrets, their assertions and the tokens that they send are not
//! readable in Redis, SQL, logs or later responses.

use base64::prelude::*;
use latchkey::{
    crypto::{client_keys::to_jwks, signing_key::SigningKey},
    domain::key::Algorithm,
    service::clients::{self, NewClient},
};
use reqwest::Method;
use serde_json::json;

use crate::harness::{client::Answer, log::Log, test_cluster::TestCluster};

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Asserts that none of the secrets is in `bytes`, as it is or in base64. `place` names what the bytes are.
fn assert_absent(secrets: &[String], place: &str, bytes: &[u8]) {
    for secret in secrets {
        for text in [secret.clone(), BASE64_STANDARD_NO_PAD.encode(secret)] {
            assert!(!contains(bytes, &text), "{text} is in {place}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_client_secrets_and_assertions_are_stored_and_logged_nowhere() {
    let log = Log::start();
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let jwks = Some(to_jwks(key.public_jwk()).unwrap());
    let client =
        cluster.service_client_with(NewClient { name: "billing".to_owned(), jwks, ..NewClient::default() }).await;
    // for this time, the client's first secret is still accepted
    let grace = std::time::Duration::from_secs(60);
    let (_id, second_secret) =
        clients::rotate_secret(&cluster.clock, &node.state.entropy, &node.state.sql, "billing", grace).await.unwrap();
    cluster.reload_clients().await;
    let header = json!({ "alg": "ES256" });
    // The clock of the cluster stands at 1,800,000,000: the assertion expires a minute later.
    let claims = json!({ "iss": "billing", "sub": "billing", "aud": "https://auth.example.com", "exp": 1_800_000_060, "jti": "the-only-assertion" });
    let message = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).unwrap());
    let assertion = format!("{message}.{signature}");
    node.register("ada").await;
    let tokens = node.login("ada").await;
    let without_prefix = |secret: &str| secret["lk_cs_".len()..].to_owned();
    // Of the assertion, only the signature is secret: without it, the rest is useless.
    let secrets = [
        client.secret.clone(),
        without_prefix(&client.secret),
        second_secret.expose().to_owned(),
        without_prefix(second_secret.expose()),
        signature,
        tokens.access.clone(),
        tokens.refresh.clone(),
    ];

    let mut answers: Vec<Answer> = Vec::new();
    // Sends a form, with `basic` as the client's id and secret in the `Authorization` header. Keeps the answer, and returns the status.
    let mut send = async |path: &str, basic: Option<(&str, &str)>, form: &[(&str, &str)]| {
        let mut request = node.request(Method::POST, path).form(form);
        if let Some((id, secret)) = basic {
            request = request.basic_auth(id, Some(secret));
        }
        answers.push(node.send(request).await);
        answers.last().unwrap().status.as_u16()
    };
    let grant = ("grant_type", "client_credentials");
    let jwt = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    for secret in [client.secret.as_str(), second_secret.expose()] {
        assert_eq!(send("/oauth2/introspect", Some(("billing", secret)), &[("token", &tokens.access)]).await, 200);
        assert_eq!(send("/oauth2/introspect", Some(("billing", secret)), &[("token", &tokens.refresh)]).await, 200);
        assert_eq!(send("/oauth2/introspect", Some(("billing", secret)), &[("token", secret)]).await, 200);
        assert_eq!(send("/oauth2/revoke", Some(("billing", secret)), &[("token", secret)]).await, 200);
        // secrets in wrong fields: an error or a log line might repeat their values
        assert_eq!(send("/oauth2/token", Some((secret, "billing")), &[grant]).await, 401);
        assert_eq!(send("/oauth2/token", Some(("billing", &tokens.access)), &[grant]).await, 401);
        assert_eq!(send("/oauth2/token", None, &[grant, ("client_id", secret), ("client_secret", secret)]).await, 401);
        assert_eq!(send("/oauth2/token", None, &[("grant_type", secret)]).await, 400);
        assert_eq!(send("/oauth2/token", None, &[(secret, "a"), (secret, "b")]).await, 400);
        assert_eq!(
            send("/oauth2/token", None, &[("grant_type", "refresh_token"), ("refresh_token", secret)]).await,
            400
        );
        assert_eq!(send("/oauth2/token", Some(("billing", secret)), &[grant, ("scope", secret)]).await, 400);
        assert_eq!(send("/oauth2/token", None, &[grant, jwt, ("client_assertion", secret)]).await, 401);
    }
    let with_assertion = [jwt, ("client_assertion", assertion.as_str()), ("token", "unknown")];
    assert_eq!(send("/oauth2/introspect", None, &with_assertion).await, 200);
    // The second use of an assertion is refused and logged.
    assert_eq!(send("/oauth2/introspect", None, &with_assertion).await, 401);
    for answer in &answers {
        assert_absent(&secrets, "an answer", format!("{answer:?}").as_bytes());
    }
    assert_absent(&secrets, "Redis", &cluster.redis.dump());
    // the contents of all files in the cluster's folder, in which SQLite stores its database
    let entries = std::fs::read_dir(cluster.folder()).unwrap();
    let files: Vec<u8> = entries.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(contains(&files, "billing"), "the files have the client's name, so they are the database");
    assert_absent(&secrets, "the database", &files);
    let logged = log.bytes();
    assert!(contains(&logged, "the assertion was used"), "the log has the refusal of the second use");
    assert_absent(&secrets, "the log", &logged);
    let listed = clients::list(&node.state.sql).await.unwrap();
    assert_absent(&secrets, "the debug output", format!("{listed:?} {second_secret:?}").as_bytes());
}
