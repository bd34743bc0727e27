//! The client's address behind reverse proxies. Each trusted proxy appends the address of its peer to the forwarded header.

use latchkey::config::ForwardedHeader;
use reqwest::{Method, header::HeaderValue};
use serde_json::json;

use crate::{
    binary::Service,
    harness::{
        client::{PASSWORD, Tokens},
        test_cluster::{Node, TestCluster},
        wait,
    },
};

/// Signs in with these headers, as a proxy at 127.0.0.1. Returns the address that the list of sessions shows for the new session.
async fn listed_address(node: &Node, headers: &[(&str, &[u8])]) -> String {
    let body = json!({ "identifier": "ada", "password": PASSWORD });
    let mut request = node.request(Method::POST, "/v1/login").json(&body);
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
    }
    let tokens = Tokens::of(&node.send(request).await.expect(200));
    let list = node.get("/v1/sessions", &tokens.access).await.expect(200).json();
    let sessions = list["sessions"].as_array().unwrap();
    let new_session = sessions.iter().find(|session| session["id"] == tokens.session).unwrap();
    new_session["ip"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn client_behind_trusted_proxy_cannot_hide_its_address() {
    let mut cluster = TestCluster::new();
    cluster.config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let node = cluster.node().await;
    node.register("ada").await;
    // what the client itself sent: nothing, a byte that is not UTF-8, another address, two words, empty entries
    for forged in [b"".as_slice(), b"\xff, ", b"6.6.6.6, ", b"\xe4\xb8\xad, nonsense, ", b",,, "] {
        // the proxy has appended the client's address to the header that the client sent
        let line = [forged, b"192.0.2.7"].concat();
        assert_eq!(listed_address(&node, &[("x-forwarded-for", &line)]).await, "192.0.2.7", "{forged:?}");
        // the client also sent the header that is not configured
        let with_other_header = [("forwarded", b"for=6.6.6.6".as_slice()), ("x-forwarded-for", &line)];
        assert_eq!(listed_address(&node, &with_other_header).await, "192.0.2.7", "{forged:?}");
    }
}

#[tokio::test]
async fn forwarded_header_setting_selects_the_header() {
    let mut cluster = TestCluster::new();
    cluster.config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    cluster.config.http.forwarded_header = ForwardedHeader::Forwarded;
    let node = cluster.node().await;
    node.register("ada").await;
    let headers =
        [("forwarded", b"\xff, for=\"[2001:db8::1]:80\";proto=https".as_slice()), ("x-forwarded-for", b"6.6.6.6")];
    assert_eq!(listed_address(&node, &headers).await, "2001:db8::1");
    // without the configured header, the address is that of the connection
    assert_eq!(listed_address(&node, &[("x-forwarded-for", b"6.6.6.6")]).await, "127.0.0.1");
}

/// The node is a process of its own, because a process logs the warning only once.
#[tokio::test(flavor = "multi_thread")]
async fn forwarded_header_of_untrusted_local_peer_is_warned_about_once() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing listens on port 1. A node without Redis starts nevertheless, and serves `/livez`.
    let arguments = ["serve", "--set", "redis.url=redis://127.0.0.1:1"];
    let node = tokio::task::block_in_place(|| Service::try_start_with(folder.path(), &arguments));
    let node = node.unwrap_or_else(|log| panic!("{log}"));
    for _ in 0..3 {
        let request = node.client.request(Method::GET, "/livez").header("x-forwarded-for", "192.0.2.7");
        node.client.send(request).await.expect(200);
    }
    let warnings = || node.log().matches("http.trusted_proxies").count();
    wait::until("the warning is logged", || async { warnings() > 0 }).await;
    assert_eq!(warnings(), 1, "{}", node.log());
}
