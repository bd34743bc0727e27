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

/// A token, by the changes to a user's genuine token.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct TokenCase {
    name: String,
    /// The whole token, which needs no other field.
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
    /// The JSON text of a member to insert at the start of the header, which may be a duplicate.
    header_member: Option<String>,
    /// The JSON text of a member to insert at the start of the payload, which may be a duplicate.
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
    /// The path, which selects what the middleware requires. At `/lost` the feed is lost.
    #[serde(default)]
    path: Option<String>,
    /// The values of `Authorization`. `{NAME}` stands for a token of [`User::tokens`].
    authorization: Vec<String>,
    status: u16,
    www_authenticate: Option<String>,
    retry_after: Option<String>,
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
        let [header, claims] = [header_of(&token), claims_of(&token)].map(|part| part.as_object().unwrap().clone());
        Self { fixture, header, claims }
    }

    fn issued_at(&self) -> i64 {
        self.claims["iat"].as_i64().unwrap()
    }

    fn token(&self, case: &TokenCase) -> String {
        if let Some(token) = &case.token {
            return token.clone();
        }
        let (mut header, mut claims) = (self.header.clone(), self.claims.clone());
        header.extend(case.header.clone());
        claims.extend(case.claims.clone());
        claims.extend(
            case.times.iter().map(|(name, offset)| (name.clone(), json!(self.issued_at() + offset.as_i64().unwrap()))),
        );
        case.remove_header.iter().for_each(|name| drop(header.remove(name)));
        case.remove.iter().for_each(|name| drop(claims.remove(name)));
        let payload = json!(claims).to_string().replace("__6000__", &"x".repeat(6000));
        let with_member = |text: String, member: &Option<String>| match member {
            Some(member) => text.replacen('{', &format!("{{{member},"), 1),
            None => text,
        };
        let header = with_member(json!(header).to_string(), &case.header_member);
        let payload = with_member(case.payload.clone().unwrap_or(payload), &case.payload_member);
        let mut token = signed(&self.fixture.node, &header, &payload);
        if let Some(signature) = &case.signature {
            token = format!("{}.{signature}", token.rsplit_once('.').unwrap().0);
        }
        token + &case.suffix
    }

    /// The tokens that the request cases name.
    fn tokens(&self) -> [(&'static str, String); 4] {
        let case = |claims: Value, remove: &[&str]| TokenCase {
            claims: claims.as_object().unwrap().clone(),
            remove: remove.iter().map(|&name| name.to_owned()).collect(),
            ..TokenCase::default()
        };
        [
            ("user", case(json!({}), &[])),
            ("admin", case(json!({ "roles": ["admin"], "scope": "account orders:read orders:write" }), &[])),
            ("client", case(json!({ "sub": "robot", "client_id": "robot" }), &["sid", "auth_time"])),
            ("expired", case(json!({ "exp": self.issued_at() - 60 }), &[])),
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
        let outcome = verifier.verify(&user.token(&case)).await;
        assert_eq!(outcome.map_err(|error| error.reason()).err(), Some(case.reason.as_str()), "{}", case.name);
    }
    drop(verifier);
    user.fixture.stop().await;
}

const SCOPES: [&str; 2] = ["orders:read", "orders:write"];

/// Status, challenge and `Retry-After` of a request to a tower service behind the layer for the path.
async fn call_tower(
    verifier: &Verifier,
    path: &str,
    authorization: &[String],
) -> (u16, Option<String>, Option<String>) {
    let layer = VerifyLayer::new(verifier.clone());
    let layer = match path {
        "/clients" => layer.allow_clients(),
        "/role" => layer.require_role(["admin"]),
        "/scope" => layer.require_scope(SCOPES),
        _ => layer,
    };
    let service = layer.layer(service_fn(async |request: Request<String>| {
        assert!(request.extensions().get::<Arc<Claims>>().is_some());
        Ok::<_, Infallible>(Response::new(String::new()))
    }));
    let mut request = Request::builder();
    for value in authorization {
        request = request.header("authorization", value);
    }
    let response = service.oneshot(request.body(String::new()).unwrap()).await.unwrap();
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), header("www-authenticate"), header("retry-after"))
}

#[handler]
fn hello(caller: Caller) -> String {
    caller.sub.clone()
}

/// Status, challenge and `Retry-After` of a request to a poem app behind the middleware for the path.
async fn call_poem(verifier: &Verifier, path: &str, authorization: &[String]) -> (u16, Option<String>, Option<String>) {
    let verify = Verify::new(verifier.clone());
    let routes = Route::new()
        .at("/", get(hello).with(verify.clone()))
        .at("/lost", get(hello).with(verify.clone()))
        .at("/clients", get(hello).with(verify.clone().allow_clients()))
        .at("/role", get(hello).with(verify.clone().require_role(["admin"])))
        .at("/scope", get(hello).with(verify.require_scope(SCOPES)));
    let client = TestClient::new(routes);
    let request = authorization.iter().fold(client.get(path), |request, value| request.header("authorization", value));
    let response = request.send().await.0;
    let status = response.status().as_u16();
    let header = |name: &str| response.header(name).map(str::to_owned);
    let headers = (header("www-authenticate"), header("retry-after"));
    if status != 200 {
        assert_eq!(header("content-type").as_deref(), Some("application/problem+json"));
        let problem: Value = response.into_body().into_json().await.unwrap();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:latchkey:problem:{}", problem["code"].as_str().unwrap()));
    }
    (status, headers.0, headers.1)
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_cases_requests_get_their_status_and_challenge() {
    let user = User::new().await;
    let tokens = user.tokens();
    let verifier = user.fixture.verifier_with(|builder| builder.on_feed_lost(OnFeedLost::Refuse)).await;
    // The cases with a lost feed come last, since the feed is not restored.
    let (lost, live): (Vec<_>, Vec<_>) =
        cases().requests.into_iter().partition(|case| case.path.as_deref() == Some("/lost"));
    for case in live.iter().chain(&lost) {
        if case.path.as_deref() == Some("/lost") {
            user.fixture.proxy.set(Mode::Frozen);
            // longer than `max_staleness`, 5 s by default
            user.fixture.clock.advance(Duration::from_secs(6));
        }
        let authorization: Vec<_> = case.authorization.iter().map(|value| fill(value, &tokens)).collect();
        let path = case.path.as_deref().unwrap_or("/");
        let expected = (case.status, case.www_authenticate.clone(), case.retry_after.clone());
        assert_eq!(call_tower(&verifier, path, &authorization).await, expected, "tower: {}", case.name);
        assert_eq!(call_poem(&verifier, path, &authorization).await, expected, "poem: {}", case.name);
    }
    drop(verifier);
    user.fixture.stop().await;
}

/// Replaces the names of tokens in braces with the tokens.
fn fill(value: &str, tokens: &[(&str, String)]) -> String {
    tokens.iter().fold(value.to_owned(), |value, (name, token)| value.replace(&format!("{{{name}}}"), token))
}
