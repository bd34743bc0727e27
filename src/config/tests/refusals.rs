//! Refused values, refused combinations of values, and the text of each refusal.

use super::*;

/// Loads with invalid `--set` flags; asserts that they are refused, and returns the problems as text.
#[track_caller]
fn problems_of(flags: &[&str]) -> Vec<String> {
    let error = load_flags(flags).expect_err("the flags were accepted");
    error.problems.iter().map(ToString::to_string).collect()
}

/// docs/configuration.md states the limits. Most numbers and durations are just beyond a limit.
#[test]
fn impossible_values_are_refused() {
    for flag in [
        "listen=8080",
        "listen=localhost:8080",
        // a slash at the end
        "issuer=https://a.example/",
        // neither the host of the default issuer nor a domain above it
        "passkeys.rp_id=example.com",
        "passkeys.rp_id=192.0.2.1",
        "passkeys.origins=https://a.example/b",
        "passkeys.user_verification=discouraged",
        "passkeys.allowed_aaguids=yubikey",
        "passkeys.max_per_account=0",
        "passkeys.timeout=1s",
        "data_dir=",
        "multi_node=yes",
        "registration.open=1",
        "http.max_connections=0",
        "http.max_body=100",
        "http.max_body=1GiB",
        "http.max_header=4KiB",
        "http.request_timeout=0s",
        "http.trusted_proxies=proxy",
        "http.allowed_origins=*",
        "http.forwarded_header=via",
        "http.max_pending_bodies=0",
        "redis.prefix=",
        // braces would change the hash tag of each key
        "redis.prefix={lk}",
        "redis.pool_size=0",
        "redis.command_timeout=0s",
        "redis.event_retention=31d",
        // the default database.url is SQLite
        "database.migrate_url=postgres://h/d",
        "database.max_connections=0",
        "session.grace=61s",
        "session.grace=-1s",
        "session.retry_window=31d",
        "session.counted_repeats_limit=1",
        "session.counted_repeats_limit=9",
        // longer than the default session.absolute_timeout of 30 days
        "session.idle_timeout=31d",
        // shorter than the default session.idle_timeout of 7 days
        "session.absolute_timeout=6d",
        "session.max_per_account=0",
        "token.access_ttl=29s",
        "token.access_ttl=61m",
        // as long as the default redis.event_retention, which must be a minute longer
        "token.access_ttl=1h",
        "token.audience=",
        "token.scope=",
        "token.leeway=61s",
        "keys.algorithm=HS256",
        // names of algorithms are case-sensitive
        "keys.algorithm=es256",
        "keys.refresh_interval=0s",
        "password.min_length=7",
        // more than the default password.max_length of 128
        "password.min_length=129",
        "password.max_length=63",
        "password.max_length=1025",
        "password.min_score=5",
        "password.memory_kib=7",
        "password.memory_kib=4294967295",
        "password.iterations=0",
        "password.parallelism=0",
        "password.threads=-1",
        "password.queue=0",
        // less than the default password.memory_kib of 19456
        "password.max_import_memory_kib=19455",
        "password.max_import_work=0",
        "log.filter=inof",
        "log.filter=latchkey=loud",
    ] {
        let problems = problems_of(&[flag]);
        assert_eq!(problems.len(), 1, "{flag}: {problems:?}");
        let (key, _) = flag.split_once('=').unwrap();
        assert!(problems[0].contains(key), "{flag}: {problems:?}");
    }
}

#[test]
fn values_at_the_limits_are_accepted() {
    for flags in [
        &["session.grace=0s"][..],
        &["session.grace=60s"],
        &["session.retry_window=0s", "session.counted_repeats_limit=2"],
        &["session.retry_window=30d", "session.counted_repeats_limit=8"],
        &["token.access_ttl=30s"],
        // redis.event_retention must be a minute longer than token.access_ttl
        &["token.access_ttl=1h", "redis.event_retention=61m"],
        // redis.event_retention must also be 5 seconds longer than the sum of token.access_ttl and token.leeway
        &["token.access_ttl=1h", "token.leeway=60s", "redis.event_retention=3665s"],
        &["session.idle_timeout=30d"],
        &["password.min_length=128"],
        &["password.max_length=64"],
        &["password.max_length=1024", "password.min_length=1024"],
        &["password.memory_kib=8", "password.iterations=1"],
        &["password.max_import_memory_kib=19456"],
        &["listen=127.0.0.1:0"],
    ] {
        if let Err(error) = load_flags(flags) {
            panic!("{flags:?}: {error}");
        }
    }
}

#[test]
fn problem_of_violated_rule_names_every_key() {
    assert_eq!(
        problems_of(&["session.absolute_timeout=1d"]),
        [
            "session.idle_timeout = \"7d\" (default): must not be longer than session.absolute_timeout, which is \"1d\" (--set)"
        ]
    );
    assert_eq!(
        problems_of(&["redis.event_retention=5m"]),
        [
            "redis.event_retention = \"5m\" (--set): must be at least a minute longer than token.access_ttl, which is \"5m\" (default)"
        ]
    );
    assert_eq!(
        problems_of(&["redis.event_retention=364s", "token.leeway=60s"]),
        [
            "redis.event_retention = \"364s\" (--set): must be at least 5 seconds longer than the sum of token.access_ttl, which is \"5m\" (default), and token.leeway, which is \"60s\" (--set)"
        ]
    );
    assert_eq!(
        problems_of(&["password.min_length=100", "password.max_length=64"]),
        ["password.min_length = \"100\" (--set): must not be more than password.max_length, which is \"64\" (--set)"]
    );
    assert_eq!(
        problems_of(&["password.memory_kib=100", "password.parallelism=13"]),
        [
            "password.memory_kib = \"100\" (--set): must be at least 8 times password.parallelism, which is \"13\" (--set)"
        ]
    );
    assert_eq!(
        problems_of(&["database.migrate_url=postgres://bob:hunter2@h/d"]),
        ["database.migrate_url (--set): must lead to the same database as database.url (default)"]
    );
}

#[test]
fn multi_node_requires_shared_stores_and_secret() {
    assert_eq!(
        problems_of(&["multi_node=true"]),
        [
            "redis.url (default): the embedded Redis serves one node only: set a URL, because of multi_node, which is \"true\" (--set)",
            "database.url (default): SQLite serves one node only: set a postgres:// URL, because of multi_node, which is \
             \"true\" (--set)",
            "secret (default): all nodes need the same secret: set it or secret_file, because of multi_node, which is \"true\" \
             (--set)",
        ]
    );
}
