//! The store wherever Redis may be: in a cluster, behind Sentinel, over TLS, with a password, on a unix socket.

use std::{process::Command, time::Duration};

use latchkey::{
    domain::{
        event::Reason,
        session::{Generation, Rotation},
    },
    runtime::Cores,
    store::redis::{RedisError, RedisStores},
};

use super::server::{DURABLE, GRACE, IDLE, NOW, Server, account, create, session, store, store_with};
use crate::harness::{
    guard::{self, Guard, Spec},
    test_cluster, wait,
};

/// For what isn't going to work.
const IMPATIENT: Duration = Duration::from_millis(200);

/// Everything that can be done, on as many accounts.
async fn everything_works(store: &RedisStores, accounts: usize) {
    wait::until("it is connected", || async { store.health.ping().await.is_ok() }).await;
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
        assert!(store.sessions.revoke(ada, session(2), Reason::Logout, NOW).await.unwrap());
        assert_eq!(store.sessions.list(ada, NOW).await.unwrap().len(), 2);
        assert_eq!(store.sessions.revoke_all(ada, Some(session(3)), None, Reason::Revoked, NOW).await.unwrap(), 1);
        assert_eq!(store.sessions.revoke_all(ada, None, None, Reason::Disabled, NOW).await.unwrap(), 1);
        assert_eq!(store.sessions.list(ada, NOW).await.unwrap(), []);
    }
}

/// Three masters that make up a cluster.
pub(crate) async fn cluster() -> Vec<Server> {
    let masters: Vec<Server> = (0..3)
        .map(|_| {
            // a node's second port is 10,000 higher
            let port = std::iter::repeat_with(guard::free_port).find(|port| *port < 55_000).unwrap();
            Server::start("redis-server", port, &["--cluster-enabled", "yes"])
        })
        .collect();
    let addresses: Vec<String> = masters.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    let made =
        Command::new("redis-cli").args(["--cluster", "create"]).args(&addresses).arg("--cluster-yes").output().unwrap();
    assert!(made.status.success(), "{made:?}");
    wait::until("the cluster is whole", || async {
        masters.iter().all(|server| server.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    })
    .await;
    masters
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster() {
    let masters = cluster().await;
    // one address is enough
    let store = store(&format!("redis-cluster://127.0.0.1:{}", masters[0].port()));
    everything_works(&store, 50).await;
    for server in &masters {
        assert_ne!(server.command(&["DBSIZE"]), "0", "every master has its share");
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_sentinel() {
    let master = Server::with_port(DURABLE);
    let port = guard::free_port();
    let folder = guard::folder("sentinel");
    let file = folder.join("sentinel.conf");
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
    everything_works(&store, 1).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_password_on_a_port_and_on_a_socket() {
    let server = Server::with_port(&["--requirepass", "s3cr3t/pass"]);
    for url in [
        format!("redis://:s3cr3t%2Fpass@127.0.0.1:{}", server.port()),
        format!("redis://default:s3cr3t%2Fpass@127.0.0.1:{}/0", server.port()),
        format!("redis+unix://:s3cr3t%2Fpass@localhost{}", server.socket().display()),
    ] {
        let store = store(&url);
        everything_works(&store, 1).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_but_never_shown() {
    let server = Server::with_port(&["--requirepass", "s3cr3t"]);
    for credentials in [":wr0ng-one@", ""] {
        let store = store_with(&format!("redis://{credentials}127.0.0.1:{}", server.port()), IMPATIENT);
        let told = |error: RedisError| {
            let text = format!("{error} {error:?}");
            assert!(!text.contains("wr0ng-one"), "{text}");
            assert!(matches!(error, RedisError::Unavailable(_)), "{text}");
            error.to_string()
        };
        wait::until("it says that the password is wrong", || async {
            let ping = told(store.health.ping().await.unwrap_err());
            let inspect = told(store.health.inspect().await.unwrap_err());
            [ping, inspect].iter().all(|text| text.contains("password") || text.contains("uthentication"))
        })
        .await;
        store.close().await;
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_but_never_shown() {
    for url in
        ["http://:wr0ng-one@host", "redis://:wr0ng-one@", ":wr0ng-one@host:6379", "redis-sentinel://:wr0ng-one@host"]
    {
        let settings = latchkey::config::RedisSettings {
            url: None,
            prefix: "lk:".to_owned(),
            pool_size: 1,
            command_timeout: Duration::from_secs(1),
            event_retention: Duration::from_hours(1),
        };
        let Err(error) =
            RedisStores::connect(&url.into(), &settings, &test_cluster::cache(), &Cores::current_runtime())
        else {
            panic!("{url}")
        };
        let text = format!("{error} {error:?}");
        assert!(text.contains("redis.url") && !text.contains("wr0ng-one"), "{text}");
    }
}

/// The certificates of the system count, and those in the file or folder that `SSL_CERT_FILE` or `SSL_CERT_DIR` name:
/// since a test can't set its own environment, it runs itself again.
#[tokio::test(flavor = "multi_thread")]
async fn over_tls() {
    const URL: &str = "LATCHKEY_TEST_TLS_URL";
    if let Ok(url) = std::env::var(URL) {
        let store = store(&url);
        everything_works(&store, 1).await;
        store.close().await;
        return;
    }

    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let port = guard::free_port().to_string();
    let _server = Server::start(
        "redis-server",
        0,
        &[
            "--tls-port",
            &port,
            "--tls-cert-file",
            &path("server.pem"),
            "--tls-key-file",
            &path("server.key"),
            "--tls-ca-cert-file",
            &path("ca.pem"),
            "--tls-auth-clients",
            "no",
        ],
    );
    let url = format!("rediss://127.0.0.1:{port}");
    let itself = Command::new(std::env::current_exe().unwrap())
        .args(["store::places::over_tls", "--exact", "--nocapture"])
        .env(URL, &url)
        .env("SSL_CERT_FILE", path("ca.pem"))
        .output()
        .unwrap();
    assert!(itself.status.success(), "{itself:?}");
    assert!(String::from_utf8_lossy(&itself.stdout).contains("1 passed"), "{itself:?}");

    // nobody else vouches for it
    let store = store_with(&url, IMPATIENT);
    wait::until("it says that the certificate is wrong", || async {
        store.health.ping().await.unwrap_err().to_string().contains("ertificate")
    })
    .await;
    store.close().await;
}

/// `ca.pem`, `server.pem` and `server.key`.
fn certificates(folder: &std::path::Path) {
    let openssl = |words: &str| {
        let made = Command::new("openssl").args(words.split(' ')).current_dir(folder).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(&format!("req -x509 {new} -keyout ca.key -out ca.pem -subj /CN=test-ca"));
    openssl(&format!("req {new} -keyout server.key -out server.csr -subj /CN=test-redis").replace(" -days 2", ""));
    std::fs::write(folder.join("extensions"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.pem",
    );
}
