//! The middlewares of tower and poem. `shared_cases.rs` tests their other statuses and challenges.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response, request};
use http_body_util::BodyExt;
use latchkey_verify::{
    Claims, OnFeedLost,
    poem::{Caller, Verify},
    tower::VerifyLayer,
};
use poem::{EndpointExt, Route, endpoint::make_sync, get, handler, test::TestClient};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    fixture::{Fixture, wait_until_revoked},
    harness::fault_proxy::Mode,
};

/// Longer than `max_staleness` (default: 5 s): a feed that is silent for this time counts as lost.
const SILENCE: Duration = Duration::from_secs(6);

/// The challenge of a request without a bearer token.
const NO_TOKEN: &str = r#"Bearer realm="latchkey""#;
/// The challenge of a request whose bearer token is not a valid access token.
const INVALID_TOKEN: &str = r#"Bearer realm="latchkey", error="invalid_token""#;

#[tokio::test(flavor = "multi_thread")]
async fn tower_layer_passes_valid_tokens_and_refuses_others() {
    let fixture = Fixture::new().await;
    let account = fixture.node.register("ada").await.text_of("id");
    let (first, second) = (fixture.node.login("ada").await, fixture.node.login("ada").await);
    let verifier = fixture.verifier_with(|builder| builder.on_feed_lost(OnFeedLost::Refuse)).await;
    let service = VerifyLayer::new(verifier.clone()).layer(service_fn(async |request: Request<String>| {
        let claims = request.extensions().get::<Arc<Claims>>().cloned().unwrap();
        Ok::<_, Infallible>(Response::new(claims.sub.clone()))
    }));
    // Returns the response's status, challenge, Retry-After and body.
    let send = async |request: request::Builder| {
        let response = service.clone().oneshot(request.body(String::new()).unwrap()).await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (challenge, retry_after) = (header("www-authenticate"), header("retry-after"));
        let (status, body) = (response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes());
        (status, challenge, retry_after, String::from_utf8(body.to_vec()).unwrap())
    };
    let call = async |authorization: &str| send(Request::builder().header("authorization", authorization)).await;
    let refused = |challenge: &str| (401, Some(challenge.to_owned()), None, String::new());
    let unavailable = (503, None, Some("1".to_owned()), String::new());
    assert_eq!(call(&format!("Bearer {}", first.access)).await, (200, None, None, account));
    assert_eq!(send(Request::builder()).await, refused(NO_TOKEN));
    assert_eq!(call("Basic YTpi").await, refused(NO_TOKEN));
    assert_eq!(call("Bearer nonsense").await, refused(INVALID_TOKEN));
    assert_eq!(call(&format!("Bearer {}", first.refresh)).await, refused(INVALID_TOKEN));
    fixture.node.logout(&first.refresh).await.expect(204);
    wait_until_revoked(&verifier, &first.access).await;
    assert_eq!(call(&format!("Bearer {}", first.access)).await, refused(INVALID_TOKEN));
    // Without the feed, the verifier no longer knows which sessions have ended, and refuses every token.
    fixture.proxy.set(Mode::Frozen);
    fixture.clock.advance(SILENCE);
    assert_eq!(call(&format!("Bearer {}", second.access)).await, unavailable);
    drop((verifier, service));
    fixture.stop().await;
}

#[handler]
fn hello(caller: Caller) -> String {
    caller.sub.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn poem_middleware_passes_valid_tokens_and_refuses_others() {
    let fixture = Fixture::new().await;
    let account = fixture.node.register("ada").await.text_of("id");
    let (first, second) = (fixture.node.login("ada").await, fixture.node.login("ada").await);
    let verifier = fixture.verifier_with(|builder| builder.on_feed_lost(OnFeedLost::Refuse)).await;
    let routes = Route::new()
        .at("/hello", get(hello).with(Verify::new(verifier.clone())))
        // A handler with a `Caller` refuses every request if the middleware is missing.
        .at("/unprotected", get(hello))
        // A handler without a `Caller` needs no token.
        .at("/open", get(make_sync(|_| "open")));
    let app = TestClient::new(routes);
    let bearer = |token: &str| format!("Bearer {token}");
    let answer = app.get("/hello").header("authorization", bearer(&first.access)).send().await;
    answer.assert_status_is_ok();
    answer.assert_text(account).await;
    app.get("/open").send().await.assert_status_is_ok();
    for path in ["/hello", "/unprotected"] {
        let answer = app.get(path).send().await;
        answer.assert_status(poem::http::StatusCode::UNAUTHORIZED);
        answer.assert_header("www-authenticate", NO_TOKEN);
    }
    fixture.node.logout(&first.refresh).await.expect(204);
    wait_until_revoked(&verifier, &first.access).await;
    let answer = app.get("/hello").header("authorization", bearer(&first.access)).send().await;
    answer.assert_status(poem::http::StatusCode::UNAUTHORIZED);
    answer.assert_header("www-authenticate", INVALID_TOKEN);
    fixture.proxy.set(Mode::Frozen);
    fixture.clock.advance(SILENCE);
    let answer = app.get("/hello").header("authorization", bearer(&second.access)).send().await;
    answer.assert_status(poem::http::StatusCode::SERVICE_UNAVAILABLE);
    answer.assert_header("retry-after", "1");
    drop((verifier, app));
    fixture.stop().await;
}
