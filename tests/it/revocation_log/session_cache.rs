//! The session cache: its answers need no Redis call and are correct while sessions end, and its size is bounded.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use latchkey::{
    config::CacheSettings,
    domain::{
        event::EndReason,
        session::{Generation, Rotation},
    },
    runtime::Cores,
    store::redis::{AccountSessions, RedisStores},
};

use super::{follow_revocation_log, is_live, misses, wait_for_peers, wait_until_synced};
use crate::store::server::{GRACE, IDLE, NOW, Redis, Rotate, account, create, session, settings};

#[tokio::test(flavor = "multi_thread")]
async fn live_session_is_looked_up_once() {
    let server = Redis::redis_7_0();
    let store = server.store();
    let ada = account();
    create(&store, ada, session(1), NOW).await;
    let look_up = async || assert!(is_live(&store, ada, session(1)).await);
    // A node that does not follow the revocation log caches nothing.
    assert_eq!(misses(&store, look_up()).await, 1);
    assert_eq!(misses(&store, look_up()).await, 1);
    follow_revocation_log(&store).await;
    // This lookup fills the cache.
    assert_eq!(misses(&store, look_up()).await, 1);
    let look_up_often = async {
        for _ in 0..100 {
            look_up().await;
        }
    };
    // On a busy machine, some lookups miss because the cache is invalid for a moment.
    assert!(misses(&store, look_up_often).await < 50);
    // The cache does not find the session under another account.
    let bob = account();
    assert!(!is_live(&store, bob, session(1)).await);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_session_that_looks_expired_is_looked_up_again() {
    let server = Redis::redis_7_0();
    let (store, peer) = (server.store(), server.store());
    follow_revocation_log(&peer).await;
    let ada = account();
    create(&store, ada, session(1), NOW).await;
    assert!(is_live(&peer, ada, session(1)).await);
    // a second before the peer's copy expires
    let later = NOW + IDLE - Duration::from_secs(1);
    let rotation = store.sessions.rotate(ada, session(1), Generation(0), GRACE, IDLE, later).await.unwrap();
    assert!(matches!(rotation, Rotation::Rotated(_)));
    // a second before the refreshed session expires
    let last = later + IDLE - Duration::from_secs(1);
    assert!(
        peer.sessions.liveness(ada, session(1), last).await.unwrap().is_some(),
        "a refresh on another node has extended the session"
    );
    assert!(
        peer.sessions.liveness(ada, session(1), later + IDLE).await.unwrap().is_none(),
        "the session's idle timeout has passed"
    );
    assert!(
        peer.sessions.liveness(ada, session(1), last).await.unwrap().is_some(),
        "a lookup at a later time does not end the session"
    );
    store.close().await;
    peer.close().await;
}

/// A node may read a session from Redis before the session ends, and receive the answer afterwards. It must not cache that answer.
#[tokio::test(flavor = "multi_thread")]
async fn i3_lookup_in_flight_while_a_session_ends_is_not_cached() {
    let server = Redis::redis_7_0();
    let (first, second) = (server.store(), server.store());
    follow_revocation_log(&first).await;
    follow_revocation_log(&second).await;
    // From now on, the end of a session waits for the other store's acknowledgement.
    wait_for_peers(&[&first, &second]).await;
    let ada = account();
    for number in 0..100 {
        create(&first, ada, session(number), NOW).await;
        let ended = &AtomicBool::new(false);
        let look_up_until_ended = |store: RedisStores| async move {
            while !ended.load(Ordering::SeqCst) {
                is_live(&store, ada, session(number)).await;
                tokio::task::yield_now().await;
            }
        };
        let end_session = async {
            // Even rounds end the session alone, odd rounds all sessions of the account.
            if number % 2 == 0 {
                first.sessions.revoke(ada, session(number), EndReason::Logout, NOW).await.unwrap();
            } else {
                first.sessions.revoke_all(AccountSessions::all(ada), EndReason::Revoked, NOW).await.unwrap();
            }
            for store in [&first, &second] {
                assert!(!is_live(store, ada, session(number)).await, "round {number}");
            }
            ended.store(true, Ordering::SeqCst);
        };
        let stores = [&first, &second, &first, &second];
        let lookups = join_all(stores.map(|store| look_up_until_ended(store.clone())));
        tokio::join!(lookups, end_session);
        // No lookup has cached the session again.
        for store in [&first, &second] {
            assert!(!is_live(store, ada, session(number)).await, "round {number}");
        }
    }
    first.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_is_bounded_by_its_capacity_and_empty_when_disabled() {
    let server = Redis::redis_7_0();
    let redis_settings = settings(&server.url());
    let connect = |max_staleness, max_sessions| {
        let cache = CacheSettings { max_staleness, max_sessions, max_tokens: 0 };
        RedisStores::connect(&server.url().into(), &redis_settings, &cache, &Cores::current_runtime()).unwrap()
    };
    let ada = account();
    let setup = server.store();
    for number in 0..50 {
        create(&setup, ada, session(number), NOW).await;
    }
    let look_up_all = async |store: &RedisStores| {
        for number in 0..50 {
            assert!(is_live(store, ada, session(number)).await);
        }
    };
    // The capacity of 1024 sessions is four for each of the 256 buckets, and all sessions of an account are in one bucket. So the cache
    // holds at most 4 of the account's 50 sessions, and at least 46 lookups miss.
    let small = connect(Duration::from_secs(1), 1024);
    follow_revocation_log(&small).await;
    // The first lookups fill the cache.
    look_up_all(&small).await;
    assert!(misses(&small, look_up_all(&small)).await >= 46);
    // The misses are not those of an invalid cache, which answers no lookup.
    let repeated_lookups = async {
        for _ in 0..100 {
            is_live(&small, ada, session(0)).await;
        }
    };
    assert!(misses(&small, repeated_lookups).await < 50);
    // A maximum staleness of zero disables the cache, so it never becomes valid.
    let disabled = connect(Duration::ZERO, 100_000);
    disabled.revocation_log.start_replication();
    wait_until_synced(&disabled).await;
    look_up_all(&disabled).await;
    assert_eq!(misses(&disabled, look_up_all(&disabled)).await, 50);
    for store in [setup, small, disabled] {
        store.close().await;
    }
}
