//! On Redis Cluster, whose masters each have their own part of the buckets.

use latchkey::domain::event::Reason;

use super::{acquainted, ended, follow, lives, revoked};
use crate::store::{
    places::cluster,
    server::{NOW, account, connected, create, session, store},
};

#[tokio::test(flavor = "multi_thread")]
async fn revocations_of_every_master_are_heard_by_every_node() {
    let masters = cluster().await;
    let url = format!("redis-cluster://127.0.0.1:{}", masters[0].port());
    let (one, two) = (store(&url), store(&url));
    follow(&one).await;
    follow(&two).await;
    for store in [&one, &two] {
        connected(store).await;
    }
    acquainted(&[&one, &two]).await;
    let mut told = two.told();
    for _ in 0..50 {
        let ada = account();
        create(&one, ada, session(1), NOW).await;
        assert!(lives(&two, ada, session(1)).await);
        one.revoke(ada, session(1), Reason::Logout, NOW).await.unwrap();
        ended(&two, ada, session(1)).await;
        revoked(&mut told).await;
    }
    one.close().await;
    two.close().await;
}
