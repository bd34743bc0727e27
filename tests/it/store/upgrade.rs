//! Rolling upgrades: this version reads the records of every earlier release and does not modify those of a newer one.

use std::{path::PathBuf, time::Duration};

use fred::{clients::Client, types::Value};
use latchkey::{
    domain::{
        account::{ClaimsStamp, ClaimsVersion, Epoch, Roles},
        additional_claims::AdditionalClaims,
        authentication::{Acr, Authentication, AuthenticationMethod, AuthenticationMethods},
        clock::Timestamp,
        event::EndReason,
        ids::{AccountId, SessionId},
        session::{AcceptedTransport, ClientGrant, Generation, RepeatRule, Rotation, Transport},
    },
    store::redis::{
        AccountSessions, CreateOutcome, LastUseOrigin, NewSession, Presentation, RedisError, SessionBasis,
        key::{self, Keys},
    },
};

use super::{
    on_every_server,
    server::{ABSOLUTE, GRACE, IDLE, NOW, Redis, Rotate, account, create, new_session, raw_command, session},
};

on_every_server!(
    record_version_1_is_read_and_used,
    claims_event_is_a_harmless_revocation_to_release_0_1,
    record_of_newer_version_is_refused_and_error_names_version,
    session_of_this_release_is_used_by_release_0_1_and_back,
    session_of_a_client_is_refused_by_release_0_1,
);

const ACCOUNT: &str = "0192f0c1-2345-7abc-8def-0123456789ab";

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/session_record_v1.txt")
}

fn ada() -> AccountId {
    ACCOUNT.parse().unwrap()
}

