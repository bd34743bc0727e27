//! Delivery of the feed's events: over HTTP/1.1, where one fan-out per core writes to the sockets of subscribers, and over HTTP/2,
//! where hyper does.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use latchkey::{
    domain::{entropy::Entropy, event::EndReason, ids::AccountId},
    store::redis::AccountSessions,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    sync::watch,
    time::timeout,
};

use super::log_in_and_out;
use crate::harness::{
    client::Client,
    test_cluster::{Node, ServiceClient, TestCluster},
    wait,
};

/// The receive buffer of a subscriber, in bytes: so small that the events of a test do not fit.
const RECEIVE_BUFFER: u32 = 4096;
/// The number of revocations: more than fit into the buffers of a connection, and fewer than the fan-out buffers for a slow
/// subscriber.
const REVOCATIONS: usize = 3000;
/// The number of revocations of a burst: more than the 4096 that the fan-out buffers.
const BURST: usize = 6000;
/// The number of revocations that are appended at the same time.
const BATCH: usize = 500;
/// How many revocations a subscriber may be behind before the next [`BATCH`] is appended. A subscriber that is further behind than the
/// fan-out buffers (4096) would be disconnected.
const MAX_LAG: usize = 3000;
/// How long the subscribers may wait for their heartbeats.
const HEARTBEATS_TIMEOUT: Duration = Duration::from_mins(2);
/// The number of heartbeats that each subscriber waits for.
const HEARTBEATS: usize = 5;
/// The number of subscribers that read a burst.
const BURST_SUBSCRIBERS: usize = 30;
/// The number of subscribers that wait for heartbeats.
const HEARTBEAT_SUBSCRIBERS: usize = 20;

fn address(client: &Client) -> SocketAddr {
    client.base.strip_prefix("http://").unwrap().parse().unwrap()
}

fn authorization(service: &ServiceClient) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", service.id, service.secret)))
}

/// A subscriber that reads one chunk of the body at a time.
struct ChunkReader(BufReader<TcpStream>);

impl ChunkReader {
    /// Subscribes, and sends `following` in the same write as the request.
    async fn subscribe(client: &Client, service: &ServiceClient, following: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
        let stream = socket.connect(address(client)).await.unwrap();
        let mut reader = Self(BufReader::new(stream));
        let authorization = authorization(service);
        let request = format!("GET /v1/revocations HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n");
        reader.0.write_all((request + following).as_bytes()).await.unwrap();
        assert_eq!(reader.line().await, "HTTP/1.1 200 OK");
        let mut headers = Vec::new();
        loop {
            let header = reader.line().await.to_lowercase();
            if header.is_empty() {
                break;
            }
            headers.push(header);
        }
        for header in ["transfer-encoding: chunked", "connection: close"] {
            assert!(headers.iter().any(|sent| sent == header), "{header} is missing in {headers:?}");
        }
        reader
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.strip_suffix("\r\n").unwrap().to_owned()
    }

    /// Reads one chunk (RFC 9112, section 7.1).
    async fn chunk(&mut self) -> String {
        let size = usize::from_str_radix(&self.line().await, 16).unwrap();
        let mut chunk = vec![0; size];
        self.0.read_exact(&mut chunk).await.unwrap();
        assert_eq!(self.line().await, "", "the end of a chunk");
        String::from_utf8(chunk).unwrap()
    }

    /// Reads the chunks up to one with this text.
    async fn read_until(&mut self, text: &str) {
        let reading = async { while !self.chunk().await.contains(text) {} };
        wait::within_timeout(&format!("{text} arrives"), reading).await;
    }
}

/// Appends the revocations of `count` accounts, [`BATCH`] at the same time: a caller sets a long `redis.command_timeout`. The
/// accounts do not exist, which makes no difference to the events.
async fn append_revocations(node: &Node, count: usize) -> Vec<AccountId> {
    let (sessions, now) = (&node.state.redis.sessions, node.state.clock.now());
    let accounts: Vec<_> = (0..count).map(|_| AccountId(Entropy::system().uuid())).collect();
    for batch in accounts.chunks(BATCH) {
        let revoking =
            batch.iter().map(|account| sessions.revoke_all(AccountSessions::all(*account), EndReason::Disabled, now));
        for result in join_all(revoking).await {
            result.unwrap();
        }
    }
    accounts
}

