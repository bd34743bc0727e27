//! Rolling upgrades: this version reads the records of every earlier release and does not modify those of a newer one.

use std::{fmt::Write, path::PathBuf, time::Duration};

use fred::types::Value;
use latchkey::{
    domain::{
        account::{ClaimsStamp, ClaimsVersion, Epoch, Roles},
        clock::Timestamp,
        event::Reason,
        ids::{AccountId, SessionId},
        session::{Generation, Origin, Rotation, Transport},
    },
    store::redis::{Create, NewSession, RedisError, RedisStores},
};

use super::{
    on_every_server,
    server::{ABSOLUTE, GRACE, IDLE, NOW, Redis, account, create, new_session, raw_command, session},
};

on_every_server!(
    record_version_1_is_read_and_used,
    event_of_claims_is_a_harmless_revocation_to_version_1,
    record_newer_version_is_refused_by_name,
);

const ACCOUNT: &str = "0192f0c1-2345-7abc-8def-0123456789ab";

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/session_record_v1.txt")
}

fn ada() -> AccountId {
    ACCOUNT.parse().unwrap()
}

fn plus(millis: u64) -> Timestamp {
    NOW + Duration::from_millis(millis)
}

/// Creates three sessions: a new one with short details; a cookie session, refreshed often within the grace window; and one
/// refreshed once, with details of the maximum length.
async fn three_sessions(store: &RedisStores) {
    let begin = |id: u64, transport: Transport, origin: Origin| NewSession {
        roles: Roles::parse(["admin", "clerk"]).unwrap(),
        transport,
        origin,
        ..new_session(ada(), session(id))
    };
    let from = |ip: &str, agent: &str, device: Option<&str>| Origin {
        ip: Some(ip.parse().unwrap()),
        user_agent: Some(agent.to_owned()),
        device: device.map(str::to_owned),
    };
    store.sessions.create(begin(1, Transport::Bearer, from("203.0.113.7", "curl/8.5.0", None)), plus(1)).await.unwrap();
    let safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                  Version/17.5 Mobile/15E148 Safari/604.1";
    store
        .sessions
        .create(begin(2, Transport::Cookie, from("2001:db8::7", safari, Some("Ada's phone"))), plus(2))
        .await
        .unwrap();
    store
        .sessions
        .create(begin(3, Transport::Bearer, from("198.51.100.9", &"agent ".repeat(50), None)), plus(3))
        .await
        .unwrap();
    for generation in 0..12 {
        let at = plus(1_000 + 500 * u64::from(generation));
        store.sessions.rotate(ada(), session(2), Generation(generation), GRACE, IDLE, at).await.unwrap();
    }
    store.sessions.rotate(ada(), session(3), Generation(0), GRACE, IDLE, plus(60_000)).await.unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Remove this test with record version 2 and keep the fixture. `LATCHKEY_WRITE_FIXTURES=1` writes it.
#[tokio::test(flavor = "multi_thread")]
async fn record_version_1_is_written() {
    let server = Redis::start_with(&[]);
    let store = server.store();
    three_sessions(&store).await;
    store.close().await;
    let (key, fields) = server.only_hash().await;
    let mut text = format!(
        "# The sessions of account {ACCOUNT} as version 1 of the record has them: field and value, in hex.\n\
         # The key is {key}. See tests/it/store/upgrade.rs.\n"
    );
    for (field, value) in &fields {
        writeln!(text, "{} {}", hex(field), hex(value)).unwrap();
    }
    if std::env::var_os("LATCHKEY_WRITE_FIXTURES").is_some() {
        std::fs::write(fixture(), &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(fixture()).unwrap());
}

async fn record_version_1_is_read_and_used(server: Redis) {
    let text = std::fs::read_to_string(fixture()).unwrap();
    let key = latchkey::store::redis::key::Keys::new("lk:").sessions(ada());
    let mut words: Vec<Value> = vec![key.into()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (field, value) = line.split_once(' ').unwrap();
        words.extend([field, value].map(|part| Value::Bytes(unhex(part).into())));
    }
    raw_command(&server.raw().await, "HSET", words).await;

    let store = server.store();
    let now = plus(61_000);
    let listed = store.sessions.list(ada(), now).await.unwrap();
    let seen: Vec<_> = listed.iter().map(|s| (s.id, s.generation, s.transport, s.created_at, s.last_used_at)).collect();
    assert_eq!(
        seen,
        [
            (session(1), Generation(0), Transport::Bearer, plus(1), plus(1)),
            (session(2), Generation(12), Transport::Cookie, plus(2), plus(6_500)),
            (session(3), Generation(1), Transport::Bearer, plus(3), plus(60_000)),
        ]
    );
    assert_eq!(listed[0].origin.user_agent.as_deref(), Some("curl/8.5.0"));
    assert_eq!(listed[1].origin.ip, Some("2001:db8::7".parse().unwrap()));
    assert_eq!(listed[1].origin.device.as_deref(), Some("Ada's phone"));
    assert!(listed[2].origin.user_agent.as_ref().unwrap().starts_with("agent agent agent"));
    assert!(listed.iter().all(|session| session.ends_at == session.created_at + ABSOLUTE));

    // its account's claims have never changed, until now
    let liveness = store.sessions.liveness(ada(), session(1), now).await.unwrap().unwrap();
    assert_eq!(liveness.claims, ClaimsStamp::default());
    let roles = Roles::parse(["admin", "clerk"]).unwrap();
    let version = store.sessions.set_roles(ada(), &roles, ClaimsVersion(1), Epoch(0), now).await.unwrap();

    // the rotation history of session 2 keeps each superseded token within its grace window
    let rotate = async |id: SessionId, generation, now| {
        store.sessions.rotate(ada(), id, Generation(generation), GRACE, IDLE, now).await.unwrap()
    };
    for generation in 0..12 {
        let repeated = rotate(session(2), generation, plus(10_999)).await;
        assert!(matches!(&repeated, Rotation::Repeated(grant) if grant.generation == Generation(12)), "{repeated:?}");
    }
    let rotated = rotate(session(1), 0, now).await;
    let Rotation::Rotated(grant) = rotated else { panic!("{rotated:?}") };
    assert_eq!((grant.generation, grant.created_at), (Generation(1), plus(1)));
    assert_eq!((grant.roles, grant.claims_version), (roles, version));
    assert_eq!(rotate(session(2), 3, now).await, Rotation::Reused);
    assert!(store.sessions.revoke(ada(), session(3), Reason::Logout, now).await.unwrap());
    assert_eq!(store.sessions.revoke_all(ada(), None, None, Reason::Revoked, now).await.unwrap(), 1);
    store.close().await;
}

/// Version 1 reads the event of changed claims as the end of a session that never existed: it has to acknowledge it, and no
/// subscriber of its feed may take it for a gap.
async fn event_of_claims_is_a_harmless_revocation_to_version_1(server: Redis) {
    // The rules of release 0.1 (`following/entry.rs`), and its reasons.
    const REASONS: [&str; 8] =
        ["logout", "revoked", "reuse", "limit", "password_changed", "disabled", "deleted", "key_retired"];
    let store = server.store();
    store.sessions.set_roles(ada(), &Roles::default(), ClaimsVersion(7), Epoch(0), NOW).await.unwrap();
    let [[account, session, reason, at]] = server.events().try_into().unwrap();
    assert_eq!(account.parse::<AccountId>().unwrap(), ada());
    assert!(REASONS.contains(&reason.as_str()), "{reason}");
    assert_eq!(at.parse::<i64>().unwrap(), NOW.as_millis());
    let session = session.parse::<SessionId>().unwrap();
    assert_eq!(session.as_bytes()[..10], [0; 10], "no random UUID (RFC 9562, section 5.4) begins so");

    // A hash that version 1 has written to since: roles of a sign-in, and no version.
    let key = latchkey::store::redis::key::Keys::new("lk:").sessions(ada());
    let raw = server.raw().await;
    store
        .sessions
        .create(NewSession { claims_version: ClaimsVersion(7), ..new_session(ada(), self::session(1)) }, NOW)
        .await
        .unwrap();
    raw_command(&raw, "HSET", vec![key.into(), "r".into(), "clerk".into()]).await;
    let rotation = store.sessions.rotate(ada(), self::session(1), Generation(0), GRACE, IDLE, plus(1)).await.unwrap();
    let Rotation::Rotated(grant) = rotation else { panic!("{rotation:?}") };
    assert_eq!((grant.roles, grant.claims_version), (Roles::parse(["clerk"]).unwrap(), ClaimsVersion(7)));
    store.close().await;
}

async fn record_newer_version_is_refused_by_name(server: Redis) {
    let store = server.store();
    let (ada, id) = (account(), session(1));
    create(&store, ada, id, NOW).await;
    let (key, fields) = server.only_hash().await;
    let raw = server.raw().await;
    let mut newer = fields[0].1.clone();
    newer[0] = 2;
    raw_command(&raw, "HSET", vec![key.into(), Value::Bytes(fields[0].0.clone().into()), Value::Bytes(newer.into())])
        .await;
    let before = server.only_hash().await;

    let refused = |error: RedisError| {
        assert!(matches!(&error, RedisError::Unexpected(_)), "{error:?}");
        assert!(error.to_string().contains("version 2"), "{error}");
    };
    refused(store.sessions.rotate(ada, id, Generation(0), GRACE, IDLE, NOW).await.unwrap_err());
    refused(store.sessions.is_live(ada, id, NOW).await.unwrap_err());
    assert_eq!(server.only_hash().await, before, "the record is unchanged");
    assert_eq!(server.events(), [] as [[String; 4]; 0]);
    // the unreadable record does not affect other sessions
    let created = store.sessions.create(new_session(ada, session(2)), NOW).await.unwrap();
    assert!(matches!(created, Create::Created { .. }), "{created:?}");
    let listed: Vec<_> = store.sessions.list(ada, NOW).await.unwrap().into_iter().map(|session| session.id).collect();
    assert_eq!(listed, [session(2)]);
    // revocation deletes records of any version
    let other = session(3);
    let (key, _) = server.only_hash().await;
    let field = Value::Bytes(other.as_bytes().to_vec().into());
    raw_command(&raw, "HSET", vec![key.into(), field, Value::Bytes(vec![2, 0, 0].into())]).await;
    assert_eq!(store.sessions.revoke_all(ada, Some(id), None, Reason::Revoked, NOW).await.unwrap(), 2);
    assert!(store.sessions.revoke(ada, id, Reason::Logout, NOW).await.unwrap());
    store.close().await;
}
