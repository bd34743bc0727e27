//! The cases that the verifiers in all languages share (tests/fixtures/verifier_cases.json).

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response};
use latchkey_verify::{
    Claims, OnFeedLost, Verifier,
    poem::{Caller, Verify},
    tower::VerifyLayer,
};
use poem::{EndpointExt, Route, get, handler, test::TestClient};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    fixture::Fixture,
    forged::{claims_of, header_of, signed},
    harness::fault_proxy::Mode,
};

#[derive(Deserialize)]
struct Cases {
    /// Tokens that the verifier accepts.
    valid: Vec<TokenCase>,
    /// Tokens that the verifier refuses, each with its reason.
    tokens: Vec<TokenCase>,
    requests: Vec<RequestCase>,
}

/// The changes that make a token from a user's genuine token.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenCase {
    name: String,
    /// A complete token, used as it is: without the changes of the other fields.
    token: Option<String>,
    /// Members to set in the header.
    header: Map<String, Value>,
    /// Claims to set. `__6000__` in a value stands for 6000 letters.
    claims: Map<String, Value>,
    /// Claims to set to times, in seconds from the genuine token's `iat`.
    times: Map<String, Value>,
    /// Members to remove from the header.
    remove_header: Vec<String>,
    /// Claims to remove.
    remove: Vec<String>,
    /// A text to sign in place of the claims.
    payload: Option<String>,
    /// The JSON text of a member to insert at the start of the header, even if the header has a member of this name.
    header_member: Option<String>,
    /// As `header_member`, for the payload.
    payload_member: Option<String>,
    /// A text in place of the signature.
    signature: Option<String>,
    /// A text to append to the token.
    suffix: String,
    /// The reason for which the verifier refuses the token. Empty if the token is valid.
    reason: String,
}

/// A request to an app behind the middleware, and the expected response.
#[derive(Deserialize)]
struct RequestCase {
    name: String,
    /// Selects what the middleware requires. The cases with the path `/lost` run after the feed is lost.
    #[serde(default = "root_path")]
    path: String,
    /// The values of `Authorization`. `{NAME}` stands for a token of [`User::tokens`].
    authorization: Vec<String>,
    #[serde(flatten)]
    expected: ResponseHead,
}

/// The parts of a response that the cases check.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct ResponseHead {
    status: u16,
    www_authenticate: Option<String>,
    retry_after: Option<String>,
}

fn root_path() -> String {
    "/".to_owned()
}

fn cases() -> Cases {
    serde_json::from_str(include_str!("../../../../tests/fixtures/verifier_cases.json")).unwrap()
}

/// A fixture with a user and the parts of the user's token.
struct User {
    fixture: Fixture,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl User {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        fixture.node.register("ada").await;
        let token = fixture.node.login("ada").await.access;
        let header = header_of(&token).as_object().unwrap().clone();
        let claims = claims_of(&token).as_object().unwrap().clone();
        Self { fixture, header, claims }
    }

    fn issued_at(&self) -> i64 {
        self.claims["iat"].as_i64().unwrap()
    }

    /// The user's token with the changes of a case.
    fn token(&self, case: &TokenCase) -> String {
        if let Some(token) = &case.token {
            return token.clone();
        }
        let mut header = self.header.clone();
        header.extend(case.header.clone());
        for name in &case.remove_header {
            header.remove(name);
        }
        let mut claims = self.claims.clone();
        claims.extend(case.claims.clone());
        for (name, offset) in &case.times {
            claims.insert(name.clone(), json!(self.issued_at() + offset.as_i64().unwrap()));
        }
        for name in &case.remove {
            claims.remove(name);
        }
        let payload = json!(claims).to_string().replace("__6000__", &"x".repeat(6000));
        // inserts the member after the opening brace: a `Map` can't hold a duplicate
        let with_member = |text: String, member: &Option<String>| match member {
            Some(member) => text.replacen('{', &format!("{{{member},"), 1),
            None => text,
        };
        let header = with_member(json!(header).to_string(), &case.header_member);
        let payload = with_member(case.payload.clone().unwrap_or(payload), &case.payload_member);
        let mut token = signed(&self.fixture.node, &header, &payload);
        if let Some(signature) = &case.signature {
            let signed_part = token.rsplit_once('.').unwrap().0;
            token = format!("{signed_part}.{signature}");
        }
        token + &case.suffix
    }

