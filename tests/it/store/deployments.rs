//! The stores on every kind of deployment: cluster, Sentinel, TLS, passwords, restricted users, Unix sockets, failovers.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use latchkey::{
    config::RedisSettings,
    domain::{
        event::EndReason,
        session::{Generation, Rotation},
    },
    runtime::Cores,
    store::redis::{AccountSessions, RedisError, RedisStores, Severity},
};

use super::server::{
    DURABLE, GRACE, IDLE, NOW, Redis, Rotate, account, connect, create, new_session, session, settings, store,
    store_with,
};
use crate::harness::{
    certificates,
    guard::{self, Guard, Spec},
    test_cluster, wait,
};

/// The command timeout of connections that are expected to fail.
const SHORT_TIMEOUT: Duration = Duration::from_millis(200);

/// Runs every session operation on an account.
async fn assert_all_operations_work(store: &RedisStores) {
    assert_all_operations_work_on(store, 1).await;
}

/// Runs every session operation on each of this many accounts.
async fn assert_all_operations_work_on(store: &RedisStores, accounts: usize) {
    wait::until("the store is connected", || async { store.health.ping().await.is_ok() }).await;
    store.health.inspect().await.unwrap();
    for _ in 0..accounts {
        let ada = account();
        for number in 1..=4 {
            create(store, ada, session(number), NOW).await;
        }
        let rotation = store.sessions.rotate(ada, session(1), Generation(0), GRACE, IDLE, NOW).await.unwrap();
        assert!(matches!(rotation, Rotation::Rotated(_)));
        assert!(store.sessions.is_live(ada, session(1), NOW).await.unwrap());
        let reused = store.sessions.rotate(ada, session(1), Generation(0), GRACE, IDLE, NOW + GRACE).await.unwrap();
        assert_eq!(reused, Rotation::Reused);
        assert!(store.sessions.revoke(ada, session(2), EndReason::Logout, NOW).await.unwrap());
        // The reuse has ended session 1 and the logout session 2, so sessions 3 and 4 are live.
        assert_eq!(store.sessions.list(ada, NOW).await.unwrap().len(), 2);
        let all_but_one = AccountSessions::all(ada).except(session(3));
        let ended = store.sessions.revoke_all(all_but_one, EndReason::Revoked, NOW).await.unwrap();
        assert_eq!(ended, 1, "session 4");
        let ended = store.sessions.revoke_all(AccountSessions::all(ada), EndReason::Disabled, NOW).await.unwrap();
        assert_eq!(ended, 1, "session 3");
        assert_eq!(store.sessions.list(ada, NOW).await.unwrap(), []);
    }
}

