//! Accounts brought from elsewhere: who was imported signs in, what was wrong is named, what was interrupted goes on.

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
    domain::account::Identifier,
    service::import_accounts::{ImportError, Importer, Progress, Summary, import},
    store::sql::Sql,
};
use tokio::io::{AsyncBufRead, AsyncRead, BufReader, ReadBuf};

use crate::harness::{
    client::{PASSWORD, Tokens},
    postgres,
    test_cluster::TestCluster,
};

/// [`PASSWORD`] as other systems keep it: made by argon2-cffi, bcrypt, and Python's hashlib and passlib.
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

/// An import into the cluster's database, and what it told on its way.
async fn run(
    cluster: &TestCluster,
    sql: &Sql,
    batch: u64,
    source: impl AsyncBufRead + Unpin,
) -> (Result<Summary, ImportError>, Vec<Progress>) {
    let (entropy, password) = (latchkey::domain::entropy::Entropy::system(), &cluster.config.password);
    let importer = Importer { sql, clock: &cluster.clock, entropy: &entropy, password, batch };
    let mut told = Vec::new();
    let done = import(&importer, source, "accounts.jsonl", &mut |progress| told.push(progress)).await;
    (done, told)
}

async fn open(cluster: &TestCluster) -> Sql {
    let sql = Sql::connect(&cluster.config.database).await.unwrap();
    sql.migrate().await.unwrap();
    sql
}

/// Lines 1 to `count`, each an account.
fn accounts(count: usize) -> String {
    (1..=count).map(line).collect()
}

fn line(number: usize) -> String {
    format!("{{\"email\":\"{number}@example.com\",\"password_hash\":\"{}\"}}\n", HASHES[number % HASHES.len()].1)
}

fn bad_lines(told: &[Progress]) -> Vec<(u64, &'static str)> {
    let bad = told.iter().filter_map(|progress| match progress {
        Progress::Bad { line, reason } => Some((*line, reason.code())),
        _ => None,
    });
    bad.collect()
}

async fn emails(sql: &Sql) -> usize {
    sql.list_accounts(None, 100_000).await.unwrap().len()
}

/// A source that breaks after so many bytes.
fn broken(text: &str, after: usize) -> impl AsyncBufRead + Unpin {
    struct Broken;
    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::other("the disk was pulled out")))
        }
    }
    let before = io::Cursor::new(text.as_bytes()[..after].to_vec());
    BufReader::new(tokio::io::AsyncReadExt::chain(before, Broken))
}

