//! However a node loses the channel or Redis, it calls no session active once its end was confirmed (I3).

use std::time::Duration;

use latchkey::{
    domain::{event::Reason, ids::AccountId},
    store::redis::RedisStores,
};

use super::{assert_not_active, is_live, next_revocation, start_replication, wait_for_peers, wait_until_synced};
use crate::harness::fault_proxy::{FaultProxy, Mode};
use crate::store::server::{NOW, Redis, account, create, session, store_with};

/// Two nodes that replicate, and an account with three sessions that the second has cached.
pub(super) struct Nodes {
    /// Connected to the server itself.
    pub(super) one: RedisStores,
    /// Connected through the proxy.
    pub(super) two: RedisStores,
    pub(super) proxy: FaultProxy,
    pub(super) account: AccountId,
}

pub(super) async fn two_nodes(server: &Redis) -> Nodes {
    let proxy = FaultProxy::start(server.socket()).await;
    let (one, two) = (server.store(), store_with(&proxy.redis_url(), Duration::from_secs(1)));
    start_replication(&one).await;
    start_replication(&two).await;
    wait_for_peers(&[&one, &two]).await;
    let account = account();
    for number in 1..=3 {
        create(&one, account, session(number), NOW).await;
        assert!(is_live(&two, account, session(number)).await);
    }
    Nodes { one, two, proxy, account }
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_node_that_receives_no_messages_does_not_call_an_ended_session_active() {
    let server = Redis::redis_7_0();
    let Nodes { one, two, proxy, account: ada } = two_nodes(&server).await;
    let mut feed = two.revocation_log.subscribe();
    proxy.set(Mode::MuteSubscribers);
    for number in 1..=2 {
        one.sessions.revoke(ada, session(number), Reason::Logout, NOW).await.unwrap();
        assert_not_active(&two, ada, session(number)).await;
        next_revocation(&mut feed).await;
    }
    // The node stays synchronized by polling.
    wait_until_synced(&two).await;
    assert!(is_live(&two, ada, session(3)).await);
    proxy.set(Mode::Open);
    one.sessions.revoke(ada, session(3), Reason::Logout, NOW).await.unwrap();
    assert_not_active(&two, ada, session(3)).await;
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_node_with_a_frozen_network_loses_its_cache() {
    let server = Redis::redis_7_0();
    let Nodes { one, two, proxy, account: ada } = two_nodes(&server).await;
    let mut feed = two.revocation_log.subscribe();
    proxy.set(Mode::Frozen);
    one.sessions.revoke(ada, session(1), Reason::Logout, NOW).await.unwrap();
    assert_not_active(&two, ada, session(1)).await;
    crate::harness::wait::until("the node is out of sync", || async { two.revocation_log.synced_at().is_none() }).await;
    assert!(two.sessions.liveness(ada, session(2), NOW).await.is_err(), "the node cannot decide without Redis");
    proxy.set(Mode::Open);
    wait_until_synced(&two).await;
    next_revocation(&mut feed).await;
    assert!(!is_live(&two, ada, session(1)).await);
    assert!(is_live(&two, ada, session(2)).await);
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_node_with_a_cut_connection_reconnects_and_misses_nothing() {
    let server = Redis::redis_7_0();
    let Nodes { one, two, proxy, account: ada } = two_nodes(&server).await;
    let mut feed = two.revocation_log.subscribe();
    for number in 1..=3 {
        wait_for_peers(&[&one, &two]).await;
        assert!(is_live(&two, ada, session(number)).await);
        proxy.set(Mode::Cut);
        one.sessions.revoke(ada, session(number), Reason::Logout, NOW).await.unwrap();
        assert_not_active(&two, ada, session(number)).await;
        proxy.set(Mode::Open);
        next_revocation(&mut feed).await;
        wait_until_synced(&two).await;
        assert!(!is_live(&two, ada, session(number)).await);
    }
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_redis_loses_no_revocation() {
    let mut server = Redis::start();
    let (one, two) = (server.store(), server.store());
    start_replication(&one).await;
    start_replication(&two).await;
    wait_for_peers(&[&one, &two]).await;
    let mut feed = two.revocation_log.subscribe();
    let ada = account();
    for number in 1..=2 {
        create(&one, ada, session(number), NOW).await;
        assert!(is_live(&two, ada, session(number)).await);
    }
    one.sessions.revoke(ada, session(1), Reason::Logout, NOW).await.unwrap();
    server.kill();
    assert_not_active(&two, ada, session(1)).await;
    server.restart();
    wait_until_synced(&one).await;
    wait_until_synced(&two).await;
    assert!(!is_live(&two, ada, session(1)).await);
    assert!(is_live(&two, ada, session(2)).await);
    next_revocation(&mut feed).await;
    one.sessions.revoke(ada, session(2), Reason::Logout, NOW).await.unwrap();
    assert_not_active(&two, ada, session(2)).await;
    next_revocation(&mut feed).await;
    assert!(feed.is_empty());
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_dies_is_waited_for_until_its_lease_lapses() {
    let server = Redis::redis_7_0();
    let (one, two, three) = (server.store(), server.store(), server.store());
    for store in [&one, &two, &three] {
        start_replication(store).await;
    }
    wait_for_peers(&[&one, &two, &three]).await;
    let ada = account();
    for number in 1..=3 {
        create(&one, ada, session(number), NOW).await;
        assert!(is_live(&two, ada, session(number)).await);
    }
    // The node announces its shutdown.
    three.close().await;
    wait_for_peers(&[&one, &two]).await;
    // The node dies without an announcement.
    drop(two);
    one.sessions.revoke(ada, session(1), Reason::Logout, NOW).await.unwrap();
    wait_for_peers(&[&one]).await;
    assert_eq!(one.sessions.revoke_all(ada, None, None, Reason::Revoked, NOW).await.unwrap(), 2);
    one.close().await;
}
