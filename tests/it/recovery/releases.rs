//! Upgrades: this release starts with data recorded from each release (tests/tools/record_release.py), and uses the recorded sessions,
//! accounts, signing keys and clients.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use latchkey::{
    config::{DatabaseSettings, RelyingParty, Secrets},
    domain::clock::{Clock, Timestamp},
    service::session_mark,
};
use reqwest::Method;
use serde_json::Value;

use crate::harness::{
    client::Tokens,
    database::execute_sql,
    postgres,
    redis::Redis,
    test_cluster::{Node, TestCluster},
};

/// The folders of recorded releases.
fn releases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/releases");
    let mut releases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    releases.sort();
    assert!(releases.iter().any(|release| release.ends_with("0.1.0")));
    releases
}

/// Runs the recorded commands: each line is a command, whose words are in hexadecimal (`-` is an empty word).
fn load_redis(redis: &Redis, file: &Path) {
    let unhex = |word: &str| -> Vec<u8> {
        let word = word.trim_start_matches('-');
        (0..word.len()).step_by(2).map(|at| u8::from_str_radix(&word[at..at + 2], 16).unwrap()).collect()
    };
    let mut stream = UnixStream::connect(redis.socket()).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    for line in fs::read_to_string(file).unwrap().lines() {
        let words: Vec<_> = line.split(' ').map(unhex).collect();
        // A command of the protocol RESP: the number of words, then each with its length.
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend(format!("${}\r\n", word.len()).bytes());
            command.extend(word);
            command.extend(b"\r\n");
        }
        stream.write_all(&command).unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert!(!answer.starts_with('-'), "{answer}");
        // The content of a bulk string is on a second line.
        if answer.starts_with('$') {
            answers.read_line(&mut answer).unwrap();
        }
    }
}

async fn load_database(settings: &DatabaseSettings, file: &Path) {
    let url = settings.url.expose().to_owned();
    // The file of SQLite does not exist yet.
    let url = if url.starts_with("sqlite:") { format!("{url}?mode=rwc") } else { url };
    execute_sql(&url, &fs::read_to_string(file).unwrap()).await;
}

/// Starts a node of this release with the data of a recording, a minute after its end. `database` is sqlite or postgres.
async fn start_with_recording(release: &Path, database: &str) -> (TestCluster, Node, Value) {
    let json = fs::read_to_string(release.join(database).with_extension("json")).unwrap();
    let recorded: Value = serde_json::from_str(&json).unwrap();
    let mut cluster = TestCluster::new();
    if database == "postgres" {
        let server = postgres::shared();
        cluster.config.database.url = server.url(&server.create_database().await).as_str().into();
    }
    let recorded_at = Timestamp::from_millis(recorded["at"].as_i64().unwrap());
    cluster.clock = Clock::manual(recorded_at + Duration::from_mins(1));
    // The issuer, the relying party and the secret are those of the recording.
    cluster.config.issuer = "http://127.0.0.1:8080".into();
    let origins = vec!["http://localhost:8080".to_owned()];
    cluster.config.passkeys.relying_party = Some(RelyingParty { id: "localhost".to_owned(), origins });
    let secret = recorded["secret"].as_str().unwrap();
    cluster.config.secrets = Secrets { current: secret.into(), previous: Vec::new() };
    load_database(&cluster.config.database, &release.join(database).with_extension("sql")).await;
    load_redis(&cluster.redis, &release.join(database).with_extension("redis"));
    let node = cluster.node().await;
    (cluster, node, recorded)
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_data_of_every_release_is_usable() {
    for release in releases() {
        for database in ["sqlite", "postgres"] {
            println!("{} on {database}", release.display());
            let (cluster, node, recorded) = start_with_recording(&release, database).await;
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            // The mark is a time that nodes write to Redis and to the database. The recorded marks match, so the check ends no session.
            let mut known_mark = None;
            session_mark::check(&node.state, &mut known_mark).await.unwrap();

            let id = text(&recorded["client"]["client_id"]);
            let secret = text(&recorded["client"]["client_secret"]);
            let introspect = async |token: &str| {
                let request = node.request(Method::POST, "/oauth2/introspect").basic_auth(&id, Some(&secret));
                node.send(request.form(&[("token", token)])).await.expect(200).json()
            };
            let access = text(&recorded["access"]);
            let answer = introspect(&access).await;
            assert_eq!(answer["active"], true, "{answer}");
            assert_eq!(answer["sub"], recorded["account"], "{answer}");

            // Refresh tokens of live sessions. The second refresh presents a token of this release.
            for recorded_token in recorded["live"].as_array().unwrap() {
                let first = Tokens::of(&node.refresh(&text(recorded_token)).await.expect(200));
                let second = Tokens::of(&node.refresh(&first.refresh).await.expect(200));
                assert_eq!(introspect(&second.access).await["active"], true);
                node.get("/v1/me", &second.access).await.expect(200);
            }
            // The refresh token of a session that ended before the recording.
            let refused = node.refresh(&text(&recorded["ended"])).await;
            assert_eq!(refused.problem(), (401, "invalid_refresh_token".to_owned()));

            let password = text(&recorded["password"]);
            let ada = node.login_with("ada@EXAMPLE.com", &password).await;
            let me = node.get("/v1/me", &ada.access).await.expect(200).json();
            assert_eq!(me["id"], recorded["account"], "{me}");
            assert_eq!(me["username"], "ada", "{me}");
            // The recording gave this account two roles.
            let bob = node.login_with("bob@example.com", &password).await;
            let me = node.get("/v1/me", &bob.access).await.expect(200).json();
            assert_eq!(me["roles"].as_array().unwrap().len(), 2, "{me}");

            super::recorded_features::assert_usable(&cluster, &node, &recorded).await;

            // A revocation by this release ends the sessions that the recorded release started.
            node.delete("/v1/sessions", &ada.access).await.expect(200);
            assert_eq!(introspect(&access).await["active"], false);
            node.stop().await;
        }
    }
}
