//! A verifier whose feed and clocks a test drives, and the cases that the verifiers in all languages share.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use latchkey::{crypto::signing_key::SigningKey, domain::key::Algorithm};
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::EndCause;
use crate::{
    Claims, OnFeedLost, Verifier,
    cache::Cache,
    feed::{Feed, Settings, tests::TestClock},
    http::Http,
    jwk,
    key_store::KeyStore,
    session_end::registry::Registry,
    token::Rules,
    verifier::{RevocationCheck, Shared},
};

const ISSUER: &str = "https://auth.example.com";

/// The time of events: within the second of [`Cases::now`].
pub(super) const EVENT_TIME: &str = "2026-11-23T04:08:30.325Z";

/// A verifier whose feed is live and whose clocks a test moves.
pub(super) struct Fixture {
    pub(super) verifier: Verifier,
    /// The issuer's key.
    pub(super) signing_key: SigningKey,
    pub(super) clock: TestClock,
    pub(super) cases: Cases,
}

/// The cases in `tests/fixtures/verifier_session_cases.json`, whose member `about` describes them.
#[derive(Deserialize)]
pub(super) struct Cases {
    /// The current time, in seconds since the Unix epoch.
    pub(super) now: i64,
    /// The claims of a token. The `token` of a case changes them: `null` removes a claim.
    pub(super) token: Map<String, Value>,
    pub(super) claims: Vec<ClaimsCase>,
    pub(super) ends: Vec<EndCase>,
    pub(super) guards: Vec<GuardCase>,
}

/// A token that is verified after events of the feed.
#[derive(Deserialize)]
pub(super) struct ClaimsCase {
    pub(super) name: String,
    /// The changes to [`Cases::token`].
    #[serde(default)]
    pub(super) token: Map<String, Value>,
    /// The name and the data of each event.
    pub(super) events: Vec<(String, Value)>,
    /// The code with which the token is refused; `None` if it is accepted.
    pub(super) reason: Option<String>,
}

/// A session that is registered after the events `before`. Then come the steps `after`: events, or actions such as `renew`.
#[derive(Deserialize)]
pub(super) struct EndCase {
    pub(super) name: String,
    #[serde(default)]
    pub(super) token: Map<String, Value>,
    #[serde(default)]
    pub(super) before: Vec<(String, Value)>,
    pub(super) after: Vec<(String, Value)>,
    /// The cause that the callback receives; `None` if it is not called.
    pub(super) cause: Option<String>,
}

/// A token at a guard that requires an `acr` or a recent authentication.
#[derive(Deserialize)]
pub(super) struct GuardCase {
    pub(super) name: String,
    #[serde(default)]
    pub(super) token: Map<String, Value>,
    pub(super) acr: Option<Vec<String>>,
    pub(super) max_age: Option<u64>,
    /// `WWW-Authenticate` of the 401; `None` if the request passes.
    pub(super) challenge: Option<String>,
}

/// The causes that a callback received.
#[derive(Clone, Default)]
pub(super) struct Causes(Arc<Mutex<Vec<EndCause>>>);

impl Causes {
    /// A callback that records its cause.
    pub(super) fn recorder(&self) -> impl FnOnce(EndCause) + Send + use<> {
        let causes = Arc::clone(&self.0);
        move |cause| causes.lock().unwrap().push(cause)
    }

