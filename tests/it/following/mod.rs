//! What a node remembers of sessions, and how it hears that they have ended: on the channel, and whatever becomes of the
//! channel.

mod cluster;
mod hearing;
mod losing;
mod proxy;
mod remembering;
mod silence;

use std::time::{Duration, Instant};

use latchkey::{
    domain::{
        event::{Revocation, Told},
        ids::{AccountId, SessionId},
    },
    store::redis::Redis,
};
use tokio::sync::broadcast::Receiver;

use crate::{harness::wait, store::server::NOW};

/// What the defaults allow: a session that has ended may be said to live for so long at worst.
const BOUND: Duration = Duration::from_secs(1);

/// Follows, and is in step.
async fn follow(store: &Redis) {
    store.follow();
    in_step(store).await;
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

/// Waits until a session that was ended isn't said to live any more, which may be so only within the bound.
async fn ends(store: &Redis, account: AccountId, session: SessionId, ended: Instant) {
    wait::until("it has ended", || async {
        let asked = Instant::now();
        let lives = matches!(store.liveness(account, session, NOW).await, Ok(Some(_)));
        assert!(!lives || asked < ended + BOUND, "said to live {:?} after its end", asked - ended);
        !lives
    })
    .await;
}
