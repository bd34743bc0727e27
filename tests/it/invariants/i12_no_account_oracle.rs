//! I12: Public calls have the same answer for known and unknown accounts: status, body, headers and timing.

use std::{collections::BTreeMap, time::Instant};

use serde_json::{Value, json};

use crate::{
    accounts::{
        NEW_PASSWORD, count_mails, email, emails, remove_mail_and_login_limits, request_reset, reset, signed_in,
    },
    harness::{
        client::Answer,
        monitor::Monitor,
        test_cluster::{Node, TestCluster},
        wait,
    },
    mail::wait_until_mails_are_done,
};

/// The parts of a response that must not differ: all but the request id, the date and the secret of a sign-in request (`request`).
fn comparable(answer: &Answer) -> String {
    let mut body = answer.json();
    for random in ["request_id", "request"] {
        if let Some(value) = body.get_mut(random) {
            *value = Value::Null;
        }
    }
    let headers: BTreeMap<_, _> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    format!("{} {headers:?} {body}", answer.status)
}

/// A cluster without rate limits that allows sign-ins by a mailed code (`/v1/login/code`), and a node with a verified account `ada`.
async fn cluster() -> (TestCluster, Node) {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    cluster.config.login.email_code = true;
    let node = cluster.node().await;
    node.register("ada").await;
    // A reset verifies the address.
    let (token, _) = request_reset(&cluster, &node, "ada").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    (cluster, node)
}

/// Makes the body of a call about the address of this name.
type BodyOf = fn(&str) -> Value;

/// A code that no mail contains.
const WRONG_CODE: &str = "2222-2222";
/// The made-up secret of a sign-in request.
const UNKNOWN_REQUEST: &str = "lk_lr_x";

