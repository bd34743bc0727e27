//! Revocations on Redis Cluster, where each master holds a part of the buckets.

use latchkey::domain::event::EndReason;

use super::{assert_not_active, follow_revocation_log, is_live, next_revocation, wait_for_peers};
use crate::store::{
    deployments::redis_cluster,
    server::{NOW, account, create, session, store, wait_until_connected},
};

#[tokio::test(flavor = "multi_thread")]
async fn revocation_on_every_master_of_a_cluster_reaches_every_node() {
    let masters = redis_cluster().await;
    // any master: the nodes learn the others from it
    let url = format!("redis-cluster://127.0.0.1:{}", masters[0].port());
    let (first, second) = (store(&url), store(&url));
    follow_revocation_log(&first).await;
    follow_revocation_log(&second).await;
    for store in [&first, &second] {
        wait_until_connected(store).await;
    }
    wait_for_peers(&[&first, &second]).await;
    let mut feed = second.revocation_log.subscribe();
    // fifty random accounts: their buckets are spread over all masters
    for _ in 0..50 {
        let ada = account();
        create(&first, ada, session(1), NOW).await;
        assert!(is_live(&second, ada, session(1)).await);
        first.sessions.revoke(ada, session(1), EndReason::Logout, NOW).await.unwrap();
        assert_not_active(&second, ada, session(1)).await;
        next_revocation(&mut feed).await;
    }
    first.close().await;
    second.close().await;
}
