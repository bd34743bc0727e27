//! A node is killed under load: its clients continue at another node.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::{
    harness::{client::PASSWORD, wait},
    history::nodes::ProcessCluster,
};

const USERS: usize = 8;
/// The number of refreshes of all users together after which the node is killed.
const REFRESHES_BEFORE_KILL: usize = USERS * 5;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_killed_node_continue_at_another_node() {
    let cluster = ProcessCluster::start(2).await;
    // Returns the status and the body of an answer. A killed node sends none.
    let post = |node: usize, path: &'static str, body: Value| {
        let request = cluster.nodes[node].request(Method::POST, path).json(&body);
        async move {
            let answer = request.send().await.ok()?;
            let status = answer.status().as_u16();
            let text = answer.text().await.ok()?;
            Some((status, serde_json::from_str::<Value>(&text).unwrap_or_default()))
        }
    };
    let refresh_token = |answer: &Value| answer["refresh_token"].as_str().unwrap().to_owned();
    // Repeats a refresh while it is answered with 503, as under load. Returns the next token, or `None` if the node sends no answer.
    let refresh = async |node: usize, token: &str| {
        // in a mutex, because `wait::until` only learns whether to stop
        let next = Mutex::new(None);
        wait::until("a refresh is not answered with 503", || async {
            match post(node, "/v1/refresh", json!({ "refresh_token": token })).await {
                Some((503, _)) => return false,
                Some((200, answer)) => *next.lock().unwrap() = Some(refresh_token(&answer)),
                Some((status, answer)) => panic!("a refresh at node {node} was answered {status} {answer}"),
                None => {}
            }
            true
        })
        .await;
        next.into_inner().unwrap()
    };
    let total_refreshes = AtomicUsize::new(0);
    let signed_in = Barrier::new(USERS);
    let users = (0..USERS).map(|number| {
        let (post, refresh, refresh_token, total_refreshes, signed_in, cluster) =
            (&post, &refresh, &refresh_token, &total_refreshes, &signed_in, &cluster);
        async move {
            let name = format!("user{number}");
            let registration =
                json!({ "email": format!("{name}@example.com"), "username": name, "password": PASSWORD });
            let login = json!({ "identifier": name, "password": PASSWORD });
            // Under load a registration may be answered with 503, before or after it created the account.
            let login_answer = loop {
                post(0, "/v1/users", registration.clone()).await;
                if let Some((200, answer)) = post(0, "/v1/login", login.clone()).await {
                    break answer;
                }
            };
            // The node must not be killed while a user still signs in.
            signed_in.wait().await;
            let mut current = refresh_token(&login_answer);
            // A killed node sends no answer.
            while let Some(next) = refresh(0, &current).await {
                current = next;
                let earlier_refreshes = total_refreshes.fetch_add(1, Ordering::SeqCst);
                if earlier_refreshes + 1 == REFRESHES_BEFORE_KILL {
                    cluster.nodes[0].kill();
                }
            }
            // Node 0 may or may not have executed the last refresh. In both cases `current` is answered with a later token.
            let next = refresh(1, &current).await.expect("the other node continues the session");
            assert_ne!(next, current);
            refresh(1, &next).await.expect("a second refresh succeeds there too");
        }
    });
    join_all(users).await;
    let total_refreshes = total_refreshes.load(Ordering::SeqCst);
    assert!(total_refreshes >= REFRESHES_BEFORE_KILL, "the node was not killed: {total_refreshes} refreshes");
    cluster.nodes[0].restart();
    cluster.wait_until_ready().await;
}
