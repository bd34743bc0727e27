//! Tests of session ends, driven by events of a feed and a manual clock.
//!
//! The fixture's token is of [`SESSION`] and [`ACCOUNT`], is valid for 290 more seconds, and has version 3 of the claims. The
//! leeway, the maximum staleness and the silence of the feed that ends sessions are 5 seconds each. The tests `shared_cases_…`
//! run the cases that the verifiers in all languages share. A case with events gets a new fixture, because they change it.

mod fixture;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use latchkey::{crypto::signing_key::SigningKey, domain::key::Algorithm};
use reqwest::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use serde_json::{Value, json};

use self::fixture::{Causes, EVENT_TIME, Fixture};
use super::*;
use crate::{Claims, VerifyError, guard::Guard};

const SESSION: &str = "01a20697-5375-7a3f-a5d0-8181bd56c321";
const OTHER_ID: &str = "26f7a44c-4962-415a-8593-3e92483050f8";
const ACCOUNT: &str = "7d444840-9dc0-11d1-b245-5ffdce74fad2";

#[test]
fn shared_cases_tokens_are_checked_against_earlier_events() {
    let case_count = Fixture::new().cases.claims.len();
    for index in 0..case_count {
        let fixture = Fixture::new();
        let case = &fixture.cases.claims[index];
        fixture.receive(&case.events);
        let outcome = fixture.verifier.verify_locally(&fixture.token(&json!(case.token)));
        assert_eq!(outcome.err().map(|error| error.reason()), case.reason.as_deref(), "{}", case.name);
    }
}

#[tokio::test]
async fn shared_cases_sessions_end_with_their_cause() {
    let case_count = Fixture::new().cases.ends.len();
    for index in 0..case_count {
        let fixture = Fixture::new();
        let case = &fixture.cases.ends[index];
        let causes = Causes::default();
        let token_with = |changes: &Value| {
            let mut changed = case.token.clone();
            changed.extend(changes.as_object().unwrap().clone());
            fixture.token(&json!(changed))
        };
        let claims = fixture.claims(&json!(case.token));
        fixture.receive(&case.before);
        let registration = fixture.verifier.on_end(&claims, causes.recorder());
        for (step, data) in &case.after {
            match step.as_str() {
                "verify" => {
                    fixture.verifier.verify(&token_with(data)).await.unwrap();
                }
                "renew" => {
                    registration.renew(&token_with(data)).await.unwrap();
                }
                // after `silent`, no heartbeat shows that the feed is live
                "advance" | "silent" => {
                    fixture.clock.advance(data.as_i64().unwrap());
                    if step == "advance" {
                        fixture.heartbeat();
                    }
                    fixture.sweep();
                }
                event => fixture.receive_one(event, data.clone()),
            }
        }
        let received: Vec<_> = causes.all().iter().map(|cause| cause.as_str()).collect();
        // one cause if the session ends, else none
        let expected: Vec<_> = case.cause.iter().map(String::as_str).collect();
        assert_eq!(received, expected, "{}", case.name);
        assert_eq!(registration.ended().map(EndCause::as_str), case.cause.as_deref(), "{}", case.name);
        drop(registration);
        assert_eq!(fixture.registry_entries(), 0, "{}", case.name);
    }
}

#[tokio::test]
async fn shared_cases_guards_challenge_insufficient_authentication() {
    let fixture = Fixture::new();
    for case in &fixture.cases.guards {
        let mut guard = Guard::new(fixture.verifier.clone());
        guard.requirements.acr = case.acr.clone().unwrap_or_default();
        guard.requirements.max_age = case.max_age.map(Duration::from_secs);
        let bearer = format!("Bearer {}", fixture.token(&json!(case.token)));
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer.parse().unwrap())]);
        let refusal = guard.authorize(&headers).await.err();
        let challenge = refusal.map(|refusal| refusal.headers()[WWW_AUTHENTICATE].to_str().unwrap().to_owned());
        assert_eq!(challenge, case.challenge, "{}", case.name);
    }
}

#[test]
fn claims_changed_is_answered_from_memory_while_the_feed_is_lost() {
    let fixture = Fixture::new();
    fixture.receive_one("claims", json!({ "account_id": ACCOUNT, "claims_version": 4, "at": EVENT_TIME }));
    // longer than the silence that loses the feed
    fixture.clock.advance(6);
    let verify_error = |changes| fixture.verifier.verify_locally(&fixture.token(&changes)).unwrap_err();
    assert_eq!(verify_error(json!({})), VerifyError::ClaimsChanged);
    assert!(verify_error(json!({ "claims_version": 4 })).is_unavailable());
}

