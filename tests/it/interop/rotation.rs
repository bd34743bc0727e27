//! Signing keys come and go while services verify: nothing valid is refused, and nothing is accepted after its time.

use std::{collections::BTreeMap, time::Duration};

use jsonwebtoken::decode_header;
use latchkey::{
    crypto::key_rotation::Start,
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

/// How long access tokens are valid: short, as is all that follows, so that a test sees the end of a key.
const TTL: Duration = Duration::from_secs(6);
/// How long a new key is published before it signs.
const PUBLISHED: Duration = Duration::from_secs(3);
/// Whose clock says what second it is may differ by one.
const SECOND: Duration = Duration::from_secs(1);

struct Token {
    text: String,
    issued_from: Timestamp,
    issued_until: Timestamp,
}

/// The libraries that keep keys, and two that keep none (oauth4webapi would keep them for a minute at least). A kid that they don't know makes those that do ask again at most
/// once a second (30 by default, where keys are published for 10 minutes by default before they sign).
fn verifiers(issuer: &str) -> Vec<Verifier> {
    let given = json!({
        "issuer": issuer,
        "audience": "latchkey",
        "jose": { "cooldownDuration": 1000 },
        "express": { "cooldownDuration": 1000, "clockTolerance": 0 },
        "pyjwt": { "cooldown_duration": 1 },
        "oauth4webapi": { "keepKeys": false, "clockTolerance": 0 },
    });
    let programs =
        ["verify_jose.mjs", "verify_express.mjs", "verify_oauth4webapi.mjs", "verify_pyjwt.py", "verify_authlib.py"];
    programs.map(|program| Verifier::start(program, &given)).into()
}

struct Scene {
    cluster: TestCluster,
    node: Node,
    account: String,
    tokens: Tokens,
    verifiers: Vec<Verifier>,
}

impl Scene {
    async fn new() -> Self {
        let mut cluster = TestCluster::new();
        cluster.clock = Clock::System;
        cluster.config.token.access_ttl = TTL;
        cluster.config.token.leeway = Duration::ZERO;
        cluster.config.keys.publish_before = PUBLISHED;
        let node = cluster.node_at_issuer().await;
        let account = node.account("ada").await.text_of("id");
        let tokens = node.login("ada").await;
        let mut verifiers = verifiers(&cluster.config.issuer);
        // they start, and fetch the keys
        for verifier in &mut verifiers {
            drop(verifier.verify(&tokens.access).await);
        }
        Self { cluster, node, account, tokens, verifiers }
    }

    async fn fresh(&mut self) -> Token {
        let issued_from = self.cluster.clock.now();
        self.tokens = Tokens::of(&self.node.refresh(&self.tokens.refresh).await.expect(200));
        Token { text: self.tokens.access.clone(), issued_from, issued_until: self.cluster.clock.now() }
    }

    /// Asks everybody about a token, and compares with what the time says. Gives whether all of them refuse it.
    async fn judge(&mut self, token: &Token) -> bool {
        let mut all_refuse = true;
        for verifier in &mut self.verifiers {
            let asked = self.cluster.clock.now();
            let answer = verifier.verify(&token.text).await;
            let answered = self.cluster.clock.now();
            if answered + SECOND < token.issued_from + TTL {
                assert_eq!(answer.as_ref(), Ok(&self.account), "{} refuses what is valid", verifier.name);
            }
            if asked > token.issued_until + TTL + SECOND {
                assert!(answer.is_err(), "{} accepts what has expired", verifier.name);
            }
            all_refuse &= answer.is_err();
        }
        let (asked, answer) = (self.cluster.clock.now(), self.node.get("/v1/verify", &token.text).await);
        if self.cluster.clock.now() + SECOND < token.issued_from + TTL {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        if asked > token.issued_until + TTL + SECOND {
            assert_eq!(answer.status, 401, "{answer:?}");
        }
        all_refuse && answer.status == 401
    }

    async fn published(&self) -> Vec<String> {
        let body = self.node.get("/.well-known/jwks.json", "").await.json();
        body["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    async fn rotate(&self, start: Start) -> String {
        let app = &self.node.state;
        let made = keys::rotate(&app.config, &app.clock, &app.entropy, &app.sql, start).await.unwrap();
        app.keys.reload().await.unwrap();
        made.kid
    }
}

fn kid(token: &str) -> String {
    decode_header(token).unwrap().kid.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_under_running_services_and_nothing_valid_is_refused() {
    let mut scene = Scene::new().await;
    for _ in 0..2 {
        let old = kid(&scene.tokens.access);
        let new = scene.rotate(Start::AfterPublication).await;
        // the last token of each key
        let mut last: BTreeMap<String, Token> = BTreeMap::new();
        loop {
            scene.node.state.keys.reload().await.unwrap();
            let token = scene.fresh().await;
            scene.judge(&token).await;
            last.insert(kid(&token.text), token);
            if let Some(token) = last.remove(&old) {
                let over = scene.judge(&token).await;
                last.insert(old.clone(), token);
                if over && !scene.published().await.contains(&old) {
                    break;
                }
            }
        }
        assert!(last.contains_key(&old) && last.contains_key(&new) && last.len() == 2, "{:?}", last.keys());
        assert_eq!(scene.published().await, [new]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_key_is_refused_here_at_once_and_elsewhere_with_its_last_token() {
    let mut scene = Scene::new().await;
    let stolen = scene.fresh().await;
    let old = kid(&stolen.text);
    let new = scene.rotate(Start::Now).await;
    let app = &scene.node.state;
    keys::retire(&app.clock, &app.sql, &app.redis.revocation_log, &old).await.unwrap();
    app.keys.reload().await.unwrap();
    assert_eq!(scene.node.get("/v1/verify", &stolen.text).await.problem(), (401, "invalid_token".to_owned()));
    assert_eq!(scene.published().await, [new]);
    let access = Tokens::of(&scene.node.refresh(&scene.tokens.refresh).await.expect(200)).access;
    scene.node.get("/v1/verify", &access).await.expect(200);
    for mut verifier in scene.verifiers {
        if verifier.name == "verify_authlib.py" {
            assert!(verifier.verify(&stolen.text).await.is_err(), "it keeps no keys");
        }
        // those that keep keys believe the stolen one until its last token has expired
        let verifier = tokio::sync::Mutex::new(&mut verifier);
        wait::until("the stolen key is refused", || async {
            verifier.lock().await.verify(&stolen.text).await.is_err()
        })
        .await;
        // by then they know the new one
        let verifier = verifier.into_inner();
        scene.tokens = Tokens::of(&scene.node.refresh(&scene.tokens.refresh).await.expect(200));
        assert_eq!(verifier.verify(&scene.tokens.access).await, Ok(scene.account.clone()), "{}", verifier.name);
    }
}
