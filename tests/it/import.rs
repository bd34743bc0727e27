//! `latchkey user import`: imported accounts sign in, refused records are reported, interrupted imports resume.

use std::{
    cell::Cell,
    fmt::Write,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use latchkey::{
    crypto::seal::Sealer,
    domain::{account::Identifier, entropy::Entropy},
    password::FirebaseHashConfig,
    service::import_accounts::{DEFAULT_BATCH, Format, ImportError, Importer, Progress, Summary, import},
    store::sql::Sql,
};
use tokio::io::{AsyncBufRead, AsyncRead, BufReader, ReadBuf};

use crate::harness::{
    client::{PASSWORD, Tokens},
    postgres,
    test_cluster::TestCluster,
};

/// The length of a fingerprint: the first bytes of a source, by which an interrupted import recognizes the source.
const FINGERPRINT_BYTES: u64 = 64 * 1024;

/// Hashes of [`PASSWORD`], made by argon2-cffi, bcrypt, and Python's hashlib and passlib.
/// Each is cheap to check, and has a name, which tests use as the username.
const HASHES: [(&str, &str); 8] = [
    ("argon2id", "$argon2id$v=19$m=256,t=2,p=1$c2l4dGVlbiBieXRlLXNhbA$po0WFnpifCbP1nuZu91yGD2dGNwq5zdC4rYCO6zunGs"),
    ("argon2i", "$argon2i$v=19$m=256,t=2,p=1$c2l4dGVlbiBieXRlLXNhbA$2VtXLmQwJnn/v2CwlKzUKhLwLvIxoApWWtgdr93Q3pc"),
    ("bcrypt", "$2b$04$wTcw7pO/rikcP7ssG4SKZuTsXpwZrBZaLETO/NgjhQh6dKrFUicC."),
    ("bcrypt-php", "$2y$04$iNBdjFGh8T4ck.x7utIz/e.GtdYGXENLqAKDZboAjEaP5ImH1kCPu"),
    ("scrypt", "$scrypt$ln=4,r=8,p=1$c2l4dGVlbiBieXRlLXNhbA$r7Wdd/gvj0biN61Cu2/XqD6IBWU/58ngz+Aq7SC1gWo"),
    ("scrypt-passlib", "$scrypt$ln=4,r=8,p=1$jTGmVApBSAkBACCEkNKacw$0XAQcjUqqqOdmqik6hBHO4dIj5ztWR3J2VZDpQ908SU"),
    ("pbkdf2-sha256", "$pbkdf2-sha256$i=1000,l=32$c2l4dGVlbiBieXRlLXNhbA$woX6EHrMRJEoo7WoDBjrl/ljV9fmKL2iZLlUiA+R12A"),
    (
        "pbkdf2-sha512",
        "$pbkdf2-sha512$i=1000,l=64$c2l4dGVlbiBieXRlLXNhbA$1JoEAgZTWKdxMzaakwkQrIFsCAPc6ndXQLiT7wKqW4ySbxl3HpD3WKWM5FLmzx/wF04nnZanLwjPuRoATTb94g",
    ),
];

/// Imports a source into the cluster's database, in batches of `batch` records. Returns the result and the reported progress.
async fn run(
    cluster: &TestCluster,
    sql: &Sql,
    batch: u64,
    source: impl AsyncBufRead + Unpin,
) -> (Result<Summary, ImportError>, Vec<Progress>) {
    run_format(cluster, sql, &Format::Native, batch, source).await
}

/// Like [`run`], for a source in another format.
async fn run_format(
    cluster: &TestCluster,
    sql: &Sql,
    format: &Format,
    batch: u64,
    source: impl AsyncBufRead + Unpin,
) -> (Result<Summary, ImportError>, Vec<Progress>) {
    let importer = Importer {
        sql,
        clock: &cluster.clock,
        entropy: &Entropy::system(),
        sealer: &Sealer::new(&cluster.config.secrets),
        password: &cluster.config.password,
        format,
        max_emails: cluster.config.account.max_emails,
        batch,
    };
    let mut reported = Vec::new();
    let result = import(&importer, source, "accounts.jsonl", &mut |progress| reported.push(progress)).await;
    (result, reported)
}

/// Records of the accounts 1 to `count`, one a line.
fn accounts(count: usize) -> String {
    (1..=count).map(line).collect()
}

/// The record of account `number`; the records use all kinds of hashes in turn.
fn line(number: usize) -> String {
    let (_, hash) = HASHES[number % HASHES.len()];
    format!("{{\"email\":\"{number}@example.com\",\"password_hash\":\"{hash}\"}}\n")
}

/// The number and the reason of each record that was reported as refused.
fn refused_records(reported: &[Progress]) -> Vec<(u64, &'static str)> {
    let refused = reported.iter().filter_map(|progress| match progress {
        Progress::Refused { record, reason } => Some((*record, reason.code())),
        _ => None,
    });
    refused.collect()
}

async fn count_accounts(sql: &Sql) -> usize {
    sql.list_accounts(None, 100_000).await.unwrap().len()
}

/// A source that fails after the first `bytes_before` bytes of the text.
fn broken(text: &str, bytes_before: usize) -> impl AsyncBufRead + Unpin {
    struct Broken;
    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::other("disk removed")))
        }
    }
    let before = io::Cursor::new(text.as_bytes()[..bytes_before].to_vec());
    BufReader::new(tokio::io::AsyncReadExt::chain(before, Broken))
}