/// The account ids of the revocations in server-sent events.
fn account_ids(events: &str) -> Vec<String> {
    let data = events.lines().filter_map(|line| line.strip_prefix("data: "));
    let objects = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
    objects.filter_map(|object| object["account_id"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriber_that_falls_behind_receives_every_revocation_once_and_then_live_ones() {
    let mut cluster = TestCluster::new();
    cluster.config.redis.command_timeout = Duration::from_mins(1);
    // A subscriber that does not read stays connected for this long.
    cluster.config.http.write_timeout = Duration::from_hours(1);
    let service = cluster.service_client("billing").await;
    let node = cluster.node().await;
    node.register("ada").await;
    let mut subscriber = ChunkReader::subscribe(&node, &service, "").await;
    subscriber.read_until("event: live").await;

    let revoked = append_revocations(&node, REVOCATIONS).await;

    // How often each account's revocation was delivered.
    let mut deliveries = HashMap::new();
    let reading = async {
        while deliveries.len() < REVOCATIONS {
            for account in account_ids(&subscriber.chunk().await) {
                *deliveries.entry(account).or_insert(0) += 1;
            }
        }
    };
    wait::within_timeout("every revocation is delivered", reading).await;
    let each_once: HashMap<_, _> = revoked.iter().map(|account| (account.to_string(), 1)).collect();
    assert_eq!(deliveries, each_once);
    let session = log_in_and_out(&node, "ada").await;
    subscriber.read_until(&session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn burst_that_exceeds_the_buffer_of_the_fan_out_reaches_every_subscriber_that_reads() {
    let mut cluster = TestCluster::new();
    cluster.config.redis.command_timeout = Duration::from_mins(1);
    let service = cluster.service_client("billing").await;
    let node = cluster.node().await;
    let (mut subscribers, mut progresses) = (Vec::new(), Vec::new());
    for _ in 0..BURST_SUBSCRIBERS {
        let mut subscriber = ChunkReader::subscribe(&node, &service, "").await;
        subscriber.read_until("event: live").await;
        // The number of revocations that the subscriber has read.
        let (read, progress) = watch::channel(0);
        progresses.push(progress);
        subscribers.push(tokio::spawn(async move {
            while *read.borrow() < BURST {
                let revocations = subscriber.chunk().await.matches("event: revocation").count();
                read.send_modify(|read| *read += revocations);
            }
        }));
    }
    for total in (BATCH..=BURST).step_by(BATCH) {
        append_revocations(&node, BATCH).await;
        for progress in &mut progresses {
            // An error means that this subscriber has read everything.
            let catching_up = progress.wait_for(|read| read + MAX_LAG >= total);
            let _ = wait::within_timeout("the subscriber catches up", catching_up).await;
        }
    }
    for subscriber in subscribers {
        wait::within_timeout("the subscriber has read everything", subscriber).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_continue_while_revocations_follow_each_other_without_a_pause() {
    let mut cluster = TestCluster::new();
    cluster.config.redis.command_timeout = Duration::from_mins(1);
    cluster.config.feed.heartbeat = Duration::from_millis(50);
    let service = cluster.service_client("billing").await;
    let node = cluster.node().await;
    let (mut subscribers, mut progresses) = (Vec::new(), Vec::new());
    for _ in 0..HEARTBEAT_SUBSCRIBERS {
        let mut subscriber = ChunkReader::subscribe(&node, &service, "").await;
        subscriber.read_until("event: live").await;
        // The number of revocations that the subscriber has read.
        let (read, progress) = watch::channel(0);
        progresses.push(progress);
        subscribers.push(tokio::spawn(async move {
            let mut heartbeats = 0;
            while heartbeats < HEARTBEATS {
                let chunk = subscriber.chunk().await;
                heartbeats += chunk.matches("event: heartbeat").count();
                read.send_modify(|read| *read += chunk.matches("event: revocation").count());
            }
        }));
    }
    let all_received = join_all(subscribers);
    let revoking = async {
        let mut total = 0;
        loop {
            append_revocations(&node, BATCH).await;
            total += BATCH;
            for progress in &mut progresses {
                // An error means that this subscriber has received its heartbeats.
                let _ = progress.wait_for(|read| read + MAX_LAG >= total).await;
            }
        }
    };
    tokio::select! {
        results = timeout(HEARTBEATS_TIMEOUT, all_received) => {
            let results = results.expect("all subscribers receive their heartbeats in time");
            results.into_iter().for_each(Result::unwrap);
        }
        () = revoking => unreachable!("the revocations follow each other without end"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_after_the_subscription_are_ignored_and_the_stream_continues() {
    let cluster = TestCluster::new();
    let service = cluster.service_client("billing").await;
    let node = cluster.node().await;
    node.register("ada").await;
    // sent twice: in the same write as the subscription, and while the stream is live
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut subscriber = ChunkReader::subscribe(&node, &service, request).await;
    subscriber.read_until("event: live").await;
    subscriber.0.write_all(request.as_bytes()).await.unwrap();
    for _ in 0..2 {
        let session = log_in_and_out(&node, "ada").await;
        subscriber.read_until(&session).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriber_over_http2_receives_live_revocations_until_the_shutdown() {
    let cluster = TestCluster::new();
    let service = cluster.service_client("billing").await;
    let node = cluster.node().await;
    node.register("ada").await;
    let stream = TcpStream::connect(address(&node)).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("{}/v1/revocations", node.base))
        .header("authorization", authorization(&service))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let mut text = String::new();
    let mut read_until = async |expected: &str| {
        while !text.contains(expected) {
            let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
            text.push_str(str::from_utf8(&data).unwrap());
        }
    };
    read_until("event: live").await;
    let session = log_in_and_out(&node, "ada").await;
    read_until(&session).await;
    // The shutdown ends the stream without an error.
    node.stop().await;
    while let Some(frame) = body.frame().await {
        frame.unwrap();
    }
    drop(sender);
    connection.await.unwrap().unwrap();
}
