//! Limits on open connections, in total and per address.

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
    first.send(HELLO).await;
    assert_eq!(first.answer().await.status, 200);
    let nothing = second.stream.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
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
    assert_eq!(within(refused.stream.read(&mut [0; 1])).await.ok().unwrap_or_default(), 0);
    let [first, _second] = open;
    drop(first);
    // Connects until the server has noticed the end of the first connection.
    loop {
        let mut client = server.connect().await;
        let _ = client.stream.write_all(HELLO.as_bytes()).await;
        let mut start = [0; 12];
        if within(client.stream.read_exact(&mut start)).await.is_ok() {
            assert_eq!(&start, b"HTTP/1.1 200");
            break;
        }
    }
}

#[tokio::test]
async fn connections_of_trusted_proxy_have_no_address_limit() {
    let server = Server::start(|settings| {
        settings.max_connections_per_address = 1;
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let mut open = [server.connect().await, server.connect().await, server.connect().await];
    for client in &mut open {
        client.send(HELLO).await;
        assert_eq!(client.answer().await.status, 200);
    }
}