    pub(super) fn all(&self) -> Vec<EndCause> {
        self.0.lock().unwrap().clone()
    }
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with_revocation_check(true)
    }

    /// A verifier that follows no feed and checks no revocations.
    pub(super) fn without_revocation_check() -> Self {
        Self::with_revocation_check(false)
    }

    fn with_revocation_check(enabled: bool) -> Self {
        let cases: Cases =
            serde_json::from_str(include_str!("../../../../../tests/fixtures/verifier_session_cases.json")).unwrap();
        let clock = TestClock::default();
        clock.unix.store(cases.now * 1000, Ordering::SeqCst);
        // the durations that the cases assume
        let leeway_ms = 5000;
        let max_staleness = Duration::from_secs(5);
        let end_after_silence = Duration::from_secs(5);
        let registry = Arc::new(Registry::new(leeway_ms, end_after_silence));
        // never requested: the tests pass the keys and the events to the verifier
        let url: reqwest::Url = format!("{ISSUER}/x").parse().unwrap();
        let (plain_http, request_timeout, miss_interval) = (false, Duration::from_secs(5), Duration::from_secs(1));
        let settings = Settings {
            url: url.clone(),
            client_id: "verifier".to_owned(),
            authorization: HeaderValue::from_static("Basic x"),
            max_staleness,
            leeway: leeway_ms,
            max_revocations: 1000,
        };
        let check = RevocationCheck {
            feed: Feed::new(settings, Arc::clone(&registry), &clock),
            on_lost: OnFeedLost::Refuse,
            introspection: None,
            authorization: HeaderValue::from_static("Basic x"),
        };
        let shared = Shared {
            rules: Rules {
                issuer: ISSUER.to_owned(),
                audiences: vec!["shop".to_owned()],
                leeway: leeway_ms,
                allow_service_clients: true,
            },
            clock: Arc::new(clock.clone()),
            http: Http::new(plain_http, request_timeout, &[]).unwrap(),
            keys: KeyStore::new(url, miss_interval),
            cache: Cache::new(1000),
            revocation_check: enabled.then_some(check),
            registry,
        };
        let signing_key = SigningKey::generate(Algorithm::Es256).unwrap();
        let fixture = Self { verifier: Verifier::without_tasks(shared), signing_key, clock, cases };
        fixture.publish(&[&fixture.signing_key]);
        fixture.heartbeat();
        fixture
    }

    /// Replaces the issuer's keys.
    pub(super) fn publish(&self, keys: &[&SigningKey]) {
        let jwks: Vec<_> = keys.iter().map(|key| key.public_jwk()).collect();
        let jwk_set = format!(r#"{{"keys":[{}]}}"#, jwks.join(","));
        self.verifier.shared().keys.replace(jwk::parse_jwk_set(jwk_set.as_bytes()).unwrap());
    }

    /// Receives a new stream: a snapshot, `live`, and then the events. Earlier revocations stay in memory.
    pub(super) fn receive(&self, events: &[(String, Value)]) {
        let event = |name: &str, data: &Value| format!("event: {name}\nid: 7\ndata: {data}\n\n");
        // 310 s: longer than a token is valid
        let mut stream = event("snapshot", &json!({ "retain_seconds": 310 })) + &event("live", &json!({}));
        for (name, data) in events {
            stream += &event(name, data);
        }
        let shared = self.verifier.shared();
        if let Some(check) = &shared.revocation_check {
            let is_valid = check.feed.receive(stream.as_bytes(), &shared.keys, &self.clock);
            assert!(is_valid, "the feed refused {stream}");
        }
    }

    /// Receives a new stream without events, which shows that the feed is live.
    pub(super) fn heartbeat(&self) {
        self.receive(&[]);
    }

    /// Receives a new stream with one event.
    pub(super) fn receive_one(&self, name: &str, data: Value) {
        self.receive(&[(name.to_owned(), data)]);
    }

    pub(super) fn revoke(&self, session: &str) {
        self.receive_one("revocation", json!({ "kind": "session", "session_id": session, "at": EVENT_TIME }));
    }

    /// Ends the registrations that are due, which the verifier's timer does in production.
    pub(super) fn sweep(&self) {
        self.verifier.shared().sweep();
    }

    /// A token with the claims of [`Cases::token`] and these changes. `null` removes a claim.
    pub(super) fn token(&self, changes: &Value) -> String {
        self.token_signed_by(&self.signing_key, changes)
    }

    pub(super) fn token_signed_by(&self, key: &SigningKey, changes: &Value) -> String {
        let mut claims = self.cases.token.clone();
        for (name, value) in [("iss", ISSUER), ("aud", "shop"), ("jti", "x"), ("scope", "account")] {
            claims.insert(name.to_owned(), json!(value));
        }
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => claims.remove(name),
                value => claims.insert(name.clone(), value.clone()),
            };
        }
        let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": key.kid() }).to_string();
        let payload = json!(claims).to_string();
        let message = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(payload));
        let signature = key.sign(message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// The claims of [`Self::token`] with these changes, verified.
    pub(super) fn claims(&self, changes: &Value) -> Arc<Claims> {
        self.verifier.verify_locally(&self.token(changes)).unwrap()
    }

    pub(super) fn registrations(&self) -> usize {
        self.verifier.status().registrations
    }

    /// The number of entries of all indexes of the registry.
    pub(super) fn registry_entries(&self) -> usize {
        let (entries, _capacity) = self.verifier.shared().registry.footprint();
        entries
    }
}
