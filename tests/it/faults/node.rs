//! A node is killed under load: its clients continue at another node.

use std::sync::Mutex;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::history::nodes::ProcessCluster;

const USERS: usize = 8;
/// The number of refreshes of all users together after which the node is killed.
const REFRESHES_BEFORE_KILL: usize = USERS * 5;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_killed_node_continue_at_another_node() {
    let cluster = ProcessCluster::start(2).await;
    // returns the body of a successful answer; fails once the node is killed
    let call = |node: usize, path: &'static str, body: Value| {
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
    let total_refreshes = Mutex::new(0);
    let signed_in = Barrier::new(USERS);
    let users = (0..USERS).map(|number| {
        let (call, refresh_token, total_refreshes, signed_in, cluster) =
            (&call, &refresh_token, &total_refreshes, &signed_in, &cluster);
        async move {
            let name = format!("user{number}");
            let password = "tidal engine verse marmalade";
            let registration =
                json!({ "email": format!("{name}@example.com"), "username": name, "password": password });
            let login = json!({ "identifier": name, "password": password });
            // Under load a registration may be answered with 503, before or after it created the account.
            let login_answer = loop {
                call(0, "/v1/users", registration.clone()).await;
                if let Some(answer) = call(0, "/v1/login", login.clone()).await {
                    break answer;
                }
            };
            // The node must not be killed while a user still signs in.
            signed_in.wait().await;
            let mut current = refresh_token(&login_answer);
            let mut own_refreshes = 0;
            // until the node is killed
            while let Some(answer) = call(0, "/v1/refresh", json!({ "refresh_token": current })).await {
                current = refresh_token(&answer);
                own_refreshes += 1;
                let total = {
                    let mut total = total_refreshes.lock().unwrap();
                    *total += 1;
                    *total
                };
                if total == REFRESHES_BEFORE_KILL {
                    cluster.nodes[0].kill();
                }
            }
            // The last refresh may or may not have been executed: both times, `current` is answered with a later token.
            let next = call(1, "/v1/refresh", json!({ "refresh_token": current })).await;
            let next = refresh_token(&next.expect("the other node continues the session"));
            assert_ne!(next, current);
            let again = call(1, "/v1/refresh", json!({ "refresh_token": next })).await;
            again.expect("a second refresh succeeds there too");
            own_refreshes
        }
    });
    let answered: usize = join_all(users).await.into_iter().sum();
    assert!(answered >= REFRESHES_BEFORE_KILL);
    cluster.nodes[0].restart();
    cluster.wait_until_ready().await;
}