/// Starts a cluster of three masters.
pub(crate) async fn redis_cluster() -> Vec<Redis> {
    let masters: Vec<Redis> = (0..3)
        .map(|_| {
            // The port of a node's cluster bus is 10,000 higher.
            let port = std::iter::repeat_with(guard::free_port).find(|port| *port < 55_000).unwrap();
            Redis::launch("redis-server", port, &["--cluster-enabled", "yes"])
        })
        .collect();
    let addresses: Vec<String> = masters.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    let created =
        Command::new("redis-cli").args(["--cluster", "create"]).args(&addresses).arg("--cluster-yes").output().unwrap();
    assert!(created.status.success(), "{created:?}");
    wait::until("the cluster is complete", || async {
        masters.iter().all(|server| server.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    })
    .await;
    masters
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_runs_every_operation() {
    let masters = redis_cluster().await;
    // The URL needs the address of one node only.
    let store = store(&format!("redis-cluster://127.0.0.1:{}", masters[0].port()));
    // with 50 accounts, each of the three masters holds keys
    assert_all_operations_work_on(&store, 50).await;
    for server in &masters {
        assert_ne!(server.command(&["DBSIZE"]), "0", "a master holds no key");
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinel_runs_every_operation() {
    let master = Redis::with_port(DURABLE);
    let port = guard::free_port();
    let folder = guard::folder("sentinel");
    let file = folder.join("sentinel.conf");
    // the last number is the quorum
    let conf = format!("port {port}\ndir {}\nsentinel monitor main 127.0.0.1 {} 1\n", folder.display(), master.port());
    std::fs::write(&file, conf).unwrap();
    let _sentinel = Guard::start(&Spec {
        command: &["redis-server", file.to_str().unwrap(), "--sentinel"],
        stop: "KILL",
        folder: Some(&folder),
        ready: "+monitor",
        unprivileged: false,
    })
    .unwrap();
    let store = store(&format!("redis-sentinel://127.0.0.1:{port}?sentinelServiceName=main"));
    assert_all_operations_work(&store).await;
    store.close().await;
}

/// User names and passwords may contain any character.
#[tokio::test(flavor = "multi_thread")]
async fn password_with_special_characters_authenticates_on_port_and_socket() {
    let server = Redis::with_port(DURABLE);
    for (number, (password, encoded)) in [
        ("s3cr3t/pass", "s3cr3t%2Fpass"),
        ("pa ss", "pa%20ss"),
        ("pa\"ss", "pa%22ss"),
        ("pa'ss", "pa%27ss"),
        ("pa\\x20ss", "pa%5Cx20ss"),
        ("pässwörd#@?", "p%C3%A4ssw%C3%B6rd%23%40%3F"),
    ]
    .into_iter()
    .enumerate()
    {
        let user = format!("us\"er{number}");
        server.command(&["ACL", "SETUSER", &user, "on", &format!(">{password}"), "~*", "&*", "+@all"]);
        let credentials = format!("us%22er{number}:{encoded}");
        let socket = server.socket().display().to_string();
        // with and without a database number
        for url in [
            format!("redis://{credentials}@127.0.0.1:{}/1", server.port()),
            format!("redis+unix://{credentials}@localhost{socket}"),
            format!("redis+unix://{credentials}@{socket}?db=2"),
        ] {
            let store = store(&url);
            wait::until(&format!("the password is accepted: {password}"), || async {
                store.health.ping().await.is_ok()
            })
            .await;
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn password_only_url_authenticates_default_user() {
    let server = Redis::with_port(&["--requirepass", "s3cr3t pass", "--appendonly", "yes", "--appendfsync", "always"]);
    let store = store(&format!("redis://:s3cr3t%20pass@127.0.0.1:{}", server.port()));
    assert_all_operations_work(&store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_number_in_socket_url_selects_database() {
    let server = Redis::start();
    let store = store(&format!("{}?db=3", server.url()));
    create(&store, account(), session(1), NOW).await;
    let keyspace = server.command(&["INFO", "keyspace"]);
    assert!(keyspace.contains("db3:") && !keyspace.contains("db0:"), "{keyspace}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_is_reported_without_the_password() {
    let server = Redis::with_port(&["--requirepass", "s3cr3t"]);
    // a wrong password, and none
    for credentials in [":wr0ng-one@", ""] {
        let store = store_with(&format!("redis://{credentials}127.0.0.1:{}", server.port()), SHORT_TIMEOUT);
        let checked_message = |error: RedisError| {
            let text = format!("{error} {error:?}");
            assert!(!text.contains("wr0ng-one"), "{text}");
            assert!(matches!(error, RedisError::Unavailable(_)), "{text}");
            error.to_string()
        };
        wait::until("the error names the password, the setting and the address", || async {
            let ping = checked_message(store.health.ping().await.unwrap_err());
            let inspect = checked_message(store.health.inspect().await.unwrap_err());
            let address = format!("(redis.url, 127.0.0.1:{})", server.port());
            [ping, inspect].iter().all(|text| text.contains("password") && text.contains(&address))
        })
        .await;
        store.close().await;
    }
}

/// Redis 5 and older don't know HELLO.
#[tokio::test(flavor = "multi_thread")]
async fn redis_older_than_6_is_reported_with_its_version() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let old_redis = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                    let error = b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n";
                    stream.write_all(error).await.unwrap();
                }
            });
        }
    });
    let store = store_with(&format!("redis://127.0.0.1:{port}"), SHORT_TIMEOUT);
    wait::until("the error names the version", || async {
        store.health.ping().await.unwrap_err().to_string().contains("older than Redis 6.0")
    })
    .await;
    store.close().await;
    old_redis.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_connection_is_reported_with_cause_setting_and_address() {
    let port = guard::free_port();
    let store = store_with(&format!("redis://127.0.0.1:{port}"), SHORT_TIMEOUT);
    let expected = format!("Redis is unavailable: connection refused (redis.url, 127.0.0.1:{port})");
    wait::until("the error names the cause, the setting and the address", || async {
        store.health.ping().await.unwrap_err().to_string() == expected
    })
    .await;
    store.close().await;
}

/// Managed services fail over by pointing the host name at the new master. The old master keeps running as a replica, so
/// existing connections are not closed.
#[tokio::test(flavor = "multi_thread")]
async fn store_follows_failover_behind_one_address() {
    let (old, new) = (Redis::with_port(DURABLE), Redis::with_port(DURABLE));
    let port_text = |server: &Redis| server.port().to_string();
    new.command(&["REPLICAOF", "127.0.0.1", &port_text(&old)]);
    let target = Arc::new(AtomicU16::new(old.port()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // a TCP proxy, which stands for the host name
    let proxy = tokio::spawn({
        let target = Arc::clone(&target);
        async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let target = target.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut server = tokio::net::TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        }
    });
    let url = format!("redis://127.0.0.1:{port}");
    let (writing, idle) = (store(&url), store(&url));
    for store in [&writing, &idle] {
        create(store, account(), session(1), NOW).await;
    }

    new.command(&["REPLICAOF", "NO", "ONE"]);
    old.command(&["REPLICAOF", "127.0.0.1", &port_text(&new)]);
    target.store(new.port(), Ordering::SeqCst);
    wait::until("a write finds the new master", || async {
        writing.sessions.create(new_session(account(), session(2)), NOW).await.is_ok()
    })
    .await;
    // the finding `role` means that the Redis behind the connection is a replica
    wait::until("the health check of an idle node finds the new master", || async {
        idle.health.inspect().await.is_ok_and(|findings| findings.iter().all(|finding| finding.code != "role"))
    })
    .await;
    writing.close().await;
    idle.close().await;
    proxy.abort();
}

/// The health check names each missing right of a restricted user.
#[tokio::test(flavor = "multi_thread")]
async fn missing_acl_rights_are_findings() {
    let server = Redis::start();
    // in a rule, `~` precedes a pattern of keys, `&` a pattern of channels and `>` a password
    server.command(&[
        "ACL",
        "SETUSER",
        "without_dangerous",
        "on",
        ">pw",
        "~lk:*",
        "&lk:*",
        "+@all",
        "-@dangerous",
        "-@admin",
    ]);
    server.command(&["ACL", "SETUSER", "without_channels", "on", ">pw", "~lk:*", "resetchannels", "+@all"]);
    server.command(&["ACL", "SETUSER", "without_subscribe", "on", ">pw", "~lk:*", "&lk:*", "+@all", "-subscribe"]);
    server.command(&["ACL", "SETUSER", "without_keys", "on", ">pw", "~other:*", "&lk:*", "+@all"]);
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/redis.md")).unwrap();
    let documented_rule =
        document.lines().find_map(|line| line.strip_prefix("ACL SETUSER latchkey ")).expect("the documented rule");
    let words = documented_rule.split(' ').map(|word| if word.starts_with('>') { ">pw" } else { word });
    let set_user: Vec<&str> = ["ACL", "SETUSER", "latchkey"].into_iter().chain(words).collect();
    server.command(&set_user);
    for (user, expected) in [
        ("latchkey", vec![]),
        ("without_dangerous", vec![("info", Severity::Warning)]),
        ("without_channels", vec![("channel", Severity::Warning)]),
        ("without_subscribe", vec![("channel", Severity::Warning)]),
        ("without_keys", vec![("rights", Severity::Error)]),
    ] {
        let store = store(&format!("redis+unix://{user}:pw@{}", server.socket().display()));
        // so that `inspect` knows whether the user may subscribe
        store.health.probe_subscription().await.unwrap();
        let findings = store.health.inspect().await.unwrap();
        let codes: Vec<_> = findings.iter().map(|finding| (finding.code, finding.severity)).collect();
        assert_eq!(codes, expected, "{user}: {findings:?}");
        if user == "latchkey" {
            assert_all_operations_work(&store).await;
        }
        store.close().await;
    }
}

/// A server with the settings that docs/redis.md prints has no findings.
#[tokio::test(flavor = "multi_thread")]
async fn printed_persistence_settings_are_without_findings() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/redis.md")).unwrap();
    let printed = document.split("```\n").find(|block| block.starts_with("appendonly ")).expect("the printed settings");
    let settings: Vec<_> = printed.lines().filter_map(|line| line.split_once(' ')).collect();
    assert_eq!(settings.len(), 3, "{printed}");
    let arguments: Vec<String> =
        settings.iter().flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()]).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Redis::start_with(&arguments);
    let store = server.store();
    store.health.probe_subscription().await.unwrap();
    let findings = store.health.inspect().await.unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    store.close().await;
}

/// A running node notices that SUBSCRIBE is denied, and subscribes once it is allowed.
#[tokio::test(flavor = "multi_thread")]
async fn denied_subscription_is_a_finding_until_it_is_allowed() {
    let server = Redis::start();
    server.command(&["ACL", "SETUSER", "without_subscribe", "on", ">pw", "~lk:*", "&lk:*", "+@all", "-subscribe"]);
    let store = store(&format!("redis+unix://without_subscribe:pw@{}", server.socket().display()));
    store.revocation_log.start_replication();
    let is_denied = || async {
        let findings = store.health.inspect().await.unwrap();
        findings.iter().any(|finding| finding.code == "channel" && finding.detail.contains("+subscribe"))
    };
    wait::until("the denied subscription is a finding", &is_denied).await;
    server.command(&["ACL", "SETUSER", "without_subscribe", "+subscribe"]);
    wait::until("the subscription is allowed", || async { !is_denied().await }).await;
    wait::until("the session cache is valid", || async { store.revocation_log.cache_is_valid() }).await;
    store.close().await;
}

#[tokio::test]
async fn invalid_url_is_refused_and_not_shown() {
    for url in [
        "http://:wr0ng-one@host",
        "redis://:wr0ng-one@",
        ":wr0ng-one@host:6379",
        "redis-sentinel://:wr0ng-one@host",
        "redis://:wr0ng-one@host?db=7",
    ] {
        // `connect` gets the URL as its first argument, and does not read that of the settings
        let settings = RedisSettings { url: None, ..settings("redis://host") };
        let result = RedisStores::connect(&url.into(), &settings, &test_cluster::cache(), &Cores::current_runtime());
        let Err(error) = result else { panic!("{url} is accepted") };
        let text = format!("{error} {error:?}");
        assert!(text.contains("redis.url") && !text.contains("wr0ng-one"), "{text}");
    }
}

/// The server demands a client certificate that its own authority signed.
#[tokio::test(flavor = "multi_thread")]
async fn tls_client_certificate_is_presented() {
    let folder = tempfile::tempdir().unwrap();
    certificates::create(folder.path());
    let path = |name: &str| folder.path().join(name);
    let port = guard::free_port();
    let _server = tls_server(folder.path(), port, ClientCertificate::Required);
    let without_certificate = RedisSettings {
        tls_ca: Some(path("ca.pem")),
        command_timeout: SHORT_TIMEOUT,
        ..settings(&format!("rediss://127.0.0.1:{port}"))
    };
    let refused = connect(&without_certificate);
    wait::until("the error names the setting", || async {
        refused.health.ping().await.unwrap_err().to_string().contains("redis.tls_cert")
    })
    .await;
    refused.close().await;

    let with_certificate = RedisSettings {
        // the certificate is not restricted to servers, so a client can present it
        tls_cert: Some(path("server.pem")),
        tls_key: Some(path("server.key")),
        command_timeout: Duration::from_secs(5),
        ..without_certificate.clone()
    };
    let store = connect(&with_certificate);
    assert_all_operations_work(&store).await;
    store.close().await;

    let missing = RedisSettings { tls_key: Some(path("nothing.key")), ..with_certificate };
    let result = RedisStores::connect(
        missing.url.as_ref().unwrap(),
        &missing,
        &test_cluster::cache(),
        &Cores::current_runtime(),
    );
    let Err(error) = result else { panic!("a missing key file is accepted") };
    assert!(error.to_string().starts_with("redis.tls_key: "), "{error}");
}

/// Whether a TLS server requires a certificate of its clients.
#[derive(Clone, Copy)]
enum ClientCertificate {
    Required,
    NotRequested,
}

/// Starts a Redis that accepts TLS on this port, with the certificate in the folder.
fn tls_server(folder: &std::path::Path, port: u16, client_certificate: ClientCertificate) -> Redis {
    let auth_clients = match client_certificate {
        ClientCertificate::Required => "yes",
        ClientCertificate::NotRequested => "no",
    };
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let arguments = [
        ("--tls-port", port.to_string()),
        ("--tls-cert-file", path("server.pem")),
        ("--tls-key-file", path("server.key")),
        ("--tls-ca-cert-file", path("ca.pem")),
        ("--tls-auth-clients", auth_clients.to_owned()),
    ];
    let arguments: Vec<&str> = arguments.iter().flat_map(|(name, value)| [*name, value.as_str()]).collect();
    Redis::start_with(&arguments)
}

/// The system's certificate authorities are trusted, or those of `SSL_CERT_FILE` or `SSL_CERT_DIR`. The test starts itself in
/// a child process, because it cannot set its own environment.
#[tokio::test(flavor = "multi_thread")]
async fn tls_with_system_authorities_connects() {
    const URL_VARIABLE: &str = "LATCHKEY_TEST_TLS_URL";
    // in the child process
    if let Ok(url) = std::env::var(URL_VARIABLE) {
        let store = store(&url);
        assert_all_operations_work(&store).await;
        store.close().await;
        return;
    }

    let folder = tempfile::tempdir().unwrap();
    certificates::create(folder.path());
    let port = guard::free_port();
    let _server = tls_server(folder.path(), port, ClientCertificate::NotRequested);
    let url = format!("rediss://127.0.0.1:{port}");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["store::deployments::tls_with_system_authorities_connects", "--exact", "--nocapture"])
        .env(URL_VARIABLE, &url)
        .env("SSL_CERT_FILE", folder.path().join("ca.pem"))
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "{child:?}");

    // In this process, which has no `SSL_CERT_FILE`, the authority is unknown.
    let store = store_with(&url, SHORT_TIMEOUT);
    wait::until("the error names the authority", || async {
        store.health.ping().await.unwrap_err().to_string().contains("unknown authority (redis.tls_ca)")
    })
    .await;
    store.close().await;
}
