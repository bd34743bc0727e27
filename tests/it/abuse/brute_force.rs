//! A list of 10,000 passwords against one account, from one address and from many, while its owner goes on signing in.

use std::time::Duration;

use futures_util::future::join_all;

use super::{cluster, login};
use crate::harness::{
    client::PASSWORD,
    test_cluster::{Node, TestCluster},
};

const PASSWORDS: usize = 10_000;
const AT_ONCE: usize = 50;

/// Where the owner has signed in before.
const HOME: &str = "198.51.100.1";

/// What came of it.
struct Attack {
    /// Passwords that were compared.
    guesses: u64,
    /// Requests that were refused before that.
    refused: u64,
}

/// Tries all passwords, fifty at a time and fifty seconds apart, so that it lasts for nearly three hours. Now and then the
/// owner signs in from home without a token, and from a train with the token of a device that is known.
async fn attack(cluster: &TestCluster, node: &Node, address: impl Fn(usize) -> String) -> Attack {
    node.account("ada").await;
    let first = node.send(login(node, HOME, "ada", PASSWORD)).await.expect(200);
    let device = first.header("x-device-token").to_owned();
    assert!(device.starts_with("lk_dt_"), "{device}");

    let hashed = node.state.passwords.jobs();
    let (mut refused, mut owners) = (0, 0);
    for batch in 0..PASSWORDS / AT_ONCE {
        let one = |i: usize| {
            let number = batch * AT_ONCE + i;
            let (from, password) = (address(number), format!("password number {number}"));
            async move { node.send(login(node, &from, "ada", &password)).await }
        };
        for answer in join_all((0..AT_ONCE).map(one)).await {
            match answer.status.as_u16() {
                401 => {}
                429 => {
                    refused += 1;
                    assert_eq!(answer.problem().1, "too_many_requests");
                    assert!(answer.header("retry-after").parse::<u64>().unwrap() <= 900, "{answer:?}");
                }
                _ => panic!("{answer:?}"),
            }
        }
        if batch % 20 == 0 {
            let train = login(node, &format!("192.0.2.{batch}"), "ada@example.com", PASSWORD);
            node.send(train.header("x-device-token", &device)).await.expect(200);
            node.send(login(node, HOME, "ada", PASSWORD)).await.expect(200);
            owners += 2;
        }
        cluster.advance(Duration::from_secs(50));
    }
    Attack { guesses: node.state.passwords.jobs() - hashed - owners, refused }
}

/// Five guesses that cost nothing, ten while the waits double up to fifteen minutes, and ten in the two and a half hours
/// after that; not all of the waits end just when the next fifty come.
fn assert_few_got_through(attack: &Attack) {
    assert!((10..=30).contains(&attack.guesses), "{} passwords were tried", attack.guesses);
    assert_eq!(attack.guesses + attack.refused, PASSWORDS as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_passwords_from_one_address() {
    let cluster = cluster();
    let node = cluster.node().await;
    let attack = attack(&cluster, &node, |_| "203.0.113.7".to_owned()).await;
    assert_few_got_through(&attack);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_passwords_from_two_hundred_addresses() {
    let cluster = cluster();
    let node = cluster.node().await;
    let attack = attack(&cluster, &node, |number| format!("203.0.113.{}", number % 200)).await;
    assert_few_got_through(&attack);
}

/// Fifty at once get no more guesses than fifty in turn.
#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_once_are_counted_before_they_are_tried() {
    let cluster = cluster();
    let nodes = [cluster.node().await, cluster.node().await];
    nodes[0].account("ada").await;
    let guess = |i: usize| {
        let node = &nodes[i % 2];
        async move { node.send(login(node, &format!("203.0.113.{i}"), "ada", "not the password")).await }
    };
    let answers = join_all((0..AT_ONCE).map(guess)).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 401).count(), 6);
    assert_eq!(answers.iter().filter(|answer| answer.status == 429).count(), AT_ONCE - 6);
}

/// Whoever forgot the password waits too, at a device that is known, but not for long, and strangers not with them.
#[tokio::test]
async fn a_known_device_waits_for_its_own_failures_only() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.account("ada").await;
    let device = node.send(login(&node, HOME, "ada", PASSWORD)).await.expect(200);
    let device = device.header("x-device-token").to_owned();
    let known = |password: &str| login(&node, "192.0.2.9", "ada", password).header("x-device-token", &device);
    for _ in 0..101 {
        node.send(known("forgotten")).await.expect(401);
    }
    let refused = node.send(known(PASSWORD)).await.expect(429);
    assert_eq!((refused.header("retry-after"), refused.header("ratelimit")), ("1", "\"login-account\";r=0;t=1"));
    node.send(login(&node, "192.0.2.9", "ada", PASSWORD)).await.expect(200);
    cluster.advance(Duration::from_secs(1));
    let again = node.send(known(PASSWORD)).await.expect(200);
    assert_eq!(again.header("x-device-token"), device, "it keeps its token");
}

/// A browser is given the token in a cookie of its own, out of reach of scripts.
#[tokio::test]
async fn browsers_are_known_by_a_cookie() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.account("ada").await;
    let body = serde_json::json!({ "identifier": "ada", "password": PASSWORD, "transport": "cookie" });
    let answer = node.post("/v1/login", body).await.expect(200);
    assert_eq!(answer.header("x-device-token"), "");
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    let (pair, attributes) = cookies[1].split_once("; ").unwrap();
    assert!(pair.starts_with("__Host-latchkey-device=lk_dt_"), "{pair}");
    assert_eq!(attributes, "Path=/; Max-Age=34560000; Secure; HttpOnly; SameSite=Strict");

    for number in 0..9 {
        node.send(login(&node, "203.0.113.7", "ada", &format!("guess {number}"))).await;
    }
    node.send(login(&node, "192.0.2.1", "ada", PASSWORD)).await.expect(429);
    node.send(login(&node, "192.0.2.1", "ada", PASSWORD).header("cookie", pair)).await.expect(200);
}
