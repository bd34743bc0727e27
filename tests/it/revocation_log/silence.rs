//! A node that loses Redis, or only its channel (pub/sub), does not report a session as active once the call that ended it has returned (I3:
//! revoked stays revoked).

use std::time::Duration;

use latchkey::{
    domain::{event::EndReason, ids::AccountId},
    store::redis::{AccountSessions, RedisStores},
};

use super::{assert_not_active, follow_revocation_log, is_live, next_revocation, wait_for_peers, wait_until_synced};
use crate::harness::{
    fault_proxy::{FaultProxy, Mode},
    wait,
};
use crate::store::server::{NOW, Redis, account, create, session, store_with};

/// Two nodes that follow the revocation log, and an account with three sessions, which the proxied node has cached.
pub(super) struct Nodes {
    /// The node that is connected to Redis directly.
    pub(super) direct: RedisStores,
    /// The node that is connected to Redis through the proxy.
    pub(super) proxied: RedisStores,
    pub(super) proxy: FaultProxy,
    pub(super) account: AccountId,
}

/// Starts two nodes, which know each other and have valid caches.
pub(super) async fn two_nodes(server: &Redis) -> Nodes {
    let proxy = FaultProxy::start(server.socket()).await;
    let command_timeout = Duration::from_secs(1);
    let (direct, proxied) = (server.store(), store_with(&proxy.redis_url(), command_timeout));
    follow_revocation_log(&direct).await;
    follow_revocation_log(&proxied).await;
    wait_for_peers(&[&direct, &proxied]).await;
    let account = account();
    for number in 1..=3 {
        create(&direct, account, session(number), NOW).await;
        assert!(is_live(&proxied, account, session(number)).await);
    }
    Nodes { direct, proxied, proxy, account }
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_node_that_receives_no_messages_does_not_report_an_ended_session_as_active() {
    let server = Redis::redis_7_0();
    let Nodes { direct, proxied, proxy, account: ada } = two_nodes(&server).await;
    let mut feed = proxied.revocation_log.subscribe();
    // The node receives nothing on the channel, and has to read the streams.
    proxy.set(Mode::MuteSubscribers);
    for number in 1..=2 {
        direct.sessions.revoke(ada, session(number), EndReason::Logout, NOW).await.unwrap();
        assert_not_active(&proxied, ada, session(number)).await;
        next_revocation(&mut feed).await;
    }
    // The node that receives no messages stays synchronized by polling.
    wait_until_synced(&proxied).await;
    assert!(is_live(&proxied, ada, session(3)).await);
    proxy.set(Mode::Open);
    direct.sessions.revoke(ada, session(3), EndReason::Logout, NOW).await.unwrap();
    assert_not_active(&proxied, ada, session(3)).await;
    direct.close().await;
    proxied.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_node_with_a_frozen_network_loses_its_cache() {
    let server = Redis::redis_7_0();
    let Nodes { direct, proxied, proxy, account: ada } = two_nodes(&server).await;
    let mut feed = proxied.revocation_log.subscribe();
    proxy.set(Mode::Frozen);
    direct.sessions.revoke(ada, session(1), EndReason::Logout, NOW).await.unwrap();
    assert_not_active(&proxied, ada, session(1)).await;
    wait::until("the node is out of sync", || async { proxied.revocation_log.synced_at().is_none() }).await;
    assert!(proxied.sessions.liveness(ada, session(2), NOW).await.is_err(), "the node cannot decide without Redis");
    proxy.set(Mode::Open);
    wait_until_synced(&proxied).await;
    next_revocation(&mut feed).await;
    assert!(!is_live(&proxied, ada, session(1)).await);
    assert!(is_live(&proxied, ada, session(2)).await);
    direct.close().await;
    proxied.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_node_with_a_cut_connection_reconnects_and_misses_nothing() {
    let server = Redis::redis_7_0();
    let Nodes { direct, proxied, proxy, account: ada } = two_nodes(&server).await;
    let mut feed = proxied.revocation_log.subscribe();
    for number in 1..=3 {
        // After a cut, both nodes first announce again that they are live.
        wait_for_peers(&[&direct, &proxied]).await;
        assert!(is_live(&proxied, ada, session(number)).await);
        proxy.set(Mode::Cut);
        direct.sessions.revoke(ada, session(number), EndReason::Logout, NOW).await.unwrap();
        assert_not_active(&proxied, ada, session(number)).await;
        proxy.set(Mode::Open);
        next_revocation(&mut feed).await;
        wait_until_synced(&proxied).await;
        assert!(!is_live(&proxied, ada, session(number)).await);
    }
    direct.close().await;
    proxied.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_redis_loses_no_revocation() {
    let mut server = Redis::redis_7_0();
    let (node, peer) = (server.store(), server.store());
    follow_revocation_log(&node).await;
    follow_revocation_log(&peer).await;
    wait_for_peers(&[&node, &peer]).await;
    let mut feed = peer.revocation_log.subscribe();
    let ada = account();
    for number in 1..=2 {
        create(&node, ada, session(number), NOW).await;
        assert!(is_live(&peer, ada, session(number)).await);
    }
    node.sessions.revoke(ada, session(1), EndReason::Logout, NOW).await.unwrap();
    server.kill();
    assert_not_active(&peer, ada, session(1)).await;
    server.restart();
    wait_until_synced(&node).await;
    wait_until_synced(&peer).await;
    assert!(!is_live(&peer, ada, session(1)).await);
    assert!(is_live(&peer, ada, session(2)).await);
    next_revocation(&mut feed).await;
    node.sessions.revoke(ada, session(2), EndReason::Logout, NOW).await.unwrap();
    assert_not_active(&peer, ada, session(2)).await;
    next_revocation(&mut feed).await;
    assert!(feed.is_empty(), "each revocation is reported once");
    node.close().await;
    peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_out_waits_for_a_dead_node_until_its_lease_lapses() {
    let server = Redis::redis_7_0();
    let (first, second, third) = (server.store(), server.store(), server.store());
    for store in [&first, &second, &third] {
        follow_revocation_log(store).await;
    }
    wait_for_peers(&[&first, &second, &third]).await;
    let ada = account();
    for number in 1..=3 {
        create(&first, ada, session(number), NOW).await;
        assert!(is_live(&second, ada, session(number)).await);
    }
    // The second node dies without an announcement, so it counts as a peer until the lease of its last heartbeat lapses.
    drop(second);
    // The third node announces its shutdown, so no sign-out waits for it. The channel keeps the order of messages: after the
    // announcement, no heartbeat of the second node is on its way.
    third.close().await;
    wait::until("the third node has left", || async { first.revocation_log.peers() <= 1 }).await;
    first.sessions.revoke(ada, session(1), EndReason::Logout, NOW).await.unwrap();
    assert_eq!(first.revocation_log.peers(), 0, "the sign-out returns after the lease has lapsed");
    let ended = first.sessions.revoke_all(AccountSessions::all(ada), EndReason::Revoked, NOW).await.unwrap();
    assert_eq!(ended, 2, "the sessions that are left of three");
    first.close().await;
}
