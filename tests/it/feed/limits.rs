//! Nobody holds up anybody: slow readers are dropped, seats are counted, and the end of the service is the end.

use std::time::Duration;

use futures_util::future::join_all;
use latchkey::domain::{entropy::Entropy, event::Reason, ids::AccountId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

use super::signed_out;
use crate::harness::{
    bed::{Bed, Node},
    client::Client,
    sse::Feed,
    wait,
};

/// Ends the sessions of so many thousands of accounts, which have none: the events are the same.
async fn revoke(node: &Node, thousands: u64) {
    let now = node.app.clock.now();
    for _ in 0..thousands {
        let revoking = (0..1000).map(|_| {
            let account = AccountId(Entropy::system().uuid());
            node.app.redis.revoke_all(account, None, None, Reason::Disabled, now)
        });
        for revoked in join_all(revoking).await {
            revoked.unwrap();
        }
    }
}

/// A subscriber that reads nothing after `until`.
async fn stuck(client: &Client, until: &str) -> TcpStream {
    let mut stream = TcpStream::connect(client.base.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(b"GET /v1/revocations HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut read = String::new();
    while !read.contains(until) {
        read.push(stream.read_u8().await.unwrap().into());
    }
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_dropped_while_others_are_told_everything() {
    let mut bed = Bed::new();
    bed.config.redis.command_timeout = Duration::from_secs(10);
    let here = bed.node().await;
    bed.config.feed.max_subscribers = 2;
    bed.config.http.write_timeout = Duration::from_secs(1);
    let there = bed.node().await;
    let _slow = stuck(&there, "event: live").await;
    let mut quick = Feed::open(&there, None).await;
    quick.caught_up().await;
    let (count, mut counted) = watch::channel(0);
    let quick = tokio::spawn(async move {
        while quick.revocation().await["reason"] != "logout" {
            count.send_modify(|count| *count += 1);
        }
    });
    assert_eq!(Feed::try_open(&there, None).await.status(), 503);

    let mut revoked = 0;
    while Feed::try_open(&there, None).await.status() == 503 {
        assert!(revoked < 100_000, "all of these wait for the slow one");
        revoke(&here, 1).await;
        revoked += 1000;
        counted.wait_for(|counted| *counted == revoked).await.unwrap();
    }
    here.account("ada").await;
    signed_out(&here, "ada").await;
    quick.await.unwrap();
    for node in [here, there] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_the_snapshot_is_dropped_too() {
    let mut bed = Bed::new();
    bed.config.feed.max_subscribers = 1;
    bed.config.redis.command_timeout = Duration::from_secs(10);
    bed.config.http.write_timeout = Duration::from_millis(200);
    let node = bed.node().await;
    revoke(&node, 40).await;
    let slow = stuck(&node, "event: snapshot").await;
    let mut quick = Feed::open(&node, None).await;
    assert_eq!(quick.caught_up().await.len(), 40_000);
    drop((slow, quick));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_limit_subscribers_are_asked_to_come_again() {
    let mut bed = Bed::new();
    bed.config.feed.max_subscribers = 2;
    let node = bed.node().await;
    let mut seated = [Feed::open(&node, None).await, Feed::open(&node, None).await];
    for feed in &mut seated {
        feed.caught_up().await;
    }
    let refused = node.send(node.request(reqwest::Method::GET, "/v1/revocations")).await;
    assert_eq!(refused.problem(), (503, "unavailable".to_owned()));
    assert_eq!(refused.header("retry-after"), "1");

    let [one, _other] = seated;
    drop(one);
    wait::until("the seat is free", || async { Feed::try_open(&node, None).await.status() == 200 }).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_service_is_the_end_of_the_streams() {
    let mut bed = Bed::new();
    bed.config.http.shutdown_timeout = Duration::from_hours(1);
    let node = bed.node().await;
    let mut feeds = [Feed::open(&node, None).await, Feed::open(&node, None).await];
    for feed in &mut feeds {
        feed.caught_up().await;
    }
    node.stop().await;
    for feed in feeds {
        feed.ended().await;
    }
}
