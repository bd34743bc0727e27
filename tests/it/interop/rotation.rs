//! Tests key rotation while other libraries verify tokens: no valid token is refused, and no expired token is accepted.

use std::{collections::BTreeMap, time::Duration};

use jsonwebtoken::decode_header;
use latchkey::{
    crypto::key_rotation::SigningStart,
    domain::clock::{Clock, Timestamp},
    service::keys,
};
use serde_json::json;

use super::Verifier;
use crate::harness::{
    client::Tokens,
    test_cluster::{Node, TestCluster},
    wait,
};

/// The lifetime of access tokens, short so that a test observes the end of a key.
const TTL: Duration = Duration::from_secs(6);
/// The time for which a new key is published before it signs.
const PUBLISH_BEFORE: Duration = Duration::from_secs(3);
/// The tolerance of comparisons: tokens have times in whole seconds.
const SECOND: Duration = Duration::from_secs(1);

/// An access token, and the times before and after its issue.
struct Token {
    text: String,
    issued_from: Timestamp,
    issued_until: Timestamp,
}

impl Token {
    fn is_surely_valid_at(&self, time: Timestamp) -> bool {
        time + SECOND < self.issued_from + TTL
    }

    fn has_surely_expired_at(&self, time: Timestamp) -> bool {
        time > self.issued_until + TTL + SECOND
    }
}

/// Starts five verifiers. Three libraries have a key cache, which they refresh when a kid is unknown: here at most once a second, by
/// default at most every 30 seconds. (By default, Latchkey publishes keys for 10 minutes before they sign.) Authlib has no key cache,
/// and oauth4webapi runs without its cache, which would keep keys for at least a minute.
fn verifiers(issuer: &str) -> Vec<Verifier> {
    let settings = json!({
        "issuer": issuer,
        "audience": "latchkey",
        "jose": { "cooldownDuration": 1000 },
        "express": { "cooldownDuration": 1000, "clockTolerance": 0 },
        "pyjwt": { "cooldown_duration": 1 },
        "oauth4webapi": { "keepKeys": false, "clockTolerance": 0 },
    });
    let programs =
        ["verify_jose.mjs", "verify_express.mjs", "verify_oauth4webapi.mjs", "verify_pyjwt.py", "verify_authlib.py"];
    programs.map(|program| Verifier::start(program, &settings)).into()
}

/// A node with a signed-in account, and the verifiers.
struct Fixture {
    cluster: TestCluster,
    node: Node,
    account: String,
    tokens: Tokens,
    verifiers: Vec<Verifier>,
}

impl Fixture {
    async fn new() -> Self {
        let mut cluster = TestCluster::new();
        cluster.clock = Clock::System; // the clock of the libraries
        cluster.config.token.access_ttl = TTL;
        cluster.config.token.leeway = Duration::ZERO;
        cluster.config.keys.publish_before = PUBLISH_BEFORE;
        let node = cluster.node_at_issuer().await;
        let account = node.register("ada").await.text_of("id");
        let tokens = node.login("ada").await;
        let mut verifiers = verifiers(&cluster.config.issuer);
        // Whatever its result, the first verification makes a program fetch the keys.
        for verifier in &mut verifiers {
            drop(verifier.verify(&tokens.access).await);
        }
        Self { cluster, node, account, tokens, verifiers }
    }

    /// Refreshes the session, and returns its new access token.
    async fn new_token(&mut self) -> Token {
        let issued_from = self.cluster.clock.now();
        self.tokens = Tokens::of(&self.node.refresh(&self.tokens.refresh).await.expect(200));
        let issued_until = self.cluster.clock.now();
        Token { text: self.tokens.access.clone(), issued_from, issued_until }
    }

