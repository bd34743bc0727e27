//! Neither the answer nor the work done for it reveals whether an account exists (I7).
//!
//! Registration does reveal that an e-mail address is taken: it answers `409`. It takes as long for a free address as for a taken
//! one, and is rate limited.

use std::{collections::BTreeMap, time::Instant};

use latchkey::service::accounts;
use serde_json::json;

use super::{cluster, login};
use crate::harness::{
    client::{Answer, PASSWORD},
    monitor::Monitor,
    test_cluster::{Node, TestCluster},
};

/// The work that a node does for a request.
#[derive(Clone, Debug, PartialEq)]
struct Work {
    passwords_hashed: u64,
    transactions: u64,
    /// The commands sent to Redis: name, first argument (the digest of a script) and number of words.
    redis_commands: Vec<String>,
}

/// Sends requests and counts the work that each causes.
struct WorkCounter<'a> {
    cluster: &'a TestCluster,
    node: &'a Node,
    monitor: Monitor,
}

impl WorkCounter<'_> {
    async fn send(&mut self, request: reqwest::RequestBuilder) -> (Answer, Work) {
        let node = self.node;
        let passwords_before = node.state.passwords.jobs();
        let transactions_before = node.state.sql.transactions();
        let answer = node.send(request).await;
        let commands = self.monitor.commands_with_rate_limits(&self.cluster.redis);
        let without_values = |words: &Vec<String>| format!("{} {} {}", words[0], words[1], words.len());
        let work = Work {
            passwords_hashed: node.state.passwords.jobs() - passwords_before,
            transactions: node.state.sql.transactions() - transactions_before,
            redis_commands: commands.iter().map(without_values).collect(),
        };
        (answer, work)
    }
}

/// The response without the request id and the date, for comparison with other responses.
fn comparable(answer: &Answer) -> String {
    let mut body = answer.json();
    body["request_id"].take();
    let headers: BTreeMap<_, _> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    format!("{} {headers:?} {body}", answer.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn login_to_existing_disabled_and_unknown_accounts_does_the_same_work() {
    let cluster = cluster();
    let node = cluster.node().await;
    for name in ["ada", "eve", "grace"] {
        node.register(name).await;
    }
    let grace = accounts::find(&node.state.sql, "grace").await.unwrap();
    accounts::disable(&node.state, grace.id).await.unwrap();
    // the first call of a script also loads it into Redis
    node.login("ada").await;
    node.try_login("nobody at all", PASSWORD).await.expect(401);
    let mut counter = WorkCounter { cluster: &cluster, node: &node, monitor: Monitor::start(&cluster.redis) };

    // Eight attempts with each identifier. `limits.login_backoff_after` is 5, so the sixth wrong password causes a delay, in which the
    // throttle refuses the last two attempts.
    let mut attempts_of_ada = None;
    for identifier in ["ada", "eve@example.com", "grace", "nobody", "nobody@example.com"] {
        let mut attempts = Vec::new();
        for _ in 0..8 {
            let (answer, work) = counter.send(login(&node, "203.0.113.7", identifier, "not the password")).await;
            attempts.push((comparable(&answer), work));
        }
        let verified = attempts.iter().filter(|(_, work)| work.passwords_hashed == 1 && work.transactions == 1);
        assert_eq!(verified.count(), 6, "{attempts:#?}");
        let refused = attempts.iter().filter(|(_, work)| work.passwords_hashed == 0 && work.transactions == 0);
        assert_eq!(refused.count(), 2, "{attempts:#?}");
        let expected = attempts_of_ada.get_or_insert_with(|| attempts.clone());
        assert_eq!(*expected, attempts, "{identifier}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn registration_of_a_taken_email_does_the_same_work_as_of_a_free_one() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let mut counter = WorkCounter { cluster: &cluster, node: &node, monitor: Monitor::start(&cluster.redis) };
    let register = |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        node.request(reqwest::Method::POST, "/v1/users").json(&body)
    };
    let (answer, free) = counter.send(register("grace@example.com", PASSWORD)).await;
    assert_eq!(answer.status, 201);
    let (answer, taken) = counter.send(register("ada@example.com", PASSWORD)).await;
    assert_eq!(answer.problem(), (409, "email_taken".to_owned()));
    assert_eq!(free, taken);
    assert_eq!(free.passwords_hashed, 1);
    // If the password is weak, even the answers are equal.
    let mut answers = Vec::new();
    for email in ["ada@example.com", "free@example.com"] {
        let (answer, work) = counter.send(register(email, "password")).await;
        answers.push((comparable(&answer), work));
    }
    assert_eq!(answers[0], answers[1]);
}

/// Attack: guess the password with a stolen access token.
#[tokio::test(flavor = "multi_thread")]
async fn password_change_with_any_wrong_password_does_the_same_work() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    // the first call of a script also loads it into Redis
    node.change_password(&tokens.access, "wrong", "gravel lantern ostrich nine").await.expect(403);
    let mut counter = WorkCounter { cluster: &cluster, node: &node, monitor: Monitor::start(&cluster.redis) };
    let change = |current: &str| {
        let body = json!({ "current_password": current, "new_password": "gravel lantern ostrich nine" });
        node.request(reqwest::Method::POST, "/v1/me/password").bearer_auth(&tokens.access).json(&body)
    };
    let long = "a".repeat(500);
    let mut answers = Vec::new();
    for current in ["", "not the password", &PASSWORD[1..], &long] {
        let (answer, work) = counter.send(change(current)).await;
        assert_eq!(answer.status, 403);
        answers.push((comparable(&answer), work));
    }
    assert!(answers.iter().all(|other| *other == answers[0]), "{answers:#?}");
}

/// Logins to an existing and to an unknown account alternate, so that other load on the machine affects both alike. The test
/// compares each login of one kind with each of the other, and calculates the share of pairs in which the existing account took
/// longer: a half if there is no difference. If one kind skipped hashing, which takes most of the time here, the share would be 0
/// or 1.
#[tokio::test(flavor = "multi_thread")]
async fn login_takes_the_same_time_for_existing_and_unknown_accounts() {
    let mut cluster = cluster();
    // the test sends 240 wrong passwords, without throttling
    cluster.config.limits.login_backoff = None;
    cluster.config.limits.login_per_address = None;
    // more than in other tests, so that hashing takes most of the time
    cluster.config.password.memory_kib = 4096;
    let node = cluster.node().await;
    node.register("ada").await;
    let (mut existing, mut unknown): (Vec<u128>, Vec<u128>) = (Vec::new(), Vec::new());
    for round in 0..120 {
        let mut logins = [("ada@example.com", &mut existing), ("eve@example.com", &mut unknown)];
        // each kind is first in half of the rounds
        if round % 2 == 1 {
            logins.reverse();
        }
        for (identifier, durations) in logins {
            let start = Instant::now();
            node.try_login(identifier, "not the password").await.expect(401);
            durations.push(start.elapsed().as_micros());
        }
    }
    let longer_pairs: usize =
        existing.iter().map(|duration| unknown.iter().filter(|other| duration > *other).count()).sum();
    let share = longer_pairs as f64 / (existing.len() * unknown.len()) as f64;
    assert!((0.2..=0.8).contains(&share), "an account that exists takes longer in {share:.2} of all pairs");
}