async fn everyone_signs_in_and_is_upgraded(cluster: TestCluster) {
    let mut file = String::new();
    for (name, hash) in HASHES {
        let line = serde_json::json!({
            "email": format!("{name}@Example.com"), "username": name, "password_hash": hash, "roles": ["staff"],
            "created_at": "2019-05-06T07:08:09Z",
        });
        writeln!(file, "{line}").unwrap();
    }
    let sql = open(&cluster).await;
    let (done, told) = run(&cluster, &sql, 500, file.as_bytes()).await;
    let count = HASHES.len() as u64;
    assert_eq!(done.unwrap(), Summary { lines: count, imported: count, skipped_before: 0, bad: 0 });
    assert_eq!(told, [Progress::Stored { line: count, bytes: file.len() as u64 }]);

    let node = cluster.node().await;
    for (name, hash) in HASHES {
        node.try_login(name, "not the password").await.expect(401);
        let stored = || async { sql.find_account(&Identifier::parse(name)).await.unwrap().unwrap() };
        assert_eq!(stored().await.password_hash.expose(), hash, "a wrong password changes nothing");

        let tokens = Tokens::of(&node.try_login(&format!("{name}@example.com"), PASSWORD).await.expect(200));
        let me = node.get("/v1/me", &tokens.access).await.expect(200).json();
        assert_eq!(
            (me["email"].as_str(), me["roles"][0].as_str()),
            (Some(&*format!("{name}@Example.com")), Some("staff"))
        );
        assert_eq!(me["created_at"], "2019-05-06T07:08:09.000Z");
        let upgraded = stored().await.password_hash;
        assert!(upgraded.expose().starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{name}: {}", upgraded.expose());

        node.try_login(name, PASSWORD).await.expect(200);
        assert_eq!(stored().await.password_hash, upgraded, "once is enough");
    }
    sql.close().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_from_elsewhere_sign_in_and_become_argon2id() {
    everyone_signs_in_and_is_upgraded(TestCluster::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_too() {
    let mut cluster = TestCluster::new();
    let server = postgres::shared();
    cluster.config.database.url = server.url(&server.create_database().await).as_str().into();
    everyone_signs_in_and_is_upgraded(cluster).await;
}

#[tokio::test]
async fn bad_lines_are_numbered_and_the_rest_is_imported() {
    let cluster = TestCluster::new();
    let sql = open(&cluster).await;
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
    // Once within one batch, once with each line a batch of its own: then the first of its kind is there already.
    let (done, told) = run(&cluster, &sql, 500, lines.join("\n").as_bytes()).await;
    assert_eq!(done.unwrap(), Summary { lines: 11, imported: 2, skipped_before: 0, bad: 7 });
    assert_eq!(bad_lines(&told), expected);
    let said = format!("{told:?}");
    assert!(!said.contains("po0WFn"), "no hash is told: {said}");

    let (done, told) = run(&cluster, &sql, 1, lines.join("\r\n").as_bytes()).await;
    assert_eq!(done.unwrap(), Summary { lines: 11, imported: 0, skipped_before: 0, bad: 9 });
    assert_eq!(bad_lines(&told)[0], (1, "email_taken"));
    assert_eq!(bad_lines(&told)[8], (11, "email_taken"));
    assert_eq!(emails(&sql).await, 2);
}

#[tokio::test]
async fn an_interrupted_import_goes_on_where_it_was() {
    let cluster = TestCluster::new();
    let sql = open(&cluster).await;
    // Lines 100, 1000 and 1100 are bad; it breaks in the midst of line 1000, of which nothing is known yet then.
    let lines: Vec<String> =
        (1..=1234).map(|n| if matches!(n, 100 | 1000 | 1100) { "?\n".into() } else { line(n) }).collect();
    let text: String = lines.concat();
    let middle = lines[..999].concat().len() + 1;
    assert!(middle > 64 * 1024, "past the fingerprint");

    let (stopped, told) = run(&cluster, &sql, 100, broken(&text, middle)).await;
    let Err(ImportError::Read { line: 999, source }) = stopped else { panic!("{stopped:?}") };
    assert_eq!(source.to_string(), "the disk was pulled out");
    assert_eq!(bad_lines(&told), [(100, "not_json")]);
    let Some(Progress::Stored { line: 900, .. }) = told.last() else { panic!("{told:?}") };
    assert_eq!(emails(&sql).await, 899);

    // Another source doesn't go on with it.
    let (done, told) = run(&cluster, &sql, 100, line(2).as_bytes()).await;
    assert_eq!((done.unwrap().skipped_before, bad_lines(&told)), (0, vec![(1, "email_taken")]));
    // Nor does one that has lost its end.
    let shorter = &text[..lines[..500].concat().len()];
    let (stopped, _) = run(&cluster, &sql, 100, shorter.as_bytes()).await;
    assert!(matches!(stopped, Err(ImportError::Shorter { stored: 900, last: 500 })), "{stopped:?}");

    let (done, told) = run(&cluster, &sql, 100, text.as_bytes()).await;
    assert_eq!(done.unwrap(), Summary { lines: 1234, imported: 332, skipped_before: 900, bad: 2 });
    assert_eq!(told[0], Progress::Resumed { line: 900, bytes: lines[..900].concat().len() as u64 });
    assert_eq!(bad_lines(&told), [(1000, "not_json"), (1100, "not_json")]);
    assert_eq!(emails(&sql).await, 1231);

    // It is done, so a second time begins at the first line.
    let (done, _) = run(&cluster, &sql, 500, text.as_bytes()).await;
    assert_eq!(done.unwrap(), Summary { lines: 1234, imported: 0, skipped_before: 0, bad: 1234 });
}

/// Lines made as they are asked for; counts the bytes that were.
struct Generated {
    next: usize,
    last: usize,
    rest: Vec<u8>,
    asked: Arc<AtomicU64>,
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
        self.asked.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

/// The most bytes that were ever read and not yet stored.
async fn most_in_flight(count: usize) -> u64 {
    let cluster = TestCluster::new();
    let sql = open(&cluster).await;
    let entropy = latchkey::domain::entropy::Entropy::system();
    let asked = Arc::new(AtomicU64::new(0));
    let source = Generated { next: 1, last: count, rest: Vec::new(), asked: Arc::clone(&asked) };
    let importer = Importer {
        sql: &sql,
        clock: &cluster.clock,
        entropy: &entropy,
        password: &cluster.config.password,
        batch: 100,
    };
    let (stored, most) = (Cell::new(0), Cell::new(0));
    let mut report = |progress| {
        let Progress::Stored { bytes, .. } = progress else { panic!("{progress:?}") };
        // What was asked for until now was held since the batch before this one was stored.
        most.set(most.get().max(asked.load(Ordering::Relaxed) - stored.get()));
        stored.set(bytes);
    };
    let done = import(&importer, BufReader::new(source), "generated", &mut report).await.unwrap();
    assert_eq!((done.imported, stored.get()), (count as u64, accounts(count).len() as u64));
    most.get()
}

#[tokio::test]
async fn many_lines_need_no_more_memory_than_few() {
    let few = most_in_flight(1_000).await;
    let many = most_in_flight(10_000).await;
    // The fingerprint, a batch, a buffer of the reader's.
    let bound = 64 * 1024 + 100 * 200 + 8 * 1024;
    assert!(few <= bound && many <= bound, "{few} and {many} of {bound} bytes");
}