#[test]
fn retired_and_unpublished_keys_end_the_sessions_that_they_signed() {
    let fixture = Fixture::new();
    let other = SigningKey::generate(Algorithm::Es256).unwrap();
    fixture.publish(&[&fixture.signing_key, &other]);
    let (first, second) = (Causes::default(), Causes::default());
    let token = fixture.token_signed_by(&other, &json!({ "sid": OTHER_ID }));
    let first_claims = fixture.claims(&json!({}));
    let second_claims = fixture.verifier.verify_locally(&token).unwrap();
    let _first_registration = fixture.verifier.on_end(&first_claims, first.recorder());
    let _second_registration = fixture.verifier.on_end(&second_claims, second.recorder());
    // an operator has retired the key of the second session
    fixture.receive_one("revocation", json!({ "kind": "key", "kid": other.kid(), "at": EVENT_TIME }));
    assert_eq!(first.all(), []);
    assert_eq!(second.all(), [EndCause::KeyRetired]);
    // the key set no longer has the key of the first session
    fixture.publish(&[&other]);
    fixture.sweep();
    assert_eq!(first.all(), [EndCause::KeyRetired]);
    let late = Causes::default();
    // a callback for a session that has ended is called at once
    let _late = fixture.verifier.on_end(&first_claims, late.recorder());
    assert_eq!(late.all(), [EndCause::KeyRetired]);
    assert_eq!(fixture.registry_entries(), 0);
}

#[test]
fn session_registered_while_the_feed_is_lost_ends_after_a_further_silence() {
    let fixture = Fixture::new();
    let claims = fixture.claims(&json!({}));
    // far longer than the silence of 5 seconds that ends sessions
    fixture.clock.advance(60);
    let causes = Causes::default();
    let _registration = fixture.verifier.on_end(&claims, causes.recorder());
    fixture.sweep();
    fixture.clock.advance(5);
    fixture.sweep();
    assert_eq!(causes.all(), []);
    fixture.clock.advance(1);
    fixture.sweep();
    assert_eq!(causes.all(), [EndCause::FeedLost]);
}

#[test]
fn gap_alone_ends_no_session() {
    let fixture = Fixture::new();
    let causes = Causes::default();
    let _registration = fixture.verifier.on_end(&fixture.claims(&json!({})), causes.recorder());
    // a gap means that the verifier has missed events, so its revocations are incomplete
    fixture.receive_one("gap", json!({}));
    fixture.clock.advance(5);
    fixture.sweep();
    assert!(!fixture.verifier.status().live);
    assert_eq!(causes.all(), []);
    fixture.clock.advance(1);
    fixture.sweep();
    assert_eq!(causes.all(), [EndCause::FeedLost]);
}

#[test]
fn session_of_a_verifier_without_revocations_ends_with_its_token_only() {
    let fixture = Fixture::without_revocation_check();
    let causes = Causes::default();
    let _registration = fixture.verifier.on_end(&fixture.claims(&json!({})), causes.recorder());
    // the token expires after 290 seconds, and the leeway is 5 seconds
    fixture.clock.advance(294);
    fixture.sweep();
    assert_eq!(causes.all(), []);
    fixture.clock.advance(1);
    fixture.sweep();
    assert_eq!(causes.all(), [EndCause::TokenExpired]);
}

#[tokio::test]
async fn registrations_of_a_service_client_are_independent_of_each_other() {
    let fixture = Fixture::new();
    let client = json!({ "sid": null, "auth_time": null, "sub": "robot", "client_id": "robot" });
    let (first, second) = (Causes::default(), Causes::default());
    let claims = fixture.claims(&client);
    let first_registration = fixture.verifier.on_end(&claims, first.recorder());
    let _other = fixture.verifier.on_end(&claims, second.recorder());
    // outlives the clock's advance below, unlike the token of the second registration
    let mut newer = client.clone();
    newer["exp"] = json!(fixture.cases.now + 600);
    first_registration.renew(&fixture.token(&newer)).await.unwrap();
    newer["sub"] = json!("other-robot");
    newer["client_id"] = json!("other-robot");
    assert_eq!(first_registration.renew(&fixture.token(&newer)).await, Err(RenewError::OtherSession));
    fixture.clock.advance(300);
    fixture.heartbeat();
    fixture.sweep();
    assert_eq!(first.all(), []);
    assert_eq!(second.all(), [EndCause::TokenExpired]);
}

