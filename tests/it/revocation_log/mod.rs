//! What a node remembers of sessions, and how it hears that they have ended: on the channel, and whatever becomes of the
//! channel.

mod channel;
mod cluster;
mod losing;
mod proxy;
mod session_cache;
mod silence;

use std::time::Duration;

use latchkey::{
    domain::{
        event::{Revocation, Told},
        ids::{AccountId, SessionId},
    },
    store::redis::Redis,
};
use tokio::sync::broadcast::Receiver;

use crate::{harness::wait, store::server::NOW};

/// Follows, and remembers.
async fn follow(store: &Redis) {
    store.follow();
    remembers(store).await;
}

async fn remembers(store: &Redis) {
    wait::until("it remembers", || async { store.remembers() }).await;
}

/// All of them know of each other.
async fn acquainted(stores: &[&Redis]) {
    for store in stores {
        wait::until("it knows the others", || async { store.peers() == stores.len() - 1 }).await;
    }
}

async fn in_step(store: &Redis) {
    wait::until("it is in step", || async { store.in_step().is_some() }).await;
}

async fn lives(store: &Redis, account: AccountId, session: SessionId) -> bool {
    store.liveness(account, session, NOW).await.unwrap().is_some()
}

/// How many sessions Redis had to be asked about while `asking`.
async fn misses<T>(store: &Redis, asking: impl Future<Output = T>) -> u64 {
    let (_, before) = store.hits_and_misses();
    asking.await;
    store.hits_and_misses().1 - before
}

/// Waits for the next revocation.
async fn revoked(told: &mut Receiver<Told>) -> Revocation {
    match tokio::time::timeout(Duration::from_secs(60), told.recv()).await.expect("it is told").unwrap() {
        Told::Revoked(revocation) => revocation.as_ref().clone(),
        Told::Lost => panic!("it was lost"),
    }
}

/// A session whose end was confirmed isn't said to live any more, not even by a node that can't be reached (I3).
async fn ended(store: &Redis, account: AccountId, session: SessionId) {
    let answer = store.liveness(account, session, NOW).await;
    assert!(!matches!(answer, Ok(Some(_))), "{answer:?}");
}
