//! Tests the graceful shutdown: a draining server still accepts requests, and answers every request that has reached it.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    harness::{test_cluster::TestCluster, wait},
    server::{HELLO, SHORT, Server, within},
};

/// A request after whose answer the server closes the connection.
const LAST_HELLO: &str = "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn draining_server_answers_and_closes_each_connection() {
    let longer_than_the_test = Duration::from_secs(60);
    let server = Server::start(|settings| settings.drain_delay = longer_than_the_test).await;
    let mut kept = server.connect().await;
    kept.send(HELLO).await;
    let answer = kept.answer().await;
    assert!(!answer.head.contains("\r\nconnection: close"), "{}", answer.head);
    let mut events = server.connect().await;
    events.send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(events.answer().await.status, 200);

    server.stop.cancel();
    let mut new = server.connect().await;
    for client in [&mut kept, &mut new] {
        client.send(HELLO).await;
        let answer = client.answer().await;
        assert_eq!(answer.body, "hello");
        assert!(answer.head.contains("\r\nconnection: close"), "{}", answer.head);
        assert_eq!(client.rest().await, "", "the server has closed the connection");
    }
    // lets the handler send an event
    server.gate.open();
    // one chunk: its length, and the six bytes that the handler sends
    let expected = b"6\r\nevent\n\r\n";
    let mut event = [0; 11];
    within(events.stream.read_exact(&mut event)).await.unwrap();
    assert_eq!(&event, expected, "an event stream continues while draining");
    // The server would drain for a minute.
    server.ended.abort();
}

#[tokio::test]
async fn shutdown_answers_requests_that_have_begun_to_arrive() {
    let server = Server::start(|_| {}).await;
    let mut reused = server.connect().await;
    reused.send(HELLO).await;
    assert_eq!(reused.answer().await.status, 200);
    let mut fresh = server.connect().await;
    // the first half of the request; the second follows after the stop
    for client in [&mut reused, &mut fresh] {
        client.send("GET /hello HTTP/1.1\r\nHo").await;
    }
    // Once the server has answered a later request, it has read the beginnings of both requests.
    let mut other = server.connect().await;
    other.send(HELLO).await;
    assert_eq!(other.answer().await.status, 200);

    server.stop.cancel();
    assert_eq!(other.rest().await, "", "an idle connection is closed");
    for client in [&mut reused, &mut fresh] {
        client.send("st: x\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!(answer.body, "hello");
        assert!(answer.head.contains("\r\nconnection: close"), "{}", answer.head);
        assert_eq!(client.rest().await, "", "the server has closed the connection");
    }
    within(server.ended).await.unwrap().unwrap();
}

/// Callers open connections repeatedly, without a pause, during the shutdown.
#[tokio::test(flavor = "multi_thread")]
async fn shutdown_answers_accepted_connections_and_refuses_new_ones() {
    const CALLERS: usize = 8;
    // Enough that all callers are busy when the shutdown begins.
    const ANSWERS_BEFORE_STOP: usize = 20 * CALLERS;
    // A lost connection depends on timing, so the test repeats the shutdown.
    for _ in 0..5 {
        let server = Server::start(|settings| settings.drain_delay = SHORT).await;
        let address = server.address;
        let answered = Arc::new(AtomicUsize::new(0));
        let done = Arc::new(AtomicBool::new(false));
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            let answered = Arc::clone(&answered);
            let done = Arc::clone(&done);
            callers.push(tokio::spawn(async move {
                while !done.load(Ordering::SeqCst) && call(address).await {
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            }));
        }
        wait::until("the callers are answered", || async { answered.load(Ordering::SeqCst) > ANSWERS_BEFORE_STOP })
            .await;
        server.stop.cancel();
        within(server.ended).await.unwrap().unwrap();
        done.store(true, Ordering::SeqCst);
        for caller in callers {
            within(caller).await.unwrap();
        }
    }
}

/// Sends one request. Returns false if the connection was refused; any other outcome must be an answer.
async fn call(address: SocketAddr) -> bool {
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            return false;
        }
    };
    stream.write_all(LAST_HELLO.as_bytes()).await.expect("an accepted connection is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an accepted connection is answered");
    assert!(answer.ends_with("hello"), "{answer:?}");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_node_fails_readyz_and_still_serves() {
    let mut cluster = TestCluster::new();
    cluster.config.http.drain_delay = Duration::from_secs(60); // longer than the test
    let mut node = cluster.node().await;
    node.register("ada").await;
    let client = node.client.clone();
    let readyz = || client.send(client.request(reqwest::Method::GET, "/readyz"));
    assert_eq!(readyz().await.status, 200);
    node.trigger_shutdown();

    wait::until("the node is not ready", || async {
        let answer = readyz().await;
        answer.status == 503 && answer.json()["status"] == "unavailable"
    })
    .await;
    client.login("ada").await;
}