#[tokio::test]
async fn renewal_with_a_wrong_token_leaves_the_registration_unchanged() {
    let fixture = Fixture::new();
    let causes = Causes::default();
    let registration = fixture.verifier.on_end(&fixture.claims(&json!({})), causes.recorder());
    let renew_error = async |changes: Value| registration.renew(&fixture.token(&changes)).await.unwrap_err();
    assert_eq!(renew_error(json!({ "sid": OTHER_ID })).await, RenewError::OtherSession);
    assert_eq!(renew_error(json!({ "sub": OTHER_ID })).await, RenewError::OtherSession);
    let expired = renew_error(json!({ "exp": 0 })).await;
    assert!(matches!(expired, RenewError::Token(VerifyError::Invalid(_))));
    assert_eq!(causes.all(), []);
    assert_eq!(fixture.registrations(), 1);
    fixture.revoke(SESSION);
    assert_eq!(renew_error(json!({})).await, RenewError::Ended(EndCause::SessionRevoked));
}

#[tokio::test]
async fn renewal_with_newer_claims_ends_the_other_registrations_of_the_session() {
    let fixture = Fixture::new();
    let (first, second, late) = (Causes::default(), Causes::default(), Causes::default());
    let claims = fixture.claims(&json!({}));
    let registration = fixture.verifier.on_end(&claims, first.recorder());
    let _other = fixture.verifier.on_end(&claims, second.recorder());
    registration.renew(&fixture.token(&json!({ "claims_version": 4 }))).await.unwrap();
    // the claims still have version 3
    let _late = fixture.verifier.on_end(&claims, late.recorder());
    assert_eq!(first.all(), []);
    assert_eq!(second.all(), [EndCause::ClaimsChanged]);
    assert_eq!(late.all(), [EndCause::ClaimsChanged]);
    assert_eq!(fixture.registrations(), 1);
}

#[test]
fn renewal_in_a_callback_of_the_same_event_reports_the_cause() {
    let fixture = Fixture::new();
    let claims = fixture.claims(&json!({}));
    // valid after the event below, which ends the registrations with version 3
    let newer = fixture.token(&json!({ "claims_version": 4 }));
    let registrations: Arc<OnceLock<[Registration; 2]>> = Arc::default();
    let (sender, receiver) = mpsc::channel();
    let register = || {
        let (registrations, newer, sender) = (Arc::clone(&registrations), newer.clone(), sender.clone());
        fixture.verifier.on_end(&claims, move |_| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            // during the first of the two callbacks, the other one has not been called yet
            for registration in registrations.get().unwrap() {
                sender.send(runtime.block_on(registration.renew(&newer))).unwrap();
            }
        })
    };
    registrations.set([register(), register()]).unwrap();
    fixture.receive_one("claims", json!({ "account_id": ACCOUNT, "claims_version": 4, "at": EVENT_TIME }));
    let renewals: Vec<_> = receiver.try_iter().collect();
    // each of the two callbacks renewed both registrations
    assert_eq!(renewals, vec![Err(RenewError::Ended(EndCause::ClaimsChanged)); 4]);
}

#[test]
fn dropped_registration_is_not_called() {
    let fixture = Fixture::new();
    let (dropped, kept) = (Causes::default(), Causes::default());
    let claims = fixture.claims(&json!({}));
    let registration = fixture.verifier.on_end(&claims, dropped.recorder());
    let _kept = fixture.verifier.on_end(&claims, kept.recorder());
    drop(registration);
    fixture.revoke(SESSION);
    assert_eq!(dropped.all(), []);
    assert_eq!(kept.all(), [EndCause::SessionRevoked]);
}

#[test]
fn panicking_callback_does_not_keep_others_from_being_called() {
    let fixture = Fixture::new();
    let causes = Causes::default();
    let claims = fixture.claims(&json!({}));
    // several, because callbacks are called in no fixed order
    let _panics: Vec<_> = (0..4).map(|_| fixture.verifier.on_end(&claims, |_| panic!("a callback panics"))).collect();
    let _registration = fixture.verifier.on_end(&claims, causes.recorder());
    fixture.revoke(SESSION);
    assert_eq!(causes.all(), [EndCause::SessionRevoked]);
    assert_eq!(fixture.registry_entries(), 0);
}

