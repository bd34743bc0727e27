//! A node is killed under load: its clients continue at another node.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::{harness::client::PASSWORD, history::nodes::ProcessCluster};

const USERS: usize = 8;
/// The number of refreshes of all users together after which the node is killed.
const REFRESHES_BEFORE_KILL: usize = USERS * 5;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_killed_node_continue_at_another_node() {
    let cluster = ProcessCluster::start(2).await;
    // Returns the body of a successful answer. `None` stands for any other answer, and for none, for example from a killed node.
    let post = |node: usize, path: &'static str, body: Value| {
        let request = cluster.nodes[node].request(Method::POST, path).json(&body);
        async move {
            let answer = request.send().await.ok()?;
            if answer.status() != 200 && answer.status() != 201 {
                return None;
            }
            answer.json::<Value>().await.ok()
        }
    };
    let refresh_token = |answer: &Value| answer["refresh_token"].as_str().unwrap().to_owned();
    let total_refreshes = AtomicUsize::new(0);
    let signed_in = Barrier::new(USERS);
    let users = (0..USERS).map(|number| {
        let (post, refresh_token, total_refreshes, signed_in, cluster) =
            (&post, &refresh_token, &total_refreshes, &signed_in, &cluster);
        async move {
            let name = format!("user{number}");
            let registration =
                json!({ "email": format!("{name}@example.com"), "username": name, "password": PASSWORD });
            let login = json!({ "identifier": name, "password": PASSWORD });
            // Under load a registration may be answered with 503, before or after it created the account.
            let login_answer = loop {
                post(0, "/v1/users", registration.clone()).await;
                if let Some(answer) = post(0, "/v1/login", login.clone()).await {
                    break answer;
                }
            };
            // The node must not be killed while a user still signs in.
            signed_in.wait().await;
            let mut current = refresh_token(&login_answer);
            // A killed node sends no answer.
            while let Some(answer) = post(0, "/v1/refresh", json!({ "refresh_token": current })).await {
                current = refresh_token(&answer);
                let earlier_refreshes = total_refreshes.fetch_add(1, Ordering::SeqCst);
                if earlier_refreshes + 1 == REFRESHES_BEFORE_KILL {
                    cluster.nodes[0].kill();
                }
            }
            // Node 0 may or may not have executed the last refresh. In both cases `current` is answered with a later token.
            let next = post(1, "/v1/refresh", json!({ "refresh_token": current })).await;
            let next = refresh_token(&next.expect("the other node continues the session"));
            assert_ne!(next, current);
            let again = post(1, "/v1/refresh", json!({ "refresh_token": next })).await;
            again.expect("a second refresh succeeds there too");
        }
    });
    join_all(users).await;
    assert!(total_refreshes.load(Ordering::SeqCst) >= REFRESHES_BEFORE_KILL);
    cluster.nodes[0].restart();
    cluster.wait_until_ready().await;
}
