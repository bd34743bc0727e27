//! A flood of sign-ins: password hashing stays within its memory budget, sign-ins that exceed the queue are refused at once, and
//! existing sessions are not affected.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use serde_json::json;
use tokio::{sync::Barrier, task::JoinHandle};

use super::process::{Process, raise_file_limit};
use crate::harness::{
    client::{Client, Tokens},
    wait,
    wire::{Wire, post},
};

/// The number of sign-ins of the flood, each on its own connection.
const FLOOD: usize = 2000;
/// The setting `password.threads`.
const THREADS: usize = 2;
/// The setting `password.queue`.
const QUEUE: usize = 100;

/// The additional memory that the node may use, in MiB: 19 for each hashing thread, and 150 for the connections. If each sign-in had
/// memory of its own, those in the queue alone would use 1900 MiB.
const BUDGET_MIB: u64 = 2 * 19 + 150;

#[tokio::test(flavor = "multi_thread")]
async fn login_flood_is_refused_at_once_and_stays_within_memory_budget() {
    // A file for each connection, and a reserve. The node inherits the limit.
    raise_file_limit(3 * FLOOD as u64);
    let process = Process::start(&[
        &format!("password.threads={THREADS}"),
        &format!("password.queue={QUEUE}"),
        "password.memory_kib=19456", // 19 MiB
        // each hash takes seconds, so that all refusals come before the first results
        "password.iterations=100",
    ]);
    let client = Client::new(process.node.client.base.clone());
    let existing = register_and_sign_in(&client).await;
    let memory_before = process.memory_mib();

    let all_connected = Arc::new(Barrier::new(FLOOD));
    let hashed = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicUsize::new(0));
    let flood: Vec<_> = (0..FLOOD)
        .map(|number| {
            let mut wire = Wire::to(&client.base);
            let (all_connected, hashed, refused) =
                (Arc::clone(&all_connected), Arc::clone(&hashed), Arc::clone(&refused));
            let body = json!({ "identifier": format!("user{number}"), "password": "wrong, and long enough" });
            tokio::spawn(async move {
                wire.connect().await.unwrap();
                all_connected.wait().await;
                let reply = wire.call(&post("/v1/login", &body)).await.unwrap();
                if reply.status == 503 {
                    let seconds: u64 = reply.header("retry-after").parse().expect("the header is a number");
                    assert!(seconds >= 1, "{reply:?}");
                    assert!(reply.body.contains("\"code\":\"unavailable\""), "{reply:?}");
                    refused.fetch_add(1, Ordering::SeqCst);
                } else {
                    assert_eq!(reply.status, 401, "{reply:?}");
                    hashed.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();

    // Existing sessions are used during the flood.
    let client = &client;
    let use_of_existing = join_all(existing.into_iter().map(|mut tokens| async move {
        for _ in 0..10 {
            tokens = Tokens::of(&client.refresh(&tokens.refresh).await.expect(200));
            client.get("/v1/verify", &tokens.access).await.expect(200);
        }
    }));
    tokio::join!(
        use_of_existing,
        wait::until("all sign-ins above the queue are refused", || async {
            let answered = refused.load(Ordering::SeqCst) + hashed.load(Ordering::SeqCst);
            answered + THREADS + QUEUE >= FLOOD
        })
    );
    let hashed = hashed.load(Ordering::SeqCst);
    let refused = refused.load(Ordering::SeqCst);
    // At any time, at most THREADS sign-ins are hashed and QUEUE wait. The node refuses the others at once. Each of the
    // fewer than THREADS + QUEUE that have been hashed has made room for another.
    assert!(hashed < THREADS + QUEUE, "{hashed} passwords were hashed before the last sign-in was refused");
    assert!(refused >= FLOOD - 2 * (THREADS + QUEUE), "{refused} refused");
    let peak = process.peak_memory_mib();
    println!("{hashed} hashed, {refused} refused; {memory_before} MiB before, {peak} MiB at most");
    assert!(peak <= memory_before + BUDGET_MIB, "{memory_before} MiB before, {peak} MiB at most");

    // The sign-ins in the queue would take minutes.
    flood.iter().for_each(JoinHandle::abort);
}

/// Creates two accounts with a session each.
async fn register_and_sign_in(client: &Client) -> Vec<Tokens> {
    join_all(["ada", "bob"].map(|name| async move {
        client.register(name).await;
        client.login(name).await
    }))
    .await
}
