//! I6: No plaintext password, refresh token, access token, secret or private key is in Redis, in SQL, in the log at any level, or
//! in the body of an error. The test makes calls of every kind, and then searches all these places for the secrets.

use std::{fs, time::Duration};

use base64::prelude::*;
use latchkey::{
    crypto::key_rotation::SigningStart,
    service::{accounts, keys},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    client::Tokens,
    log::Log,
    test_cluster::{Node, TestCluster},
};

/// From this character on, a refresh token has only the MAC. 43 bytes precede the MAC, and base64url encodes groups of 3 bytes as 4
/// characters: the first group that has only bytes of the MAC begins at byte 45. The token's prefix has 6 characters.
const REFRESH_TOKEN_MAC_START: usize = 6 + 45 / 3 * 4;

/// The secrets that must appear nowhere, with their descriptions.
#[derive(Default)]
struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    /// Adds a secret that is text, and its base64 form.
    fn add_text(&mut self, name: &str, text: &str) {
        assert!(text.len() >= 16, "{name} is too short to be searched for");
        self.0.push((name.to_owned(), text.as_bytes().to_vec()));
        self.0.push((format!("{name}, in base64"), BASE64_STANDARD_NO_PAD.encode(text).into_bytes()));
    }

    /// Adds a binary secret, and its hex, base64 and decimal forms.
    fn add_bytes(&mut self, name: &str, bytes: &[u8]) {
        self.0.push((name.to_owned(), bytes.to_vec()));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // as `Debug` prints bytes, without the brackets
        let decimal = bytes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let texts = [hex, BASE64_STANDARD_NO_PAD.encode(bytes), BASE64_URL_SAFE_NO_PAD.encode(bytes), decimal];
        self.0.extend(texts.into_iter().map(|text| (format!("{name}, as text"), text.into_bytes())));
    }

    /// Adds a refresh token and its MAC: the bytes, and the end of the token.
    fn add_refresh_token(&mut self, token: &str) {
        self.add_text("a refresh token", token);
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&token["lk_rt_".len()..]).unwrap();
        self.add_bytes("the MAC of a refresh token", &bytes[bytes.len() - 32..]);
        self.add_text("the MAC of a refresh token", &token[REFRESH_TOKEN_MAC_START..]);
    }

    /// Adds the refresh token and the access token of a session.
    fn add_tokens(&mut self, tokens: &Tokens) {
        self.add_refresh_token(&tokens.refresh);
        self.add_access_token(&tokens.access);
    }

    /// Adds an access token and its signature.
    fn add_access_token(&mut self, token: &str) {
        self.add_text("an access token", token);
        self.add_text("an access token's signature", token.rsplit('.').next().unwrap());
    }

    #[track_caller]
    fn assert_absent_from(&self, place: &str, bytes: &[u8]) {
        for (name, secret) in &self.0 {
            if let Some(at) = bytes.windows(secret.len()).position(|window| window == secret) {
                // an excerpt that shows where the secret was found
                let excerpt = &bytes[at.saturating_sub(300)..(at + 100).min(bytes.len())];
                panic!("{name} in {place}: {}", String::from_utf8_lossy(excerpt));
            }
        }
    }
}

