//! Redis memory of a session: at most 300 bytes, index and TTL included.

use fred::{clients::Client, types::Value};
use latchkey::{
    domain::session::SessionOrigin,
    store::redis::{NewSession, key::Keys},
};

use super::server::{IDLE, NOW, Redis, account, new_session, raw_command, session};

/// The number of sessions that are measured.
const SESSIONS: u64 = 200_000;
/// The number of sessions that one call of [`COPY`] writes.
const BATCH: u64 = 1000;
const CHROME: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";
const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                      Version/17.5 Mobile/15E148 Safari/604.1";

/// Writes copies of a session to Redis. `KEYS`: the hashes to write. `ARGV`: the TTL in milliseconds, a session id for each hash, and the names
/// and values of the session's fields. The names lack the session id, with which names begin in Redis.
const COPY: &str = "
    local ttl = ARGV[1]
    for i, key in ipairs(KEYS) do
        local id, set = ARGV[1 + i], {}
        for at = 2 + #KEYS, #ARGV, 2 do
            set[#set + 1] = id .. ARGV[at]
            set[#set + 1] = ARGV[at + 1]
        end
        redis.call('HSET', key, unpack(set))
        redis.call('PEXPIRE', key, ttl)
    end";

/// Measures the memory of a session in Redis: the mean of [`SESSIONS`] accounts with one session each.
async fn bytes_per_session(origin: SessionOrigin) -> u64 {
    let server = Redis::start_with(&[]); // without persistence
    let store = server.store();
    // The store writes one session.
    let id = session(1);
    let new = NewSession { origin, ..new_session(account(), id) };
    store.sessions.create(new, NOW).await.unwrap();
    let (key, fields) = server.only_hash().await;
    // the compact encoding, on which the limit relies
    assert_eq!(server.command(&["OBJECT", "ENCODING", &key]), "listpack", "{fields:?}");
    let fields: Vec<(Vec<u8>, Vec<u8>)> =
        fields.into_iter().map(|(name, value)| (name.strip_prefix(id.as_bytes()).unwrap().to_vec(), value)).collect();
    server.command(&["DEL", &key]);
    store.close().await;

    // A script copies the session under other ids.
    let raw = server.raw().await;
    let keys = Keys::new("lk:");
    // Writes a batch of copies. The numbers of their session ids begin with `from`.
    let copy = async |raw: &Client, from: u64| {
        // EVAL's arguments: the script, the number of keys, the keys, and ARGV.
        let mut arguments: Vec<Value> = vec![COPY.into(), Value::Integer(i64::try_from(BATCH).unwrap())];
        // each call of `account` returns another account
        arguments.extend((0..BATCH).map(|_| keys.sessions(account()).into()));
        // the TTL that the store sets for a new session
        arguments.push(Value::Integer(i64::try_from((IDLE + IDLE / 16).as_millis()).unwrap()));
        arguments.extend((from..from + BATCH).map(|number| Value::Bytes(session(number).as_bytes().to_vec().into())));
        for (name, value) in &fields {
            arguments.push(Value::Bytes(name.clone().into()));
            arguments.push(Value::Bytes(value.clone().into()));
        }
        raw_command(raw, "EVAL", arguments).await;
    };
    // The first keys are written before the measurement, so that one-time allocations of the server are not included.
    copy(&raw, 0).await;
    server.command(&["FLUSHALL", "SYNC"]);
    let used_memory = || -> u64 {
        let info = server.command(&["INFO", "memory"]);
        info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
    };
    let before = used_memory();
    for from in (0..SESSIONS).step_by(usize::try_from(BATCH).unwrap()) {
        copy(&raw, from).await;
    }
    assert_eq!(server.command(&["DBSIZE"]), SESSIONS.to_string());
    (used_memory() - before) / SESSIONS
}

#[tokio::test(flavor = "multi_thread")]
async fn session_memory_is_at_most_300_bytes() {
    let usual =
        SessionOrigin { ip: Some("203.0.113.7".parse().unwrap()), user_agent: Some(CHROME.to_owned()), device: None };
    let large = SessionOrigin {
        ip: Some("2001:db8:1234:5678:9abc:def0:1234:5678".parse().unwrap()),
        user_agent: Some(IPHONE.to_owned()),
        device: Some("Ada's iPhone 15 Pro".to_owned()),
    };
    let usual_bytes = bytes_per_session(usual).await;
    println!("{usual_bytes} bytes per session: IPv4, Chrome");
    // The limit of 300 bytes is that of a usual session.
    println!("{} bytes per session: IPv6, Safari on an iPhone, a device's name", bytes_per_session(large).await);
    assert!(usual_bytes <= 300, "{usual_bytes} bytes per session");
}
