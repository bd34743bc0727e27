//! Brute force: a list of 10,000 passwords against one account, while its owner keeps logging in.

use std::time::Duration;

use futures_util::future::join_all;

use super::{cluster, login};
use crate::harness::{
    client::PASSWORD,
    test_cluster::{Node, TestCluster},
};

/// The guesses of an attack, and how many of them are sent at the same time.
const GUESSES: usize = 10_000;
const CONCURRENT: usize = 50;

/// The owner's usual IP address.
const HOME: &str = "198.51.100.1";

/// The failed logins until a stranger has to wait: five without delay, and the one that starts the first delay.
const FAILURES_UNTIL_DELAY: usize = 6;

/// The longest delay, in seconds.
const MAX_DELAY: u64 = 15 * 60;

/// The result of an attack.
struct Attack {
    /// The attacker's passwords that the service verified.
    verified: u64,
    /// Requests that the service refused without verifying the password.
    refused: u64,
}

/// Sends all guesses in batches of fifty, with fifty seconds between batches, for nearly three hours of the test's clock. `address_of` is
/// the IP address that sends a guess.
/// Meanwhile the owner logs in from home without a device token, and from elsewhere with one.
async fn run_attack(cluster: &TestCluster, node: &Node, address_of: impl Fn(usize) -> String) -> Attack {
    node.register("ada").await;
    let first_login = node.send(login(node, HOME, "ada", PASSWORD)).await.expect(200);
    let device = first_login.header("x-device-token").to_owned();
    assert!(device.starts_with("lk_dt_"), "{device}");

    let jobs_before = node.state.passwords.jobs();
    let mut refused = 0;
    let mut logins_of_owner = 0;
    for batch in 0..GUESSES / CONCURRENT {
        let attempt = |i: usize| {
            let number = batch * CONCURRENT + i;
            let from = address_of(number);
            let password = format!("password number {number}");
            async move { node.send(login(node, &from, "ada", &password)).await }
        };
        for answer in join_all((0..CONCURRENT).map(attempt)).await {
            match answer.status.as_u16() {
                401 => {}
                429 => {
                    refused += 1;
                    assert_eq!(answer.problem(), (429, "too_many_requests".to_owned()));
                    assert!(answer.header("retry-after").parse::<u64>().unwrap() <= MAX_DELAY, "{answer:?}");
                }
                _ => panic!("{answer:?}"),
            }
        }
        if batch % 20 == 0 {
            let elsewhere = login(node, &format!("192.0.2.{batch}"), "ada@example.com", PASSWORD);
            node.send(elsewhere.header("x-device-token", &device)).await.expect(200);
            node.send(login(node, HOME, "ada", PASSWORD)).await.expect(200);
            logins_of_owner += 2;
        }
        cluster.advance(Duration::from_secs(50));
    }
    Attack { verified: node.state.passwords.jobs() - jobs_before - logins_of_owner, refused }
}

/// An attack gets six guesses without delay, ten more while the delays double up to fifteen minutes, and ten in the remaining two
/// and a half hours. The range allows for delays that end between two batches.
fn assert_few_were_verified(attack: &Attack) {
    assert!((10..=30).contains(&attack.verified), "{} passwords were verified", attack.verified);
    assert_eq!(attack.verified + attack.refused, GUESSES as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_guesses_from_one_address_reach_few_verifications() {
    let cluster = cluster();
    let node = cluster.node().await;
    let attack = run_attack(&cluster, &node, |_| "203.0.113.7".to_owned()).await;
    assert_few_were_verified(&attack);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_guesses_from_two_hundred_addresses_reach_few_verifications() {
    let cluster = cluster();
    let node = cluster.node().await;
    let attack = run_attack(&cluster, &node, |number| format!("203.0.113.{}", number % 200)).await;
    assert_few_were_verified(&attack);
}

/// Fifty concurrent requests get no more guesses than fifty consecutive ones.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_guesses_are_counted_before_verification() {
    let cluster = cluster();
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    let guess = |i: usize| {
        let node = &nodes[i % 2];
        async move { node.send(login(node, &format!("203.0.113.{i}"), "ada", "not the password")).await }
    };
    let answers = join_all((0..CONCURRENT).map(guess)).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(count(401), FAILURES_UNTIL_DELAY);
    assert_eq!(count(429), CONCURRENT - FAILURES_UNTIL_DELAY);
}

/// An owner who has forgotten the password has to wait on the known device, and on no other device.
#[tokio::test]
async fn known_device_waits_for_its_own_failures_only() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let first_login = node.send(login(&node, HOME, "ada", PASSWORD)).await.expect(200);
    let device = first_login.header("x-device-token").to_owned();
    let from_known_device =
        |password: &str| login(&node, "192.0.2.9", "ada", password).header("x-device-token", &device);
    // a known device has 100 failures without delay; one more starts the first delay, of a second
    for _ in 0..101 {
        node.send(from_known_device("forgotten")).await.expect(401);
    }
    let refused = node.send(from_known_device(PASSWORD)).await.expect(429);
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.header("ratelimit"), "\"login-account\";r=0;t=1");
    // a login without the device token is not delayed by the device's failures
    node.send(login(&node, "192.0.2.9", "ada", PASSWORD)).await.expect(200);
    cluster.advance(Duration::from_secs(1));
    let again = node.send(from_known_device(PASSWORD)).await.expect(200);
    assert_eq!(again.header("x-device-token"), device, "a known device keeps its token");
}

