//! The revocation log: session caches, and propagation of the end of a session to every node, also when the pub/sub channel fails.

mod channel;
mod cluster;
mod confirmation;
mod lost_revocations;
mod session_cache;
mod silence;

use std::time::Duration;

use latchkey::{
    domain::{
        event::{FeedMessage, Revocation},
        ids::{AccountId, SessionId},
    },
    store::redis::RedisStores,
};
use tokio::sync::broadcast::Receiver;

use crate::{harness::wait, store::server::NOW};

/// Makes a node follow the revocation log, and waits until its cache is valid.
async fn follow_revocation_log(store: &RedisStores) {
    store.revocation_log.start_replication();
    wait_until_cache_valid(store).await;
}

async fn wait_until_cache_valid(store: &RedisStores) {
    wait::until("the cache is valid", || async { store.revocation_log.cache_is_valid() }).await;
}

/// Waits until each node knows all others as peers.
async fn wait_for_peers(stores: &[&RedisStores]) {
    for store in stores {
        wait::until("the node knows its peers", || async { store.revocation_log.peers() == stores.len() - 1 }).await;
    }
}

async fn wait_until_synced(store: &RedisStores) {
    wait::until("the node is synced", || async { store.revocation_log.synced_at().is_some() }).await;
}

/// Looks a session up, which may cache it.
async fn is_live(store: &RedisStores, account: AccountId, session: SessionId) -> bool {
    store.sessions.liveness(account, session, NOW).await.unwrap().is_some()
}

/// Runs `lookups`, and returns the number of them that the cache did not answer.
async fn misses<T>(store: &RedisStores, lookups: impl Future<Output = T>) -> u64 {
    let (_, misses_before) = store.revocation_log.hits_and_misses();
    lookups.await;
    let (_, misses_after) = store.revocation_log.hits_and_misses();
    misses_after - misses_before
}

async fn next_revocation(feed: &mut Receiver<FeedMessage>) -> Revocation {
    let received = tokio::time::timeout(Duration::from_secs(60), feed.recv()).await;
    match received.expect("a message arrives").unwrap() {
        FeedMessage::Revoked(revocation) => revocation.as_ref().clone(),
        FeedMessage::Lost => panic!("revocations were lost"),
    }
}

/// Asserts that a node does not report an ended session as active (I3: revoked stays revoked). A node that can't reach Redis may return
/// an error.
async fn assert_not_active(store: &RedisStores, account: AccountId, session: SessionId) {
    let answer = store.sessions.liveness(account, session, NOW).await;
    assert!(!matches!(answer, Ok(Some(_))), "{answer:?}");
}