/// The content of the database and its write-ahead log: of all files in the cluster's folder.
fn database_files(cluster: &TestCluster) -> Vec<u8> {
    let entries = fs::read_dir(cluster.folder()).unwrap();
    let all: Vec<u8> = entries.flat_map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(contains(&all, "SQLite format 3"), "the database is included");
    all
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The password at registration.
const FIRST_PASSWORD: &str = "quartz bicycle morning herring 7141";
/// The password after its change.
const SECOND_PASSWORD: &str = "velvet thunder pocket ostrich 9253";
/// A password that is never right.
const WRONG_PASSWORD: &str = "marble whistle gander sunrise 3367";

#[tokio::test(flavor = "multi_thread")]
async fn i6_full_run_leaves_no_secret_in_stores_logs_or_errors() {
    let log = Log::start();
    let mut secrets = Secrets::default();
    let mut cluster = TestCluster::new();
    // without the retry window, a repeat after the grace window is reuse
    cluster.config.session.retry_window = Duration::ZERO;
    let service_secret = "hidden-service-secret-4c0ffee1b2d3";
    let former_service_secret = "hidden-former-secret-77aa88bb99cc";
    let pepper = "hidden-pepper-key-5d6e7f8a9b0c1d2e";
    cluster.config.secrets.current = service_secret.into();
    cluster.config.secrets.previous = vec![former_service_secret.into()];
    cluster.config.password.pepper = Some(pepper.into());
    for secret in [service_secret, former_service_secret, pepper, FIRST_PASSWORD, SECOND_PASSWORD, WRONG_PASSWORD] {
        secrets.add_text(secret, secret);
    }
    let node = cluster.node().await;

    // An account with sessions of both transports.
    let registration = json!({ "email": "hidden@example.com", "username": "hidden", "password": FIRST_PASSWORD });
    node.post("/v1/users", registration).await.expect(201);
    let hash = async |node: &Node| {
        let account = accounts::find(&node.state.sql, "hidden").await.unwrap();
        account.password_hash.unwrap().expose().to_owned()
    };
    let first_hash = hash(&node).await;
    node.try_login("hidden", WRONG_PASSWORD).await.expect(401);
    // a password in the field of the username
    node.try_login(WRONG_PASSWORD, SECOND_PASSWORD).await.expect(401);
    let first = node.login_with("hidden", FIRST_PASSWORD).await;
    secrets.add_tokens(&first);
    let first = Tokens::of(&node.refresh(&first.refresh).await.expect(200));
    secrets.add_tokens(&first);
    let login = json!({ "identifier": "hidden", "password": FIRST_PASSWORD, "transport": "cookie" });
    let answer = node.post("/v1/login", login).await.expect(200);
    secrets.add_access_token(&answer.text_of("access_token"));
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    secrets.add_refresh_token(cookie.split_once('=').unwrap().1);
    let refresh = node.request(Method::POST, "/v1/refresh").header("cookie", &cookie);
    let answer = node.send(refresh).await.expect(200);
    let refreshed_cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    secrets.add_refresh_token(refreshed_cookie.split_once('=').unwrap().1);

    // A password change, key rotation, reuse and a logout.
    node.change_password(&first.access, WRONG_PASSWORD, SECOND_PASSWORD).await.expect(403);
    let changed = node.change_password(&first.access, FIRST_PASSWORD, SECOND_PASSWORD).await.expect(200);
    secrets.add_tokens(&Tokens::of(&changed));
    let second_hash = hash(&node).await;
    let second = node.login_with("hidden", SECOND_PASSWORD).await;
    secrets.add_tokens(&second);
    let state = &node.state;
    let add_signing_key = |secrets: &mut Secrets| {
        let pkcs8 = state.keys.current().signer(cluster.clock.now()).unwrap().to_pkcs8().unwrap();
        // the scalar follows the DER tag (4) and the length (32) of its octet string
        let scalar = pkcs8.windows(2).position(|window| window == [4, 32]).unwrap() + 2;
        secrets.add_bytes("a private key", &pkcs8);
        secrets.add_bytes("a private key's scalar", &pkcs8[scalar..scalar + 32]);
    };
    add_signing_key(&mut secrets);
    keys::rotate(&state.config, &state.clock, &state.entropy, &state.sql, SigningStart::Now).await.unwrap();
    state.keys.reload().await.unwrap();
    add_signing_key(&mut secrets);
    let third = Tokens::of(&node.refresh(&second.refresh).await.expect(200));
    secrets.add_tokens(&third);
    // after the grace window of 10 s, a repeat is reuse
    cluster.advance(Duration::from_secs(11));
    node.refresh(&second.refresh).await.expect(401);
    let login = json!({ "identifier": "hidden", "password": SECOND_PASSWORD, "device": "a phone" });
    let fourth = Tokens::of(&node.post("/v1/login", login).await.expect(200));
    secrets.add_tokens(&fourth);

    // Secrets in wrong fields appear in no response.
    let misplaced = [FIRST_PASSWORD, SECOND_PASSWORD, &fourth.refresh, &fourth.access];
    for answer in send_in_wrong_fields(&node, &misplaced).await {
        // A logout answers 204 whatever is sent.
        assert!(answer.starts_with('4') || answer.starts_with("204"), "{answer:?}");
        secrets.assert_absent_from("an error", answer.as_bytes());
    }
    // Errors about Redis contain no secrets. With a limit of one byte of memory, Redis refuses writes.
    cluster.redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for answer in [node.try_login("hidden", SECOND_PASSWORD).await, node.refresh(&fourth.refresh).await] {
        assert_eq!(answer.problem().0, 503);
        secrets.assert_absent_from("an error", answer.text.as_bytes());
    }
    // 0 is no limit.
    cluster.redis.command(&["CONFIG", "SET", "maxmemory", "0"]);

    let redis = cluster.redis.dump();
    assert!(contains(&redis, "a phone"), "the search covers the records of sessions");
    assert!(contains(&redis, "reuse"), "the search covers the events");
    secrets.assert_absent_from("Redis", &redis);
    secrets.assert_absent_from("the database", &database_files(&cluster));
    node.logout(&fourth.refresh).await.expect(204);
    // While it stops, the node writes its last audit events, so the database is searched again.
    node.stop().await;
    let files = database_files(&cluster);
    assert!(contains(&files, "unknown_account"), "the audit log is included");
    assert!(contains(&files, "wrong_password"), "the audit log is included");
    secrets.assert_absent_from("the database", &files);

    let logged = log.bytes();
    assert!(contains(&logged, "password changed"), "the search covers the events of the test");
    assert!(contains(&logged, "TRACE"), "the search covers all levels");
    // Added only now: the database may contain the hashes, but Redis and the log must not.
    for hash in [first_hash, second_hash] {
        assert!(hash.starts_with("$argon2id$"));
        secrets.add_text("a password's hash", &hash);
    }
    secrets.assert_absent_from("Redis", &redis);
    secrets.assert_absent_from("the log", &logged);
}

/// Sends secrets where they do not belong. Returns status, headers and body of each response.
async fn send_in_wrong_fields(node: &Node, secrets: &[&str]) -> Vec<String> {
    let mut requests = Vec::new();
    for secret in secrets {
        // longer than the 1024 bytes that a password may have at the sign-in
        let long = format!("{secret} ").repeat(30);
        let bodies: Vec<(&str, Value)> = vec![
            ("/v1/login", json!({ "identifier": secret, "password": "x" })),
            ("/v1/login", json!({ "identifier": long, "password": secret })),
            ("/v1/login", json!({ "identifier": "hidden", "password": [secret] })),
            ("/v1/login", json!({ "identifier": "hidden", "password": { "value": secret } })),
            ("/v1/login", json!({ "identifier": [secret], "password": secret })),
            ("/v1/login", json!({ "identifier": "hidden", "password": long })),
            ("/v1/login", json!({ "identifier": "hidden", "password": secret, "device": long })),
            ("/v1/login", json!({ "identifier": "hidden", "password": secret, "transport": secret })),
            ("/v1/login", json!({ "identifier": "hidden", "unknown": secret })),
            ("/v1/login", json!([secret])),
            ("/v1/login", json!(secret)),
            ("/v1/users", json!({ "email": secret, "password": secret })),
            ("/v1/users", json!({ "email": "other@example.com", "username": secret, "password": secret })),
            ("/v1/users", json!({ "email": "hidden@example.com", "password": long })),
            ("/v1/refresh", json!({ "refresh_token": format!("{secret}x") })),
            ("/v1/refresh", json!({ "refresh_token": [secret] })),
            ("/v1/logout", json!({ "refresh_token": format!("x{secret}") })),
        ];
        requests.extend(bodies.into_iter().map(|(path, body)| node.request(Method::POST, path).json(&body)));
        // bodies that are no valid JSON, or have another content type
        let raw = [
            ("application/json", format!(r#"{{"identifier":"hidden","password":"{secret}""#)),
            ("application/json", format!(r#"{{"identifier":"hidden","password":{secret}}}"#)),
            ("application/json", format!(r#"{{"password":"{secret}\q"}}"#)),
            ("application/json", (*secret).to_owned()),
            ("application/x-www-form-urlencoded", format!("identifier=hidden&password={secret}")),
            ("text/plain", (*secret).to_owned()),
        ];
        for (content_type, body) in raw {
            for path in ["/v1/login", "/v1/refresh", "/v1/logout", "/v1/users"] {
                requests.push(node.request(Method::POST, path).header("content-type", content_type).body(body.clone()));
            }
        }
        // without spaces, for paths, tokens and cookies
        let plain = secret.replace(' ', "-");
        for path in [format!("/v1/sessions/{plain}"), format!("/v1/sessions?keep_current={plain}")] {
            requests.push(node.request(Method::DELETE, &path));
            requests.push(node.request(Method::DELETE, &path).bearer_auth(format!("{plain}x")));
        }
        for path in [format!("/v1/{plain}"), format!("/v1/me?access_token={plain}")] {
            requests.push(node.request(Method::GET, &path));
        }
        requests.push(node.request(Method::GET, "/v1/me").header("authorization", format!("Bearer {plain}x")));
        requests.push(node.request(Method::GET, "/v1/me").header("authorization", format!("Basic {plain}")));
        requests.push(node.request(Method::GET, "/v1/me").header("authorization", *secret));
        let cookie = format!("__Host-latchkey={plain}");
        requests.push(
            node.request(Method::POST, "/v1/refresh")
                .header("cookie", &cookie)
                .header("origin", "https://evil.example"),
        );
        requests.push(
            node.request(Method::POST, "/v1/login").header("cookie", &cookie).header("origin", "https://evil.example"),
        );
    }
    let mut answers = Vec::new();
    for request in requests {
        let answer = node.send(request).await;
        answers.push(format!("{} {:?} {}", answer.status, answer.headers, answer.text));
    }
    answers
}