    /// The tokens that the request cases name.
    fn tokens(&self) -> [(&'static str, String); 4] {
        let changed = |claims: Value, removed: &[&str]| TokenCase {
            claims: claims.as_object().unwrap().clone(),
            remove: removed.iter().map(|&name| name.to_owned()).collect(),
            ..TokenCase::default()
        };
        [
            ("user", changed(json!({}), &[])),
            ("admin", changed(json!({ "roles": ["admin"], "scope": "account orders:read orders:write" }), &[])),
            // a service client's own token
            ("client", changed(json!({ "sub": "robot", "client_id": "robot" }), &["sid", "auth_time"])),
            // expired for longer than the leeway of 5 s
            ("expired", changed(json!({ "exp": self.issued_at() - 60 }), &[])),
        ]
        .map(|(name, case)| (name, self.token(&case)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_cases_valid_token_is_accepted() {
    let user = User::new().await;
    let verifier = user.fixture.verifier().await;
    for case in cases().valid {
        let outcome = verifier.verify(&user.token(&case)).await;
        assert!(outcome.is_ok(), "{}: {outcome:?}", case.name);
    }
    drop(verifier);
    user.fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_cases_invalid_token_is_refused_with_its_reason() {
    let user = User::new().await;
    let verifier = user.fixture.verifier().await;
    for case in cases().tokens {
        let error = verifier.verify(&user.token(&case)).await.err();
        assert_eq!(error.map(|error| error.reason()), Some(case.reason.as_str()), "{}", case.name);
    }
    drop(verifier);
    user.fixture.stop().await;
}

/// The scopes that the path `/scope` requires.
const REQUIRED_SCOPES: [&str; 2] = ["orders:read", "orders:write"];

/// Sends a request to a tower service behind the layer for the path.
async fn call_tower(verifier: &Verifier, path: &str, authorization: &[String]) -> ResponseHead {
    let layer = VerifyLayer::new(verifier.clone());
    let layer = match path {
        "/clients" => layer.allow_clients(),
        "/role" => layer.require_role(["admin"]),
        "/scope" => layer.require_scope(REQUIRED_SCOPES),
        _ => layer,
    };
    let service = layer.layer(service_fn(async |request: Request<String>| {
        assert!(request.extensions().get::<Arc<Claims>>().is_some(), "the layer has not passed on the claims");
        Ok::<_, Infallible>(Response::new(String::new()))
    }));
    let mut request = Request::builder();
    for value in authorization {
        request = request.header("authorization", value);
    }
    let response = service.oneshot(request.body(String::new()).unwrap()).await.unwrap();
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    ResponseHead {
        status: response.status().as_u16(),
        www_authenticate: header("www-authenticate"),
        retry_after: header("retry-after"),
    }
}

#[handler]
fn hello(caller: Caller) -> String {
    caller.sub.clone()
}

/// Sends a request to a poem app behind the middleware for the path, and checks the body of a refusal.
async fn call_poem(verifier: &Verifier, path: &str, authorization: &[String]) -> ResponseHead {
    let verify = Verify::new(verifier.clone());
    let routes = Route::new()
        .at("/", get(hello).with(verify.clone()))
        .at("/lost", get(hello).with(verify.clone()))
        .at("/clients", get(hello).with(verify.clone().allow_clients()))
        .at("/role", get(hello).with(verify.clone().require_role(["admin"])))
        .at("/scope", get(hello).with(verify.require_scope(REQUIRED_SCOPES)));
    let client = TestClient::new(routes);
    let mut request = client.get(path);
    for value in authorization {
        request = request.header("authorization", value);
    }
    let response = request.send().await.0;
    let header = |name: &str| response.header(name).map(str::to_owned);
    let head = ResponseHead {
        status: response.status().as_u16(),
        www_authenticate: header("www-authenticate"),
        retry_after: header("retry-after"),
    };
    if head.status != 200 {
        assert_eq!(header("content-type").as_deref(), Some("application/problem+json"));
        let problem: Value = response.into_body().into_json().await.unwrap();
        assert_eq!(problem["status"], head.status);
        assert_eq!(problem["type"], format!("urn:latchkey:problem:{}", problem["code"].as_str().unwrap()));
    }
    head
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_cases_requests_get_their_status_and_challenge() {
    let user = User::new().await;
    let tokens = user.tokens();
    let verifier = user.fixture.verifier_with(|builder| builder.on_feed_lost(OnFeedLost::Refuse)).await;
    let (feed_lost, feed_live): (Vec<_>, Vec<_>) = cases().requests.into_iter().partition(|case| case.path == "/lost");
    for case in feed_live {
        assert_responses(&verifier, &case, &tokens).await;
    }
    // The feed stays silent from here on, for longer than the default of `max_staleness`, 5 s.
    user.fixture.proxy.set(Mode::Frozen);
    user.fixture.clock.advance(Duration::from_secs(6));
    for case in feed_lost {
        assert_responses(&verifier, &case, &tokens).await;
    }
    drop(verifier);
    user.fixture.stop().await;
}

/// Checks the responses of both kinds of app to the request of a case.
async fn assert_responses(verifier: &Verifier, case: &RequestCase, tokens: &[(&str, String)]) {
    let authorization: Vec<_> = case.authorization.iter().map(|value| insert_tokens(value, tokens)).collect();
    let tower = call_tower(verifier, &case.path, &authorization).await;
    assert_eq!(tower, case.expected, "tower: {}", case.name);
    let poem = call_poem(verifier, &case.path, &authorization).await;
    assert_eq!(poem, case.expected, "poem: {}", case.name);
}

/// Replaces the names of tokens in braces with the tokens.
fn insert_tokens(value: &str, tokens: &[(&str, String)]) -> String {
    let mut filled = value.to_owned();
    for (name, token) in tokens {
        filled = filled.replace(&format!("{{{name}}}"), token);
    }
    filled
}
