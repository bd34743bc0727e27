//! Limits on open connections, in total and per IP address.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{HELLO, Server, within};

#[tokio::test]
async fn connection_above_limit_waits() {
    let server = Server::start(|settings| settings.max_connections = 1).await;
    let mut first = server.connect().await;
    first.send(HELLO).await;
    assert_eq!(first.answer().await.status, 200);
    let mut second = server.connect().await;
    second.send(HELLO).await;
    // The server answers the first connection, but not the second one.
    first.send(HELLO).await;
    assert_eq!(first.answer().await.status, 200);
    let read_error = second.stream.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(read_error.kind(), std::io::ErrorKind::WouldBlock, "no answer yet");
    drop(first);
    assert_eq!(second.answer().await.status, 200);
}

#[tokio::test]
async fn connection_above_address_limit_is_closed() {
    let server = Server::start(|settings| settings.max_connections_per_address = 2).await;
    let mut open = [server.connect().await, server.connect().await];
    for client in &mut open {
        client.send(HELLO).await;
        assert_eq!(client.answer().await.status, 200);
    }
    // The server closes the connection: the read ends with no bytes or with an error.
    let mut refused = server.connect().await;
    let bytes_read = within(refused.stream.read(&mut [0; 1])).await.unwrap_or(0);
    assert_eq!(bytes_read, 0);
    let [first, _second] = open;
    drop(first);
    // Connects until the server has noticed the end of the first connection.
    loop {
        let mut client = server.connect().await;
        // fails if the server has closed the connection already
        let _ = client.stream.write_all(HELLO.as_bytes()).await;
        let mut status_line = [0; b"HTTP/1.1 200".len()];
        if within(client.stream.read_exact(&mut status_line)).await.is_ok() {
            assert_eq!(&status_line, b"HTTP/1.1 200");
            break;
        }
    }
}

#[tokio::test]
async fn connections_of_trusted_proxy_have_no_address_limit() {
    let server = Server::start(|settings| {
        settings.max_connections_per_address = 1;
        // The clients of this test connect from 127.0.0.1.
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let mut open = [server.connect().await, server.connect().await, server.connect().await];
    for client in &mut open {
        client.send(HELLO).await;
        assert_eq!(client.answer().await.status, 200);
    }
}