/// The public calls that request a mail for an account.
fn requests_for_mails() -> [(&'static str, BodyOf); 3] {
    [
        ("/v1/password/forgot", |name| json!({ "identifier": email(name) })),
        ("/v1/email/verification", |name| json!({ "email": email(name) })),
        ("/v1/login/code", |name| json!({ "email": email(name) })),
    ]
}

/// The public calls that present a code of a mail, here a wrong one.
fn calls_with_wrong_codes() -> [(&'static str, BodyOf); 3] {
    [
        (
            "/v1/password/reset",
            |name| json!({ "identifier": email(name), "code": WRONG_CODE, "new_password": "marble thicket saddle forty" }),
        ),
        ("/v1/email/verify", |name| json!({ "email": email(name), "code": WRONG_CODE, "password": NEW_PASSWORD })),
        (
            "/v1/login/code/verify",
            |name| json!({ "request": UNKNOWN_REQUEST, "email": email(name), "code": WRONG_CODE }),
        ),
    ]
}

/// The public calls about an account.
fn calls() -> impl Iterator<Item = (&'static str, BodyOf)> {
    requests_for_mails().into_iter().chain(calls_with_wrong_codes())
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_public_calls_answer_alike_for_known_and_unknown_accounts() {
    let (_cluster, node) = cluster().await;
    for (path, body) in calls() {
        let known = node.post(path, body("ada")).await;
        let unknown = node.post(path, body("nobody")).await;
        assert_eq!(comparable(&known), comparable(&unknown), "{path}");
    }
}

/// Calls about a verified secondary address have the same response as calls about an unknown address. An account that adds a taken
/// address gets the same response as for a free one.
#[tokio::test(flavor = "multi_thread")]
async fn i12_calls_answer_alike_for_secondary_and_unknown_addresses() {
    let (mut cluster, node) = cluster().await;
    let ada = node.login_with("ada", NEW_PASSWORD).await;
    emails::add_verified(&cluster, &node, &ada, "work").await;
    for (path, body) in calls() {
        let known = node.post(path, body("work")).await;
        let unknown = node.post(path, body("nobody")).await;
        assert_eq!(comparable(&known), comparable(&unknown), "{path}");
    }
    let mut refused = Vec::new();
    for name in ["work", "nobody"] {
        refused.push(comparable(&node.try_login(&email(name), "a wrong password").await));
    }
    assert_eq!(refused[0], refused[1]);

    node.register("eve").await;
    let eve = node.login("eve").await;
    // The names of a pair have equal length, because the response contains the address, and `content-length` is compared.
    for (taken, free) in [("ada", "new"), ("work", "desk")] {
        let mut answers = Vec::new();
        for name in [taken, free] {
            let body = json!({ "email": email(name) });
            let answer = signed_in(&node, &eve, reqwest::Method::POST, "/v1/me/emails", body).await;
            let id = answer.text_of("id");
            answers.push(comparable(&answer).replace(&id, "ID").replace(&email(name), "ADDRESS"));
        }
        assert_eq!(answers[0], answers[1]);
    }
    // The owner of each taken address gets a notice.
    for name in ["ada", "work"] {
        cluster.mail_to(&email(name), "address_taken").await;
    }
    // With `registration.conceal` (it needs required verification), a registration has the same response for a taken secondary address and
    // a free one.
    cluster.config.registration.conceal = true;
    cluster.config.registration.verification = latchkey::config::Verification::Required;
    let node = cluster.node().await;
    let before = count_mails(&cluster, "work", "address_taken");
    let mut answers = Vec::new();
    for name in ["work", "next"] {
        let answer =
            node.post("/v1/users", json!({ "email": email(name), "password": NEW_PASSWORD })).await.expect(201);
        let id = answer.text_of("id");
        answers.push(comparable(&answer).replace(&id, "ID").replace(&email(name), "ADDRESS"));
    }
    assert_eq!(answers[0], answers[1]);
    wait::until("the owner has a notice", || async { count_mails(&cluster, "work", "address_taken") > before }).await;
}

/// Compares the Redis commands, the SQL transactions and the password hashes that a node needs for a wrong code.
#[tokio::test(flavor = "multi_thread")]
async fn i12_codes_cost_the_same_commands_for_known_and_unknown_accounts() {
    let (cluster, node) = cluster().await;
    // The delivery has SQL transactions, which would be counted.
    wait_until_mails_are_done(&node.state.sql).await;
    let mut monitor = Monitor::start(&cluster.redis);
    for (path, body) in calls_with_wrong_codes() {
        let mut work = Vec::new();
        for name in ["ada", "nobody"] {
            wait::until("all work is done", || async { node.state.background.is_empty() }).await;
            // Discards the commands of earlier calls.
            monitor.commands_with_rate_limits(&cluster.redis);
            let hashed_before = node.state.passwords.jobs();
            let transactions_before = node.state.sql.transactions();
            node.post(path, body(name)).await.expect(401);
            // A command's name, first argument (the script) and number of words. The other arguments differ, such as the keys.
            let commands: Vec<String> = monitor
                .commands_with_rate_limits(&cluster.redis)
                .iter()
                .map(|words| format!("{} {} {}", words[0], words[1], words.len()))
                .collect();
            let hashed = node.state.passwords.jobs() - hashed_before;
            work.push((hashed, node.state.sql.transactions() - transactions_before, commands));
        }
        assert_eq!(work[0], work[1], "{path}");
        let (hashed, ..) = &work[0];
        assert_eq!(*hashed, 0, "no password is hashed for a wrong code");
    }
}

/// Pairs the time of each call for the known account with that of each call for the unknown account. If there is no difference, the known
/// account takes longer in half of the pairs. `abuse::enumeration` measures sign-ins in the same way.
#[tokio::test(flavor = "multi_thread")]
async fn i12_requests_for_mails_take_the_same_time_for_known_and_unknown_accounts() {
    let (_cluster, node) = cluster().await;
    for (path, body) in requests_for_mails() {
        let mut took: [Vec<u128>; 2] = [Vec::new(), Vec::new()];
        for round in 0..100 {
            // The index 0 is `ada`, who has an account, and 1 is `eve`, who has none. Each comes first in every other round.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for index in order {
                // Work that the previous call left behind would slow this call down.
                wait::until("all work is done", || async { node.state.background.is_empty() }).await;
                let body = body(["ada", "eve"][index]);
                let start = Instant::now();
                node.post(path, body).await.expect(202);
                took[index].push(start.elapsed().as_micros());
            }
        }
        let pairs = took[0].iter().flat_map(|known| took[1].iter().map(move |unknown| (known, unknown)));
        let longer = pairs.filter(|(known, unknown)| known > unknown).count();
        let share = longer as f64 / (took[0].len() * took[1].len()) as f64;
        // Wide bounds for a noisy machine: if an existing account took notably longer or shorter, the share would be near 1 or 0.
        assert!((0.2..=0.8).contains(&share), "{path}: an account that exists takes longer in {share:.2} of all pairs");
    }
}

/// A refused password reveals no second factors, and a made-up challenge reveals no account.
#[tokio::test]
async fn i12_second_factor_answers_alike_for_known_and_unknown_accounts() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    let cluster = crate::factors::cluster();
    let node = cluster.node().await;
    let ada = crate::factors::account_with_app(&cluster, &node, "ada").await;
    node.register("eve").await;
    // `ada` has a second factor, `eve` has none, and `nobody` is no account
    let sign_ins = ["ada", "eve", "nobody"].map(|name| node.try_login(name, "a wrong password"));
    let refused: Vec<_> = futures_util::future::join_all(sign_ins).await.iter().map(comparable).collect();
    assert!(refused.iter().all(|answer| *answer == refused[0]), "{refused:?}");

    let known_id = *node.verified(&ada.tokens.access).claims.sub.as_bytes();
    // A challenge has a version, a purpose (`f`: second factor, `e`: enrolment), an account and a secret, here a made-up one.
    let made_up_challenge = |account: [u8; 16], purpose: u8| {
        let bytes = [&[1, purpose], account.as_slice(), &[7; 24]].concat();
        format!("lk_ch_{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
    };
    for (path, purpose) in [
        ("/v1/login/second-factor", b'f'),
        ("/v1/login/second-factor/options", b'f'),
        ("/v1/login/enrolment/totp", b'e'),
        ("/v1/login/enrolment/passkey/options", b'e'),
    ] {
        let mut answers = Vec::new();
        let unknown_id = [9; 16];
        for account in [known_id, unknown_id] {
            let mut body = json!({ "challenge": made_up_challenge(account, purpose) });
            if path == "/v1/login/second-factor" {
                (body["method"], body["code"]) = (json!("totp"), json!("123456"));
            }
            answers.push(comparable(&node.post(path, body).await.expect(401)));
        }
        assert_eq!(answers[0], answers[1], "{path}");
    }
}
