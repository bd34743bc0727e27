//! Revocations on Redis Cluster, where each master holds a part of the buckets.

use latchkey::domain::event::Reason;

use super::{assert_not_active, is_live, next_revocation, start_replication, wait_for_peers};
use crate::store::{
    deployments::cluster,
    server::{NOW, account, connected, create, session, store},
};

#[tokio::test(flavor = "multi_thread")]
async fn revocation_on_every_master_of_a_cluster_reaches_every_node() {
    let masters = cluster().await;
    let url = format!("redis-cluster://127.0.0.1:{}", masters[0].port());
    let (one, two) = (store(&url), store(&url));
    start_replication(&one).await;
    start_replication(&two).await;
    for store in [&one, &two] {
        connected(store).await;
    }
    wait_for_peers(&[&one, &two]).await;
    let mut feed = two.revocation_log.subscribe();
    for _ in 0..50 {
        let ada = account();
        create(&one, ada, session(1), NOW).await;
        assert!(is_live(&two, ada, session(1)).await);
        one.sessions.revoke(ada, session(1), Reason::Logout, NOW).await.unwrap();
        assert_not_active(&two, ada, session(1)).await;
        next_revocation(&mut feed).await;
    }
    one.close().await;
    two.close().await;
}
