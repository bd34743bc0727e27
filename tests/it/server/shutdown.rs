//! Shutdown: requests in flight finish, new connections are refused.

use tokio::net::TcpStream;

use super::{HELLO, SHORT, Server, WAIT, within};

#[tokio::test]
async fn shutdown_finishes_requests_in_flight_and_refuses_new_ones() {
    let server = Server::start(|_| {}).await;
    let mut idle = server.connect().await;
    idle.send(HELLO).await;
    assert_eq!(idle.answer().await.status, 200);
    let mut waiting = server.connect().await;
    // The handler of this request waits for the gate to open.
    waiting.send(WAIT).await;
    server.gate.wait_until_entered().await;

    server.stop.cancel();
    assert_eq!(idle.rest().await, "", "an idle connection is closed");
    let new_connections_are_refused = async { while TcpStream::connect(server.address).await.is_ok() {} };
    within(new_connections_are_refused).await;
    server.gate.open();
    let answer = waiting.answer().await;
    assert_eq!(answer.body, "waited");
    assert!(answer.head.contains("\r\nconnection: close"), "{}", answer.head);
    assert_eq!(waiting.rest().await, "", "the connection is closed after the answer");
    within(server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_cuts_off_requests_after_timeout() {
    let server = Server::start(|settings| settings.shutdown_timeout = SHORT).await;
    let mut waiting = server.connect().await;
    waiting.send(WAIT).await;
    server.gate.wait_until_entered().await;
    server.stop.cancel();
    // The gate stays closed.
    assert_eq!(waiting.rest().await, "", "the connection is closed without an answer");
    within(server.ended).await.unwrap().unwrap();
}
