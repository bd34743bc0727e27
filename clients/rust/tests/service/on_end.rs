//! Open connections and jobs end with their session, with the feed of a running service.

use std::{
    convert::Infallible,
    future::ready,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::{BodyExt, combinators::BoxBody};
use latchkey::{domain::account::Roles, service::accounts};
use latchkey_verify::{
    EndCause, OnFeedLost, VerifiedSession, Verifier, VerifyError,
    poem::Verify,
    tower::{SessionBody, SessionEnded, VerifyLayer},
};
use poem::{EndpointExt, endpoint::make_sync, test::TestClient};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::Bytes;
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    fixture::Fixture,
    harness::{client::Tokens, fault_proxy::Mode},
};

async fn add_role(fixture: &Fixture, role: &str) {
    let state = &fixture.node.state;
    let account = accounts::find(&state.sql, "ada").await.unwrap().id;
    let roles = |names: &[&str]| Roles::parse(names).unwrap();
    accounts::change_roles(state, account, &roles(&[role]), &roles(&[])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_out_and_disabled_account_end_registered_sessions_with_their_cause() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let sessions = [fixture.node.login("ada").await, fixture.node.login("ada").await];
    let verifier = fixture.verifier().await;
    let mut watches = Vec::new();
    for tokens in &sessions {
        let claims = verifier.verify(&tokens.access).await.unwrap();
        watches.push(verifier.watch(&claims));
    }
    fixture.node.logout(&sessions[0].refresh).await.expect(204);
    assert_eq!(watches[0].ended().await, EndCause::SessionRevoked);
    assert_eq!(watches[1].cause(), None);
    let account = accounts::find(&fixture.node.state.sql, "ada").await.unwrap().id;
    accounts::disable(&fixture.node.state, account).await.unwrap();
    // The feed reports the end of each session, and then that of the account. Either may end the registration.
    assert!(matches!(watches[1].ended().await, EndCause::SessionRevoked | EndCause::AccountRevoked));
    assert_eq!(verifier.status().registrations, 0);
    drop((watches, verifier));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i16_changed_role_ends_registered_sessions_and_refuses_older_tokens() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let verifier = fixture.verifier().await;
    let claims = verifier.verify(&tokens.access).await.unwrap();
    // verifiers tell older tokens from newer ones by these two claims
    assert!(claims.session_start.unwrap() <= claims.iat);
    assert!(claims.claims_version.is_some());
    let mut watch = verifier.watch(&claims);
    add_role(&fixture, "editor").await;
    assert_eq!(watch.ended().await, EndCause::ClaimsChanged);
    assert_eq!(verifier.verify(&tokens.access).await, Err(VerifyError::ClaimsChanged));
    // a verifier that starts later finds the change in the snapshot
    let late = fixture.verifier().await;
    assert_eq!(late.verify(&tokens.access).await, Err(VerifyError::ClaimsChanged));
    // the client refreshes once, and registers again
    let refreshed = Tokens::of(&fixture.node.refresh(&tokens.refresh).await.expect(200));
    let claims = verifier.verify(&refreshed.access).await.unwrap();
    assert!(claims.has_role("editor"));
    assert_eq!(verifier.watch(&claims).cause(), None);
    drop((watch, verifier, late));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshed_token_keeps_a_registered_session_alive() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let (active, idle) = (fixture.node.login("ada").await, fixture.node.login("ada").await);
    let verifier = fixture.verifier().await;
    let watch = async |tokens: &Tokens| verifier.watch(&verifier.verify(&tokens.access).await.unwrap());
    let (mut active_watch, mut idle_watch) = (watch(&active).await, watch(&idle).await);
    // Advances the wall clock, by which tokens expire: access tokens are valid for 300 s, and the leeway is 5 s. The monotonic clock
    // stands still, so no registration is old enough to end with a lost feed.
    fixture.cluster.advance(Duration::from_secs(200));
    let refreshed = Tokens::of(&fixture.node.refresh(&active.refresh).await.expect(200));
    // Any request of the session shows the newer token to the verifier.
    verifier.verify(&refreshed.access).await.unwrap();
    // After 400 s the first tokens have expired, and the token of the refresh has not.
    fixture.cluster.advance(Duration::from_secs(200));
    assert_eq!(idle_watch.ended().await, EndCause::TokenExpired);
    assert_eq!(active_watch.cause(), None);
    fixture.cluster.advance(Duration::from_secs(200));
    assert_eq!(active_watch.ended().await, EndCause::TokenExpired);
    drop((active_watch, idle_watch, verifier));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_feed_ends_registered_sessions() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let strict = fixture.verifier().await;
    let patient = fixture
        .verifier_with(|builder| builder.on_feed_lost(OnFeedLost::Refuse).end_after_silence(Duration::from_secs(60)))
        .await;
    let watch = async |verifier: &Verifier| verifier.watch(&verifier.verify(&tokens.access).await.unwrap());
    let (mut strict_watch, patient_watch) = (watch(&strict).await, watch(&patient).await);
    fixture.proxy.set(Mode::Frozen);
    // The monotonic clock measures silence. `max_staleness` and `end_after_silence` are 5 s by default.
    fixture.clock.advance(Duration::from_secs(6));
    assert_eq!(strict_watch.ended().await, EndCause::FeedLost);
    // A heartbeat that was already on its way may have arrived after the clock moved, so the clock moves once more.
    fixture.clock.advance(Duration::from_secs(6));
    assert!(patient.verify(&tokens.access).await.unwrap_err().is_unavailable());
    assert_eq!(patient_watch.cause(), None);
    drop((strict_watch, patient_watch, strict, patient));
    fixture.stop().await;
}

type Streamed = BoxBody<Bytes, io::Error>;

/// A pipe with room for all that a test writes. A body that reads from it is not complete while the writer is open.
fn pipe() -> (DuplexStream, DuplexStream) {
    duplex(64)
}

/// A body of unknown length. Handlers may be called more than once, so they share the reader, and the first call takes it.
fn streamed(reader: &Arc<Mutex<Option<DuplexStream>>>) -> poem::Body {
    poem::Body::from_async_read(reader.lock().unwrap().take().unwrap())
}

/// Sends a request through the tower layer, and returns the body of the response.
async fn tower_body(
    verifier: &Verifier,
    access: &str,
    content_type: &'static str,
    reader: DuplexStream,
) -> SessionBody<Streamed> {
    let reader = Arc::new(Mutex::new(Some(reader)));
    let service = VerifyLayer::new(verifier.clone()).layer(service_fn(move |request: Request<String>| {
        assert!(request.extensions().get::<VerifiedSession>().is_some());
        let response = Response::builder().header("content-type", content_type);
        ready(Ok::<_, Infallible>(response.body(Streamed::from(streamed(&reader))).unwrap()))
    }));
    let request = Request::builder().header("authorization", format!("Bearer {access}"));
    service.oneshot(request.body(String::new()).unwrap()).await.unwrap().into_body()
}

/// Sends a request through the poem middleware, and returns the body of the response.
async fn poem_body(verifier: &Verifier, access: &str, content_type: &'static str, reader: DuplexStream) -> Streamed {
    let reader = Arc::new(Mutex::new(Some(reader)));
    let endpoint = make_sync(move |_| poem::Response::builder().content_type(content_type).body(streamed(&reader)));
    let app = TestClient::new(endpoint.with(Verify::new(verifier.clone())));
    let response = app.get("/").header("authorization", format!("Bearer {access}")).send().await;
    response.assert_status_is_ok();
    response.0.into_body().into()
}

/// Reads the frame `part` of the body, ends the session, and returns the error with which the body ends, if it ends with one.
async fn sign_out_and_read_error<B>(
    fixture: &Fixture,
    verifier: &Verifier,
    refresh: &str,
    mut body: B,
) -> Option<B::Error>
where
    B: BodyExt<Data = Bytes, Error: std::fmt::Debug> + Unpin,
{
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "part");
    assert_eq!(verifier.status().registrations, 1);
    fixture.node.logout(refresh).await.expect(204);
    let end = body.frame().await;
    assert!(body.frame().await.is_none());
    assert_eq!(verifier.status().registrations, 0);
    end.map(|end| end.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn body_of_unknown_length_ends_with_its_session() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let verifier = fixture.verifier().await;
    let cut_off = SessionEnded(EndCause::SessionRevoked).to_string();
    // An event stream ends normally, since its client reconnects. Any other body ends with an error, so that its client does not
    // take the part for the whole.
    for (content_type, expected) in [("text/event-stream", None), ("application/octet-stream", Some(cut_off))] {
        let (mut writer, reader) = pipe();
        writer.write_all(b"part").await.unwrap();
        let tokens = fixture.node.login("ada").await;
        let body = tower_body(&verifier, &tokens.access, content_type, reader).await;
        let error = sign_out_and_read_error(&fixture, &verifier, &tokens.refresh, body).await;
        assert_eq!(error.map(|error| error.to_string()), expected, "tower: {content_type}");

        let (mut writer, reader) = pipe();
        writer.write_all(b"part").await.unwrap();
        let tokens = fixture.node.login("ada").await;
        let body = poem_body(&verifier, &tokens.access, content_type, reader).await;
        let error = sign_out_and_read_error(&fixture, &verifier, &tokens.refresh, body).await;
        assert_eq!(error.map(|error| error.to_string()), expected, "poem: {content_type}");
    }
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn complete_body_and_body_of_known_length_leave_no_registration() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let verifier = fixture.verifier().await;
    // the body is complete
    let (mut writer, reader) = pipe();
    writer.write_all(b"whole").await.unwrap();
    drop(writer);
    let body = tower_body(&verifier, &tokens.access, "text/plain", reader).await;
    assert_eq!(verifier.status().registrations, 1);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "whole");
    assert_eq!(verifier.status().registrations, 0);
    // the length is known: the body ends by itself, so it needs no registration
    let app = TestClient::new(make_sync(|_| "known").with(Verify::new(verifier.clone())));
    let known = app.get("/").header("authorization", format!("Bearer {}", tokens.access)).send().await;
    assert_eq!(verifier.status().registrations, 0);
    known.assert_text("known").await;
    // the client disconnects
    let (_writer, reader) = pipe();
    let body = poem_body(&verifier, &tokens.access, "text/plain", reader).await;
    assert_eq!(verifier.status().registrations, 1);
    drop(body);
    assert_eq!(verifier.status().registrations, 0);
    drop((verifier, app));
    fixture.stop().await;
}