/// A browser gets its device token in a cookie that scripts can't read.
#[tokio::test]
async fn browser_is_known_by_its_device_cookie() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let body = serde_json::json!({ "identifier": "ada", "password": PASSWORD, "transport": "cookie" });
    let answer = node.post("/v1/login", body).await.expect(200);
    assert_eq!(answer.header("x-device-token"), "", "the token is in a cookie only");
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    // the refresh token's cookie, and the device's
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    let (pair, attributes) = cookies[1].split_once("; ").unwrap();
    assert!(pair.starts_with("__Host-latchkey-device=lk_dt_"), "{pair}");
    // 400 days, the longest time that browsers keep cookies
    assert_eq!(attributes, "Path=/; Max-Age=34560000; Secure; HttpOnly; SameSite=Strict");

    for number in 0..FAILURES_UNTIL_DELAY {
        node.send(login(&node, "203.0.113.7", "ada", &format!("guess {number}"))).await.expect(401);
    }
    // from an unknown IP address, first without and then with the cookie
    node.send(login(&node, "192.0.2.1", "ada", PASSWORD)).await.expect(429);
    node.send(login(&node, "192.0.2.1", "ada", PASSWORD).header("cookie", pair)).await.expect(200);
}

/// Attack: guess with the e-mail address and with the username of one account, to get twice the guesses.
#[tokio::test]
async fn login_failures_by_email_and_by_username_share_one_count() {
    let cluster = cluster();
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].register("ada").await;
    let guess = async |node: &Node, name: &str| {
        node.send(login(node, "203.0.113.7", name, "not the password")).await.status.as_u16()
    };
    for number in 0..FAILURES_UNTIL_DELAY {
        assert_eq!(guess(&nodes[number % 2], "ada@example.com").await, 401, "{number}");
    }
    for name in ["ada@example.com", "ada", "ADA", "Ada@Example.com"] {
        assert_eq!(guess(&nodes[0], name).await, 429, "{name}");
    }
    // no account has this name, so its failures are counted apart
    assert_eq!(guess(&nodes[0], "adam").await, 401);
}

/// Attack: plant a device token in the owner's browser, and guess with the same token from elsewhere.
#[tokio::test]
async fn device_token_that_the_account_does_not_know_is_replaced() {
    let cluster = cluster();
    let node = cluster.node().await;
    for name in ["ada", "mary", "eve"] {
        node.register(name).await;
    }
    // 43 characters: 256 bits in base64url
    let invented = format!("lk_dt_{}", "A".repeat(43));
    let login_of_eve = node.send(login(&node, "203.0.113.7", "eve", PASSWORD)).await.expect(200);
    let device_of_eve = login_of_eve.header("x-device-token").to_owned();
    // an owner for each planted token, because guesses delay all later guesses against the same owner
    for (owner, planted) in [("ada", &invented), ("mary", &device_of_eve)] {
        let request = login(&node, HOME, owner, PASSWORD).header("x-device-token", planted);
        let issued = node.send(request).await.expect(200).header("x-device-token").to_owned();
        assert!(issued.starts_with("lk_dt_"), "{issued}");
        assert_ne!(issued, *planted);
        for number in 0..FAILURES_UNTIL_DELAY {
            let guess = login(&node, "203.0.113.7", owner, &format!("guess {number}"));
            node.send(guess.header("x-device-token", planted)).await.expect(401);
        }
        let further_guess = login(&node, "203.0.113.7", owner, "guess").header("x-device-token", planted);
        node.send(further_guess).await.expect(429);
        let known = login(&node, "192.0.2.9", owner, PASSWORD).header("x-device-token", &issued);
        let kept = node.send(known).await.expect(200);
        assert_eq!(kept.header("x-device-token"), issued, "a known token is kept");
    }
}
