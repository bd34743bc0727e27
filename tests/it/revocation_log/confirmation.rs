//! I3: a node that ends a session answers only when no other node reports the session as active, not even a node whose connection to Redis
//! has stalled. So does a node that ends it by reuse or by the session cap, or whose revocation finds it ended.

use std::time::Duration;

use latchkey::{
    domain::{
        event::EndReason,
        session::{Generation, Rotation},
    },
    store::redis::{CreateOutcome, NewSession},
};

use super::{
    assert_not_active, is_live,
    silence::{Nodes, two_nodes},
};
use crate::harness::fault_proxy::Mode;
use crate::store::server::{GRACE, IDLE, NOW, Redis, Rotate, new_session, session};

#[tokio::test(flavor = "multi_thread")]
async fn i3_repeated_revoke_with_a_stalled_node_waits_for_its_lease() {
    let server = Redis::redis_7_0();
    let Nodes { direct, proxied, proxy, account } = two_nodes(&server).await;
    proxy.set(Mode::Frozen);
    let revoke = async || {
        let ended = direct.sessions.revoke(account, session(1), EndReason::Logout, NOW).await.unwrap();
        assert_not_active(&proxied, account, session(1)).await;
        ended
    };
    let (ended_by_first, ended_by_second) = tokio::join!(revoke(), revoke());
    assert_ne!(ended_by_first, ended_by_second, "one of the calls has ended the session");
    proxy.set(Mode::Open);
    direct.close().await;
    proxied.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_repeated_revoke_on_another_node_waits_for_a_stalled_node() {
    let server = Redis::redis_7_0();
    let Nodes { direct, proxied, proxy, account } = two_nodes(&server).await;
    let third = server.store();
    super::start_replication(&third).await;
    super::wait_for_peers(&[&direct, &proxied, &third]).await;
    proxy.set(Mode::Frozen);
    let first_revoke = direct.sessions.revoke(account, session(1), EndReason::Logout, NOW);
    let second_revoke = async {
        let ended = third.sessions.revoke(account, session(1), EndReason::Logout, NOW).await.unwrap();
        assert_not_active(&proxied, account, session(1)).await;
        ended
    };
    let (ended_by_first, ended_by_second) = tokio::join!(first_revoke, second_revoke);
    assert_ne!(ended_by_first.unwrap(), ended_by_second, "one of the calls has ended the session");
    proxy.set(Mode::Open);
    for store in [direct, proxied, third] {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_reuse_with_a_stalled_node_waits_for_its_lease() {
    let server = Redis::redis_7_0();
    let Nodes { direct, proxied, proxy, account } = two_nodes(&server).await;
    direct.sessions.rotate(account, session(1), Generation(0), GRACE, IDLE, NOW).await.unwrap();
    // caches the session again after the rotation
    assert!(is_live(&proxied, account, session(1)).await);
    proxy.set(Mode::Frozen);
    let after_grace = NOW + GRACE + Duration::from_millis(1);
    let rotation = direct.sessions.rotate(account, session(1), Generation(0), GRACE, IDLE, after_grace).await.unwrap();
    assert_eq!(rotation, Rotation::Reused);
    assert_not_active(&proxied, account, session(1)).await;
    proxy.set(Mode::Open);
    direct.close().await;
    proxied.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_session_cap_with_a_stalled_node_waits_for_its_lease() {
    let server = Redis::redis_7_0();
    let Nodes { direct, proxied, proxy, account } = two_nodes(&server).await;
    // the node that ends the session has cached it, too
    assert!(is_live(&direct, account, session(1)).await);
    proxy.set(Mode::Frozen);
    // one more than the account may have
    let fourth = NewSession { max_per_account: 3, ..new_session(account, session(4)) };
    let later = NOW + Duration::from_secs(1);
    assert!(matches!(direct.sessions.create(fourth, later).await.unwrap(), CreateOutcome::Created { .. }));
    // the script ends one of the three former sessions; it may be any of them, because they have the same age
    let mut ended = 0;
    for number in 1..=3 {
        if !is_live(&direct, account, session(number)).await {
            ended += 1;
            assert_not_active(&proxied, account, session(number)).await;
        }
    }
    assert_eq!(ended, 1);
    proxy.set(Mode::Open);
    direct.close().await;
    proxied.close().await;
}
