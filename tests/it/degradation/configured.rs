//! A Redis that works, and may lose what it acknowledged: `/readyz` says so (I9).

use super::cluster;
use crate::store::server::{DURABLE, Server};

async fn readiness(arguments: &[&str]) -> (String, Vec<String>) {
    let server = Server::start("redis-server", 0, arguments);
    let cluster = cluster(&server);
    let node = cluster.node().await;
    let json = node.get("/readyz", "").await.expect(200).json();
    let redis = &json["checks"][0];
    assert_eq!(json["status"], redis["status"], "{json}");
    let problems = redis["problems"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
    node.stop().await;
    (redis["status"].as_str().unwrap().to_owned(), problems)
}

#[tokio::test(flavor = "multi_thread")]
async fn as_the_documents_prescribe_nothing_is_wrong() {
    assert_eq!(readiness(DURABLE).await, ("ok".to_owned(), vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_lose_sessions_is_a_warning() {
    for (arguments, says) in [
        (&["--appendonly", "no"][..], "`appendonly yes`"),
        (&["--appendonly", "yes", "--appendfsync", "everysec"], "`appendfsync everysec`"),
        (&[DURABLE, &["--maxmemory-policy", "allkeys-lru"]].concat(), "`maxmemory-policy allkeys-lru`"),
    ] {
        let (status, problems) = readiness(arguments).await;
        assert_eq!((status.as_str(), problems.len()), ("warning", 1), "{arguments:?}: {problems:?}");
        assert!(problems[0].contains(says), "{problems:?}");
    }
}