/// Imports an account with each kind of hash, and checks that its first sign-in upgrades the hash.
async fn check_sign_in_and_upgrade(cluster: TestCluster) {
    let mut file = String::new();
    for (name, hash) in HASHES {
        let line = serde_json::json!({
            "email": format!("{name}@Example.com"), "username": name, "password_hash": hash, "roles": ["staff"],
            "created_at": "2019-05-06T07:08:09Z",
        });
        writeln!(file, "{line}").unwrap();
    }
    let sql = cluster.sql().await;
    let (done, reported) = run(&cluster, &sql, DEFAULT_BATCH, file.as_bytes()).await;
    let count = HASHES.len() as u64;
    assert_eq!(done.unwrap(), Summary { records: count, imported: count, ..Summary::default() });
    assert_eq!(reported, [Progress::Stored { record: count, bytes: file.len() as u64 }]);

    let node = cluster.node().await;
    for (name, hash) in HASHES {
        node.try_login(name, "not the password").await.expect(401);
        let find_account = || async { sql.find_account(&Identifier::parse(name)).await.unwrap().unwrap() };
        assert_eq!(find_account().await.password_hash.unwrap().expose(), hash, "a wrong password changes nothing");

        let tokens = Tokens::of(&node.try_login(&format!("{name}@example.com"), PASSWORD).await.expect(200));
        let me = node.get("/v1/me", &tokens.access).await.expect(200).json();
        assert_eq!(me["email"], format!("{name}@Example.com"));
        assert_eq!(me["roles"][0], "staff");
        assert_eq!(me["created_at"], "2019-05-06T07:08:09.000Z");
        // The hash now has the parameters of the cluster's configuration.
        let upgraded = find_account().await.password_hash.unwrap();
        assert!(upgraded.expose().starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{name}: {}", upgraded.expose());

        node.try_login(name, PASSWORD).await.expect(200);
        assert_eq!(find_account().await.password_hash, Some(upgraded), "the hash is upgraded once");
    }
    sql.close().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_account_signs_in_and_its_hash_becomes_argon2id() {
    check_sign_in_and_upgrade(TestCluster::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_account_signs_in_on_postgres() {
    let mut cluster = TestCluster::new();
    let server = postgres::shared();
    cluster.config.database.url = server.url(&server.create_database().await).as_str().into();
    check_sign_in_and_upgrade(cluster).await;
}

#[tokio::test]
async fn refused_records_are_reported_and_the_others_imported() {
    let cluster = TestCluster::new();
    let sql = cluster.sql().await;
    let hash = HASHES[0].1;
    let account = |rest: &str| format!("{{\"password_hash\":\"{hash}\",{rest}}}");
    let lines = [
        account(r#""email":"ann@example.com","username":"ann""#),
        "{\"email\":".to_owned(),
        String::new(),
        account(r#""email":"ANN@example.com""#),
        account(r#""email":"ben@example.com","username":"Ann""#),
        account(r#""email":"ben@example.com","usrname":"ben""#),
        "x".repeat(100_000),
        "  \t ".to_owned(),
        account(r#""email":"cy@example.com","roles":["a b"]"#),
        account(r#""email":"dee@example.com""#).replace("argon2id", "md5"),
        account(r#""email":"ben@example.com","username":"ben""#),
    ];
    let expected = [
        (2, "not_json"),
        (4, "email_taken"),
        (5, "username_taken"),
        (6, "unknown_field"),
        (7, "line_too_long"),
        (9, "invalid_role"),
        (10, "invalid_password_hash"),
    ];
    // The blank lines 3 and 8 are ignored.
    let (done, reported) = run(&cluster, &sql, DEFAULT_BATCH, lines.join("\n").as_bytes()).await;
    assert_eq!(done.unwrap(), Summary { records: 11, imported: 2, ignored: 2, refused: 7, ..Summary::default() });
    assert_eq!(refused_records(&reported), expected);
    let reports = format!("{reported:?}");
    assert!(!reports.contains("po0WFn"), "a hash was reported: {reports}");

    // The second import has other line ends, and each record in a batch of its own. It refuses also the records that the first import has
    // stored.
    let (done, reported) = run(&cluster, &sql, 1, lines.join("\r\n").as_bytes()).await;
    assert_eq!(done.unwrap(), Summary { records: 11, ignored: 2, refused: 9, ..Summary::default() });
    assert_eq!(refused_records(&reported)[0], (1, "email_taken"));
    assert_eq!(refused_records(&reported)[8], (11, "email_taken"));
    assert_eq!(count_accounts(&sql).await, 2);
}

#[tokio::test]
async fn interrupted_import_resumes_after_the_stored_records() {
    let cluster = TestCluster::new();
    let sql = cluster.sql().await;
    // Lines 100, 1000 and 1100 are bad. The source fails in the middle of line 1000.
    let mut lines: Vec<String> = (1..=1234).map(line).collect();
    for bad in [100, 1000, 1100] {
        lines[bad - 1] = "?\n".to_owned();
    }
    let text = lines.concat();
    let middle_of_line_1000 = lines[..999].concat().len() + 1;
    assert!(middle_of_line_1000 as u64 > FINGERPRINT_BYTES, "the source fails after the bytes of the fingerprint");

    let (stopped, reported) = run(&cluster, &sql, 100, broken(&text, middle_of_line_1000)).await;
    let Err(ImportError::Read { record: 999, source }) = stopped else { panic!("{stopped:?}") };
    assert_eq!(source.to_string(), "disk removed");
    assert_eq!(refused_records(&reported), [(100, "not_json")]);
    let Some(Progress::Stored { record: 900, .. }) = reported.last() else { panic!("{reported:?}") };
    assert_eq!(count_accounts(&sql).await, 899, "900 records, of which one was refused");

    // Another source starts at its first line.
    let (done, reported) = run(&cluster, &sql, 100, line(2).as_bytes()).await;
    assert_eq!(done.unwrap().processed_before, 0);
    assert_eq!(refused_records(&reported), [(1, "email_taken")]);
    // A source that has become shorter is refused.
    let shorter = &text[..lines[..500].concat().len()];
    let (stopped, _) = run(&cluster, &sql, 100, shorter.as_bytes()).await;
    assert!(matches!(stopped, Err(ImportError::Shorter { stored: 900, last: 500 })), "{stopped:?}");

    // 334 records remain, of which two are bad.
    let (done, reported) = run(&cluster, &sql, 100, text.as_bytes()).await;
    assert_eq!(
        done.unwrap(),
        Summary { records: 1234, imported: 332, processed_before: 900, refused: 2, ..Summary::default() }
    );
    assert_eq!(reported[0], Progress::Resumed { record: 900, bytes: lines[..900].concat().len() as u64 });
    assert_eq!(refused_records(&reported), [(1000, "not_json"), (1100, "not_json")]);
    assert_eq!(count_accounts(&sql).await, 1231, "all but the three bad lines");

    // After completion, the same import starts at the first line, and refuses all records.
    let (done, _) = run(&cluster, &sql, DEFAULT_BATCH, text.as_bytes()).await;
    assert_eq!(done.unwrap(), Summary { records: 1234, refused: 1234, ..Summary::default() });
}

/// A source that generates lines on demand and counts their bytes.
struct Generated {
    /// The number of the next line.
    next: usize,
    /// The number of the last line.
    last: usize,
    /// The unread bytes of the line before `next`.
    rest: Vec<u8>,
    /// The number of bytes that were read.
    read: Arc<AtomicU64>,
}

impl AsyncRead for Generated {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_empty() && self.next <= self.last {
            self.rest = line(self.next).into_bytes();
            self.next += 1;
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..count]);
        self.rest.drain(..count);
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

/// Imports `count` records, and returns the largest number of bytes that were read and not stored yet.
async fn max_bytes_in_flight(count: usize) -> u64 {
    let cluster = TestCluster::new();
    let sql = cluster.sql().await;
    let read = Arc::new(AtomicU64::new(0));
    let source = Generated { next: 1, last: count, rest: Vec::new(), read: Arc::clone(&read) };
    let importer = Importer {
        sql: &sql,
        clock: &cluster.clock,
        entropy: &Entropy::system(),
        sealer: &Sealer::new(&cluster.config.secrets),
        password: &cluster.config.password,
        format: &Format::Native,
        max_emails: cluster.config.account.max_emails,
        batch: 100,
    };
    let stored_bytes = Cell::new(0);
    let max_in_flight = Cell::new(0);
    let mut report = |progress| {
        let Progress::Stored { bytes, .. } = progress else { panic!("{progress:?}") };
        // when the batch was read, but not stored yet
        let in_flight = read.load(Ordering::Relaxed) - stored_bytes.get();
        max_in_flight.set(max_in_flight.get().max(in_flight));
        stored_bytes.set(bytes);
    };
    let done = import(&importer, BufReader::new(source), "generated", &mut report).await.unwrap();
    assert_eq!(done.imported, count as u64);
    assert_eq!(stored_bytes.get(), accounts(count).len() as u64);
    max_in_flight.get()
}

#[tokio::test]
async fn import_memory_is_independent_of_the_number_of_records() {
    let few = max_bytes_in_flight(1_000).await;
    let many = max_bytes_in_flight(10_000).await;
    // The fingerprint, a batch of 100 records of at most 200 bytes, and the reader's buffer (8 KiB).
    let bound = FINGERPRINT_BYTES + 100 * 200 + 8 * 1024;
    assert!(few <= bound, "{few} of {bound} bytes");
    assert!(many <= bound, "{many} of {bound} bytes");
}

#[tokio::test]
async fn imported_account_keeps_id_times_and_states() {
    let cluster = TestCluster::new();
    let sql = cluster.sql().await;
    let id = "8281cec3-5b48-46eb-a41d-72c15ec3f9e2";
    let hash = HASHES[0].1;
    let lines = [
        serde_json::json!({
            "id": id, "email": "ann@example.com", "email_verified": true, "password_hash": hash,
            "created_at": "2019-05-06T07:08:09Z", "updated_at": "2020-05-06T07:08:09Z",
        }),
        serde_json::json!({ "email": "barred@example.com", "password_hash": hash, "disabled": true }),
        serde_json::json!({ "email": "social@example.com", "password_hash": null }),
        serde_json::json!({ "id": id, "email": "other@example.com", "password_hash": hash }),
    ];
    let file: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let (done, reported) = run(&cluster, &sql, DEFAULT_BATCH, file.as_bytes()).await;
    assert_eq!(done.unwrap().imported, 3);
    assert_eq!(refused_records(&reported), [(4, "id_taken")]);

    let ann = sql.find_account(&Identifier::parse("ann@example.com")).await.unwrap().unwrap();
    assert_eq!(ann.updated_at.to_string(), "2020-05-06T07:08:09.000Z");
    let node = cluster.node().await;
    let tokens = Tokens::of(&node.try_login("ann@example.com", PASSWORD).await.expect(200));
    let me = node.get("/v1/me", &tokens.access).await.expect(200).json();
    assert_eq!(me["id"], id);
    assert_eq!(me["email_verified"], true);
    // a disabled account, one without a password, and none: the response is the same for each
    for email in ["barred@example.com", "social@example.com", "nobody@example.com"] {
        let refused = node.try_login(email, PASSWORD).await.expect(401).json();
        assert_eq!(refused["code"], "invalid_credentials", "{email}");
    }
    sql.close().await;
}

/// A bcrypt hash covers the first 72 bytes of a password. A typing error after those bytes passes the check, and must not
/// become part of the password when the hash is upgraded.
#[tokio::test]
async fn bcrypt_account_with_long_password_is_not_locked_out_by_a_typing_error() {
    let cluster = TestCluster::new();
    let sql = cluster.sql().await;
    let long = "0123456789".repeat(9);
    // the hash of `long`
    let hash = "$2b$04$mLi6xYGTlmU7e8ngfWeST.Rc8LY9o0ZCp5Scwx5InsXqhSstCH.FW";
    let line = serde_json::json!({ "email": "tail@example.com", "password_hash": hash }).to_string();
    let (done, _) = run(&cluster, &sql, DEFAULT_BATCH, line.as_bytes()).await;
    done.unwrap();
    let node = cluster.node().await;
    // wrong in the last of its 90 bytes, then cut off after 72
    node.try_login("tail@example.com", &format!("{}x", &long[..89])).await.expect(200);
    node.try_login("tail@example.com", &long[..72]).await.expect(200);
    node.try_login("tail@example.com", &long).await.expect(200);
    sql.close().await;
}

/// The export files in `tests/fixtures/import` hold accounts whose password is [`PASSWORD`], others whose state forbids a
/// sign-in, and records that are not accounts. An address begins with `no-` if its account can't sign in, and contains `verified` or
/// `barred` if its account is verified or disabled.
#[tokio::test]
async fn export_files_of_other_systems_are_imported() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/import");
    let config = std::fs::read_to_string(format!("{folder}/firebase-hash-config.txt")).unwrap();
    let firebase = Format::Firebase(FirebaseHashConfig::parse(&config).unwrap());
    for (file, format, imported, refused) in [
        ("django.json", Format::Django, 8, &[(11, "missing_field")][..]),
        ("keycloak.json", Format::Keycloak, 5, &[(6, "invalid_password_hash")]),
        ("auth0.ndjson", Format::Auth0, 3, &[]),
        ("firebase.json", firebase, 3, &[]),
        ("supabase.csv", Format::Supabase, 3, &[]),
        ("supabase.json", Format::Supabase, 2, &[]),
    ] {
        let cluster = TestCluster::new();
        let sql = cluster.sql().await;
        let text = std::fs::read(format!("{folder}/{file}")).unwrap();
        // in batches of two, so that each file has several
        let (done, reported) = run_format(&cluster, &sql, &format, 2, &text[..]).await;
        assert_eq!(done.unwrap().imported, imported, "{file}: {reported:?}");
        assert_eq!(refused_records(&reported), refused, "{file}");
        let node = cluster.node().await;
        for account in sql.list_accounts(None, 100).await.unwrap() {
            let email = account.email.as_str();
            let status = if email.starts_with("no-") { 401 } else { 200 };
            node.try_login(email, PASSWORD).await.expect(status);
            assert_eq!(account.email_verified, email.contains("verified"), "{file}: {email}");
            assert_eq!(account.disabled_at.is_some(), email.contains("barred"), "{file}: {email}");
        }
        sql.close().await;
        node.stop().await;
    }
}
