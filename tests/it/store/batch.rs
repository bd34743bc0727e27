//! Batching: concurrent operations are sent to Redis in one call, with the same results as separate calls.

use futures_util::future::join_all;
use latchkey::{
    domain::{
        event::EndReason,
        session::{Generation, Rotation},
    },
    store::redis::{RedisError, key::Keys},
};

use super::{
    deployments::redis_cluster,
    on_every_server,
    server::{
        GRACE, IDLE, NOW, Redis, Rotate, account, create, raw_command, run_on_one_thread, session, store,
        wait_until_connected,
    },
};
use crate::harness::wait;

on_every_server!(
    batched_operations_have_separate_results,
    i1_token_presented_concurrently_has_one_successor,
    batched_revocations_append_one_event_each
);

async fn batched_operations_have_separate_results(server: Redis) {
    let store = server.store();
    let accounts: Vec<_> = std::iter::repeat_with(account).take(40).collect();
    for account in &accounts {
        create(&store, *account, session(1), NOW).await;
    }
    let rotate =
        |account, generation, now| store.sessions.rotate(account, session(1), Generation(generation), GRACE, IDLE, now);
    // These accounts make the batch script fall back from its fast path: the sessions of two were rotated before, `gone` has no session,
    // `newer` has a record of a newer version (3), and `foreign` a key of another type.
    let (repeated, reused, gone, newer, foreign) = (accounts[3], accounts[5], account(), accounts[7], account());
    rotate(repeated, 0, NOW).await.unwrap();
    rotate(reused, 0, NOW).await.unwrap();
    rotate(reused, 1, NOW).await.unwrap();
    let keys = Keys::new("lk:");
    let raw = server.raw().await;
    let id = session(1).as_bytes().to_vec();
    let newer_record = "\u{3}"; // a record begins with its version
    let arguments = vec![keys.sessions(newer).into(), fred::types::Value::Bytes(id.into()), newer_record.into()];
    raw_command(&raw, "HSET", arguments).await;
    server.command(&["SET", &keys.sessions(foreign), "another program's"]);

    let mut requested = accounts.clone();
    requested.extend([gone, foreign]);
    let before = server.calls("evalsha");
    // the first token of `repeated` is still in its grace window, and the first token of `reused` is not
    let now = NOW + GRACE / 2;
    let answers = run_on_one_thread(join_all(requested.iter().map(|account| {
        let presented_at = if *account == reused { NOW + GRACE } else { now };
        rotate(*account, 0, presented_at)
    })));
    assert_eq!(server.calls("evalsha") - before, 2, "42 operations: a batch of 32 and one of the rest");
    for (account, answer) in requested.into_iter().zip(answers) {
        match answer {
            Ok(Rotation::Rotated(grant)) => {
                assert_eq!(grant.account, account);
                assert_eq!(grant.generation, Generation(1));
                assert!(![repeated, reused, gone, newer, foreign].contains(&account));
            }
            Ok(Rotation::Repeated(grant)) => {
                assert_eq!(account, repeated);
                assert_eq!(grant.account, repeated);
            }
            Ok(Rotation::Reused) => assert_eq!(account, reused),
            Ok(Rotation::Gone) => assert_eq!(account, gone),
            Ok(other @ (Rotation::Expired | Rotation::Counted(_) | Rotation::SecondHolder)) => {
                panic!("{account}: {other:?}")
            }
            Err(RedisError::Unexpected(why)) if account == newer => assert!(why.contains("version 3"), "{why}"),
            Err(RedisError::Unexpected(why)) if account == foreign => assert!(why.contains("WRONGTYPE"), "{why}"),
            Err(error) => panic!("{account}: {error}"),
        }
    }
    let events: Vec<_> = server.events().into_iter().map(|[account, _, reason, _]| (account, reason)).collect();
    assert_eq!(events, [(reused.to_string(), "reuse".to_owned())]);
    store.close().await;
}

async fn i1_token_presented_concurrently_has_one_successor(server: Redis) {
    let store = server.store();
    let ada = account();
    create(&store, ada, session(1), NOW).await;
    let later = NOW + GRACE; // late enough for the script's fast path
    let rotate = || store.sessions.rotate(ada, session(1), Generation(0), GRACE, IDLE, later);
    let answers = run_on_one_thread(join_all((0..50).map(|_| rotate())));
    for answer in &answers {
        let Ok(Rotation::Rotated(grant) | Rotation::Repeated(grant)) = answer else { panic!("{answer:?}") };
        assert_eq!(grant.generation, Generation(1));
    }
    let rotated = answers.iter().filter(|answer| matches!(answer, Ok(Rotation::Rotated(_)))).count();
    assert_eq!(rotated, 1);
    store.close().await;
}

async fn batched_revocations_append_one_event_each(server: Redis) {
    let store = server.store();
    let accounts: Vec<_> = std::iter::repeat_with(account).take(10).collect();
    for account in &accounts {
        create(&store, *account, session(1), NOW).await;
    }
    // The first call, which ends no session, loads the script.
    assert!(!store.sessions.revoke(accounts[0], session(2), EndReason::Logout, NOW).await.unwrap());
    let before = server.calls("evalsha");
    // the session of the first account is revoked twice
    let requested = accounts.iter().chain(&accounts[..1]);
    let ended = run_on_one_thread(join_all(
        requested.map(|account| store.sessions.revoke(*account, session(1), EndReason::Logout, NOW)),
    ));
    assert_eq!(server.calls("evalsha") - before, 1, "11 operations in one batch");
    let ended: Vec<_> = ended.into_iter().map(Result::unwrap).collect();
    assert_eq!(ended[..10], [true; 10]);
    assert!(!ended[10], "the second revocation of a session finds it ended");
    let mut events: Vec<_> = server.events().into_iter().map(|[account, ..]| account).collect();
    events.sort();
    let mut expected: Vec<_> = accounts.iter().map(ToString::to_string).collect();
    expected.sort();
    assert_eq!(events, expected);
    store.close().await;
}

/// The URL does not say that Redis runs in cluster mode. The client learns from an error that a batch must not span slots.
#[tokio::test(flavor = "multi_thread")]
async fn batch_refused_across_slots_is_split() {
    let server = Redis::with_port(&["--cluster-enabled", "yes"]);
    server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    wait::until("the cluster has all slots", || async {
        server.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
    })
    .await;
    let store = store(&format!("redis://127.0.0.1:{}", server.port()));
    // the first batches get the error; afterwards the client knows the slots
    assert_concurrent_rotations_succeed(&store).await;
    assert_concurrent_rotations_succeed(&store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_in_cluster_holds_one_bucket() {
    let masters = redis_cluster().await;
    let store = store(&format!("redis-cluster://127.0.0.1:{}", masters[0].port()));
    wait_until_connected(&store).await;
    assert_concurrent_rotations_succeed(&store).await;
    store.close().await;
}

/// Rotates the sessions of 60 accounts at the same time.
async fn assert_concurrent_rotations_succeed(store: &latchkey::store::redis::RedisStores) {
    let accounts: Vec<_> = std::iter::repeat_with(account).take(60).collect();
    for account in &accounts {
        create(store, *account, session(1), NOW).await;
    }
    let rotate = |account| store.sessions.rotate(account, session(1), Generation(0), GRACE, IDLE, NOW);
    let answers = run_on_one_thread(join_all(accounts.iter().map(|account| rotate(*account))));
    for (account, answer) in accounts.iter().zip(answers) {
        let Ok(Rotation::Rotated(grant)) = answer else { panic!("{account}: {answer:?}") };
        assert_eq!(grant.account, *account);
    }
}
