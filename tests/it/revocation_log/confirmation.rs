//! I3: a call that ends a session returns only when no node reports the session as active. It waits until a stalled node's lease ends:
//! for that long, the node may use its cache. Reuse, the session cap and a revocation that finds the session ended wait in the same way.

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
    let revoke_and_assert_inactive = async || {
        let ended = direct.sessions.revoke(account, session(1), EndReason::Logout, NOW).await.unwrap();
        assert_not_active(&proxied, account, session(1)).await;
        ended
    };
    let (ended_by_first, ended_by_second) = tokio::join!(revoke_and_assert_inactive(), revoke_and_assert_inactive());
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
    super::follow_revocation_log(&third).await;
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
    // This lookup caches the session again after the rotation.
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
    // `direct` has cached one of the sessions, too.
    assert!(is_live(&direct, account, session(1)).await);
    proxy.set(Mode::Frozen);
    // the fourth session of an account that may have three
    let fourth = NewSession { max_per_account: 3, ..new_session(account, session(4)) };
    let later = NOW + Duration::from_secs(1);
    assert!(matches!(direct.sessions.create(fourth, later).await.unwrap(), CreateOutcome::Created { .. }));
    // The script ends the oldest of the three former sessions. They have the same age, so it may be any of them.
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