    /// Verifies a token with every library and with Latchkey, and asserts that the results fit the token's lifetime. Returns whether all
    /// libraries and Latchkey refuse the token.
    async fn verify_everywhere(&mut self, token: &Token) -> bool {
        let mut all_refuse = true;
        for verifier in &mut self.verifiers {
            let started = self.cluster.clock.now();
            let answer = verifier.verify(&token.text).await;
            let finished = self.cluster.clock.now();
            if token.is_surely_valid_at(finished) {
                assert_eq!(answer.as_ref(), Ok(&self.account), "{} refuses a valid token", verifier.name);
            }
            if token.has_surely_expired_at(started) {
                assert!(answer.is_err(), "{} accepts an expired token", verifier.name);
            }
            all_refuse &= answer.is_err();
        }
        let started = self.cluster.clock.now();
        let answer = self.node.get("/v1/verify", &token.text).await;
        let finished = self.cluster.clock.now();
        if token.is_surely_valid_at(finished) {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        if token.has_surely_expired_at(started) {
            assert_eq!(answer.status, 401, "{answer:?}");
        }
        all_refuse && answer.status == 401
    }

    /// The ids of the keys that the node publishes.
    async fn published_kids(&self) -> Vec<String> {
        let body = self.node.get_anonymously("/.well-known/jwks.json").await.json();
        body["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    /// Rotates the signing key. Returns the id of the new key.
    async fn rotate(&self, start: SigningStart) -> String {
        let app = &self.node.state;
        let created = keys::rotate(&app.config, &app.clock, &app.entropy, &app.sql, start).await.unwrap();
        app.keys.reload().await.unwrap();
        created.kid
    }
}

fn kid(token: &str) -> String {
    decode_header(token).unwrap().kid.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn key_rotation_refuses_no_valid_token() {
    let mut fixture = Fixture::new().await;
    // the second rotation replaces a key that a rotation has made, not the first key of the node
    for _ in 0..2 {
        let old_kid = kid(&fixture.tokens.access);
        let new_kid = fixture.rotate(SigningStart::AfterPublication).await;
        // the last token that each key signed
        let mut last_tokens: BTreeMap<String, Token> = BTreeMap::new();
        // Until the old key is gone, all verifiers must accept each new token, and the old key's last token while this token is valid.
        loop {
            // By itself, the node would reload its keys later, and the test would take longer.
            fixture.node.state.keys.reload().await.unwrap();
            let token = fixture.new_token().await;
            fixture.verify_everywhere(&token).await;
            last_tokens.insert(kid(&token.text), token);
            if let Some(token) = last_tokens.get(&old_kid) {
                let refused_by_all = fixture.verify_everywhere(token).await;
                if refused_by_all && !fixture.published_kids().await.contains(&old_kid) {
                    break;
                }
            }
        }
        assert_eq!(last_tokens.len(), 2, "{:?}", last_tokens.keys());
        assert!(last_tokens.contains_key(&old_kid), "{:?}", last_tokens.keys());
        assert!(last_tokens.contains_key(&new_kid), "{:?}", last_tokens.keys());
        assert_eq!(fixture.published_kids().await, [new_kid]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retired_key_is_refused_by_latchkey_at_once_and_by_libraries_after_its_last_token_expires() {
    let mut fixture = Fixture::new().await;
    let stolen = fixture.new_token().await;
    let stolen_kid = kid(&stolen.text);
    let new_kid = fixture.rotate(SigningStart::Now).await;
    let app = &fixture.node.state;
    keys::retire(&app.clock, &app.sql, &app.redis.revocation_log, &stolen_kid).await.unwrap();
    app.keys.reload().await.unwrap();
    assert_eq!(fixture.node.get("/v1/verify", &stolen.text).await.problem(), (401, "invalid_token".to_owned()));
    assert_eq!(fixture.published_kids().await, [new_kid]);
    let token = fixture.new_token().await;
    fixture.node.get("/v1/verify", &token.text).await.expect(200);
    for mut verifier in fixture.verifiers {
        if verifier.name == "verify_authlib.py" {
            assert!(verifier.verify(&stolen.text).await.is_err(), "this library has no key cache");
        }
        // Libraries with a key cache trust the stolen key until its last token has expired. The mutex lets each call of the
        // closure borrow the verifier mutably.
        let verifier = tokio::sync::Mutex::new(&mut verifier);
        wait::until("the stolen key is refused", || async {
            verifier.lock().await.verify(&stolen.text).await.is_err()
        })
        .await;
        // Each library has fetched the new key, or does so now.
        let verifier = verifier.into_inner();
        fixture.tokens = Tokens::of(&fixture.node.refresh(&fixture.tokens.refresh).await.expect(200));
        assert_eq!(verifier.verify(&fixture.tokens.access).await, Ok(fixture.account.clone()), "{}", verifier.name);
    }
}