/// The time this many milliseconds after [`NOW`].
fn now_plus(millis: u64) -> Timestamp {
    NOW + Duration::from_millis(millis)
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

async fn record_version_1_is_read_and_used(server: Redis) {
    let text = std::fs::read_to_string(fixture()).unwrap();
    let key = Keys::new("lk:").sessions(ada());
    let mut arguments: Vec<Value> = vec![key.into()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (field, value) = line.split_once(' ').unwrap();
        arguments.extend([field, value].map(|part| Value::Bytes(unhex(part).into())));
    }
    raw_command(&server.raw().await, "HSET", arguments).await;

    let store = server.store();
    let now = now_plus(61_000);
    let listed = store.sessions.list(ada(), now).await.unwrap();
    let seen: Vec<_> = listed.iter().map(|s| (s.id, s.generation, s.transport, s.created_at, s.last_used_at)).collect();
    // the sessions in the fixture, which were used in the minute after `NOW`
    assert_eq!(
        seen,
        [
            (session(1), Generation(0), Transport::Bearer, now_plus(1), now_plus(1)),
            (session(2), Generation(12), Transport::Cookie, now_plus(2), now_plus(6_500)),
            (session(3), Generation(1), Transport::Bearer, now_plus(3), now_plus(60_000)),
        ]
    );
    assert_eq!(listed[0].origin.user_agent.as_deref(), Some("curl/8.5.0"));
    assert_eq!(listed[1].origin.ip, Some("2001:db8::7".parse().unwrap()));
    assert_eq!(listed[1].origin.device.as_deref(), Some("Ada's phone"));
    assert!(listed[2].origin.user_agent.as_ref().unwrap().starts_with("agent agent agent"));
    assert!(listed.iter().all(|session| session.ends_at == session.created_at + ABSOLUTE));

    // The claims of the account have never changed. Then a change replaces the roles.
    let liveness = store.sessions.liveness(ada(), session(1), now).await.unwrap().unwrap();
    assert_eq!(liveness.claims, ClaimsStamp::default());
    let roles = Roles::parse(["admin", "clerk"]).unwrap();
    let version = store
        .sessions
        .set_claims(ada(), &roles, &AdditionalClaims::default(), ClaimsVersion(1), Epoch(0), now)
        .await
        .unwrap();

    // The twelve superseded tokens of session 2 can be repeated until the grace window of the oldest ends, 10 s after `now_plus(1_000)`.
    let rotate = async |id: SessionId, generation, now| {
        store.sessions.rotate(ada(), id, Generation(generation), GRACE, IDLE, now).await.unwrap()
    };
    for generation in 0..12 {
        let repeated = rotate(session(2), generation, now_plus(10_999)).await;
        assert!(matches!(&repeated, Rotation::Repeated(grant) if grant.generation == Generation(12)), "{repeated:?}");
    }
    let rotated = rotate(session(1), 0, now).await;
    let Rotation::Rotated(grant) = rotated else { panic!("{rotated:?}") };
    assert_eq!(grant.generation, Generation(1));
    assert_eq!(grant.created_at, now_plus(1));
    assert_eq!(grant.roles, roles);
    assert_eq!(grant.claims_version, version);
    // All grace windows have passed by `now`: the repeat ends session 2.
    assert_eq!(rotate(session(2), 3, now).await, Rotation::Reused);
    assert!(store.sessions.revoke(ada(), session(3), EndReason::Logout, now).await.unwrap());
    let ended = store.sessions.revoke_all(AccountSessions::all(ada()), EndReason::Revoked, now).await.unwrap();
    assert_eq!(ended, 1, "session 1");
    store.close().await;
}

/// Nodes of 0.1 read the event of a claims change as the end of a session that never existed. They must be able to parse it, to acknowledge
/// it and to send it to their subscribers.
async fn claims_event_is_a_harmless_revocation_to_release_0_1(server: Redis) {
    // The reasons of release 0.1. The assertions follow its rules (`following/entry.rs`).
    const REASONS: [&str; 8] =
        ["logout", "revoked", "reuse", "limit", "password_changed", "disabled", "deleted", "key_retired"];
    let store = server.store();
    store
        .sessions
        .set_claims(ada(), &Roles::default(), &AdditionalClaims::default(), ClaimsVersion(7), Epoch(0), NOW)
        .await
        .unwrap();
    let [[account, ended_session, reason, at]] = server.events().try_into().unwrap();
    assert_eq!(account.parse::<AccountId>().unwrap(), ada());
    assert!(REASONS.contains(&reason.as_str()), "{reason}");
    assert_eq!(at.parse::<i64>().unwrap(), NOW.as_millis());
    let ended_session = ended_session.parse::<SessionId>().unwrap();
    assert_eq!(ended_session.as_bytes()[..10], [0; 10], "a random UUID (RFC 9562, section 5.4) differs");

    // A node of 0.1 writes the roles of a later sign-in to the hash, and no version.
    let key = Keys::new("lk:").sessions(ada());
    let raw = server.raw().await;
    store
        .sessions
        .create(NewSession { claims_version: ClaimsVersion(7), ..new_session(ada(), session(1)) }, NOW)
        .await
        .unwrap();
    // the field of the roles
    raw_command(&raw, "HSET", vec![key.into(), "r".into(), "clerk".into()]).await;
    let rotation = store.sessions.rotate(ada(), session(1), Generation(0), GRACE, IDLE, now_plus(1)).await.unwrap();
    let Rotation::Rotated(grant) = rotation else { panic!("{rotation:?}") };
    assert_eq!(grant.roles, Roles::parse(["clerk"]).unwrap());
    assert_eq!(grant.claims_version, ClaimsVersion(7));
    store.close().await;
}

async fn record_of_newer_version_is_refused_and_error_names_version(server: Redis) {
    let store = server.store();
    let (ada, id) = (account(), session(1));
    create(&store, ada, id, NOW).await;
    let (key, fields) = server.only_hash().await;
    let raw = server.raw().await;
    let (record_field, mut newer_record) = fields[0].clone();
    // The first field is the record, which begins with its version. This release writes versions 1 and 2.
    newer_record[0] = 3;
    let arguments: Vec<Value> = vec![key.into(), Value::Bytes(record_field.into()), Value::Bytes(newer_record.into())];
    raw_command(&raw, "HSET", arguments).await;
    let before = server.only_hash().await;

    let assert_refused = |error: RedisError| {
        assert!(matches!(&error, RedisError::Unexpected(_)), "{error:?}");
        assert!(error.to_string().contains("version 3"), "{error}");
    };
    assert_refused(store.sessions.rotate(ada, id, Generation(0), GRACE, IDLE, NOW).await.unwrap_err());
    assert_refused(store.sessions.is_live(ada, id, NOW).await.unwrap_err());
    assert_eq!(server.only_hash().await, before, "the record is unchanged");
    assert!(server.events().is_empty());
    // The unreadable record does not affect other sessions.
    let created = store.sessions.create(new_session(ada, session(2)), NOW).await.unwrap();
    assert!(matches!(created, CreateOutcome::Created { .. }), "{created:?}");
    let listed: Vec<_> = store.sessions.list(ada, NOW).await.unwrap().into_iter().map(|session| session.id).collect();
    assert_eq!(listed, [session(2)]);
    // A revocation deletes records of any version, such as this one of a third session.
    let (key, _) = server.only_hash().await;
    let field = Value::Bytes(session(3).as_bytes().to_vec().into());
    raw_command(&raw, "HSET", vec![key.into(), field, Value::Bytes(vec![3, 0, 0].into())]).await;
    let others = AccountSessions::all(ada).except(id);
    let ended = store.sessions.revoke_all(others, EndReason::Revoked, NOW).await.unwrap();
    assert_eq!(ended, 2, "sessions 2 and 3");
    assert!(store.sessions.revoke(ada, id, EndReason::Logout, NOW).await.unwrap());
    store.close().await;
}

/// The scripts of release 0.1 (commit 0401ae3), without their comments.
const ROTATE_0_1: &str = include_str!("../../fixtures/release_0_1/rotate.txt");
const REVOKE_0_1: &str = include_str!("../../fixtures/release_0_1/revoke.txt");

/// Runs a script of release 0.1 as its node did.
async fn run_0_1(raw: &Client, script: &str, account: AccountId, arguments: Vec<Vec<u8>>) -> Vec<Value> {
    let keys = Keys::new("lk:");
    let bucket = key::bucket(account);
    let script_keys = [keys.sessions(account), keys.events_of_bucket(bucket), keys.position_of_bucket(bucket)];
    // the script, and the number of its keys
    let mut eval: Vec<Value> = vec![script.into(), 3.into()];
    eval.extend(script_keys.map(Value::from));
    // the retention of events in milliseconds, how streams are trimmed, and the channel of events
    eval.push("3600000 MAXLEN channel".into());
    eval.extend(arguments.into_iter().map(|argument| Value::Bytes(argument.into())));
    raw_command(raw, "EVAL", eval).await.into_array()
}

/// Presents a token to a node of release 0.1. Returns the outcome.
async fn present_0_1(raw: &Client, account: AccountId, id: SessionId, generation: u32, now: Timestamp) -> String {
    let mut bytes = [&account.as_bytes()[..], id.as_bytes(), &generation.to_be_bytes()].concat();
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
    for time in [now.as_millis().unsigned_abs(), millis(GRACE), millis(IDLE)] {
        // the lower 6 of the 8 bytes
        bytes.extend(&time.to_be_bytes()[2..]);
    }
    // 0: the endpoint also accepts tokens from a cookie
    bytes.push(0);
    let answer = run_0_1(raw, ROTATE_0_1, account, vec![bytes]).await.remove(0).into_array();
    // the outcome, and the reason if it is an error; the records in an answer are binary, and left out
    answer.iter().filter_map(Value::as_str).take(2).filter(|text| text.is_ascii()).collect::<Vec<_>>().join(" ")
}

async fn session_of_this_release_is_used_by_release_0_1_and_back(server: Redis) {
    let (store, raw) = (server.store(), server.raw().await);
    let (ada, id) = (account(), session(1));
    let new = NewSession {
        transport: Transport::Cookie,
        basis: SessionBasis { authentication: Some(two_factors(NOW)), ..SessionBasis::default() },
        ..new_session(ada, id)
    };
    store.sessions.create(new, NOW).await.unwrap();
    let rotate =
        async |generation, now| store.sessions.rotate(ada, id, Generation(generation), GRACE, IDLE, now).await.unwrap();
    // Each release rotates the record that the other wrote, first several times within the grace window, then after it. The authentication
    // and the transport are kept.
    for generation in 0..12 {
        let pause_millis = if generation < 6 { 2_000 } else { 60_000 };
        let now = now_plus(u64::from(generation) * pause_millis);
        if generation % 2 == 0 {
            assert_eq!(present_0_1(&raw, ada, id, generation, now).await, "rotated", "{generation}");
        } else {
            let Rotation::Rotated(grant) = rotate(generation, now).await else { panic!("{generation}") };
            assert_eq!(grant.authentication, two_factors(NOW));
            assert_eq!(grant.transport, Transport::Cookie);
        }
        if generation > 0 && generation < 6 {
            assert_eq!(present_0_1(&raw, ada, id, generation - 1, now).await, "repeated", "{generation}");
            assert!(matches!(rotate(generation - 1, now).await, Rotation::Repeated(_)), "{generation}");
        }
    }
    // A session that one release ends has ended for the other, and leaves no fields. The last rotation was at `now_plus(660_000)`.
    let later = now_plus(700_000);
    assert!(store.sessions.revoke(ada, id, EndReason::Logout, later).await.unwrap());
    assert_eq!(present_0_1(&raw, ada, id, 12, later).await, "gone");
    create(&store, ada, id, later).await;
    let session_argument = [&ada.as_bytes()[..], id.as_bytes()].concat();
    let event = format!("{ada}\n{id}\nlogout\n{}", later.as_millis());
    let ended = run_0_1(&raw, REVOKE_0_1, ada, vec![session_argument, event.into_bytes()]).await;
    assert_eq!(ended[0].as_i64(), Some(1));
    assert_eq!(rotate(0, later).await, Rotation::Gone);
    assert_eq!(server.command(&["--scan", "--pattern", "lk:s*"]), "", "no hash of sessions is left");
    store.close().await;
}

fn two_factors(at: Timestamp) -> Authentication {
    let methods = AuthenticationMethods::PASSWORD.with(AuthenticationMethod::OneTimePassword);
    Authentication { at, methods, acr: Acr::Aal2 }
}

async fn session_of_a_client_is_refused_by_release_0_1(server: Redis) {
    let (store, raw) = (server.store(), server.raw().await);
    let (ada, id) = (account(), session(1));
    let client = ClientGrant { client_id: "shop".to_owned(), scope: "openid".to_owned(), audiences: vec![] };
    let new =
        NewSession { basis: SessionBasis { client: Some(client), ..SessionBasis::default() }, ..new_session(ada, id) };
    store.sessions.create(new, NOW).await.unwrap();
    // Release 0.1 knows no sessions of apps: without the new version of the record, it would issue first-party tokens.
    let refused = present_0_1(&raw, ada, id, 0, NOW).await;
    assert!(refused.contains("a session record of version 2, written by a newer release"), "{refused}");
    let (accepted, origin) = (AcceptedTransport::Bearer, LastUseOrigin::default());
    let presentation = Presentation { account: ada, session: id, generation: Generation(0), accepted, origin };
    let rule = RepeatRule { grace: GRACE, retry_window: Duration::ZERO, counted_repeats_limit: 4 };
    let rotated = store.sessions.present_for(&presentation, Some("shop"), &rule, IDLE, NOW).await.unwrap();
    let Rotation::Rotated(grant) = rotated else { panic!("{rotated:?}") };
    assert_eq!(grant.client.unwrap().client_id, "shop");
    store.close().await;
}