#[test]
fn callback_may_drop_and_register_sessions() {
    let fixture = Fixture::new();
    let claims = fixture.claims(&json!({}));
    let (sender, receiver) = mpsc::channel();
    let inner = fixture.verifier.on_end(&fixture.claims(&json!({ "sid": OTHER_ID })), |_| {});
    let (verifier, ended_claims) = (fixture.verifier.clone(), Arc::clone(&claims));
    let _outer = fixture.verifier.on_end(&claims, move |_| {
        drop(inner);
        let late = verifier.on_end(&ended_claims, |_| {});
        sender.send(late.ended()).unwrap();
    });
    fixture.revoke(SESSION);
    assert_eq!(receiver.recv().unwrap(), Some(EndCause::SessionRevoked));
    assert_eq!(fixture.registry_entries(), 0);
}

#[test]
fn dropped_verifier_ends_its_sessions() {
    let fixture = Fixture::new();
    let causes = Causes::default();
    let registration = fixture.verifier.on_end(&fixture.claims(&json!({})), causes.recorder());
    drop(fixture);
    assert_eq!(causes.all(), [EndCause::FeedLost]);
    assert_eq!(registration.ended(), Some(EndCause::FeedLost));
}

#[test]
fn million_registrations_leave_no_memory_behind() {
    let fixture = Fixture::new();
    // 5,000 sessions of 500 accounts: half of the sessions have two registrations. The tokens expire in seven different seconds.
    let claims: Vec<_> = (0..7_500_u32)
        .map(|number| {
            let mut claims = (*fixture.claims(&json!({}))).clone();
            claims.sid = Some(format!("00000000-0000-4000-8000-0000{:08x}", number % 5_000));
            claims.sub = format!("00000000-0000-4000-8000-1000{:08x}", number % 500);
            claims.exp = fixture.cases.now + 300 + i64::from(number % 7);
            claims
        })
        .collect();
    let mut registered = 0;
    while registered < 1_000_000 {
        let registrations: Vec<_> = claims.iter().map(|claims| fixture.verifier.on_end(claims, |_| {})).collect();
        assert_eq!(fixture.registrations(), registrations.len());
        registered += registrations.len();
    }
    let (entries, capacity) = fixture.verifier.shared().registry.footprint();
    assert_eq!(entries, 0);
    // three indexes, each of which shrinks only while its capacity is above 64
    assert!(capacity <= 256, "the indexes of 7,500 registrations have shrunk: {capacity}");
}

#[test]
fn every_registration_that_races_with_its_revocation_is_called_once() {
    let fixture = Fixture::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let sessions: Vec<_> = (0..200).map(|number| format!("00000000-0000-4000-8000-{number:012x}")).collect();
    let claims: Vec<_> = sessions.iter().map(|sid| fixture.claims(&json!({ "sid": sid }))).collect();
    let registrations = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let register = |claims: &Arc<Claims>| {
                        let calls = Arc::clone(&calls);
                        fixture.verifier.on_end(claims, move |_| {
                            calls.fetch_add(1, Ordering::SeqCst);
                        })
                    };
                    claims.iter().map(register).collect::<Vec<_>>()
                })
            })
            .collect();
        sessions.iter().for_each(|sid| fixture.revoke(sid));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(calls.load(Ordering::SeqCst), registrations.len());
    assert!(registrations.iter().all(|registration| registration.ended() == Some(EndCause::SessionRevoked)));
    assert_eq!(fixture.registry_entries(), 0);
}

#[tokio::test]
async fn watch_drops_the_future_when_the_session_ends() {
    let fixture = Fixture::new();
    let claims = fixture.claims(&json!({}));
    let mut watch = fixture.verifier.watch(&claims);
    assert_eq!(watch.run(async { 7 }).await, Ok(7));
    assert_eq!(watch.cause(), None);
    let job = async {
        fixture.revoke(SESSION);
        std::future::pending::<()>().await;
    };
    assert_eq!(watch.run(job).await, Err(EndCause::SessionRevoked));
    assert_eq!(watch.ended().await, EndCause::SessionRevoked);
    assert_eq!(watch.ended().await, EndCause::SessionRevoked, "a second call returns at once");
}

#[tokio::test]
async fn sweeper_ends_sessions_without_an_event() {
    let fixture = Fixture::new();
    let mut watch = fixture.verifier.watch(&fixture.claims(&json!({})));
    let shared = fixture.verifier.shared();
    let sweeper = shared.registry.run_sweeper(|| {
        // longer than the silence that ends sessions
        fixture.clock.advance(6);
        shared.sweep()
    });
    tokio::select! {
        () = sweeper => unreachable!(),
        cause = watch.ended() => assert_eq!(cause, EndCause::FeedLost),
    }
}
