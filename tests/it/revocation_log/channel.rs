//! Every revocation reaches every node once, and revocations of one account arrive in order.

use std::time::Duration;

use futures_util::future::join_all;
use latchkey::{
    domain::{
        account::{ClaimsVersion, Epoch, Roles},
        additional_claims::AdditionalClaims,
        clock::Timestamp,
        event::{EndReason, Revocation, RevocationTarget},
        session::{Generation, Rotation},
    },
    store::redis::{AccountSessions, key::BUCKETS},
};

use super::{follow_revocation_log, is_live, next_revocation};
use crate::store::{
    on_every_server,
    server::{GRACE, IDLE, NOW, Redis, Rotate, account, create, run_on_one_thread, session},
};

on_every_server!(revocation_of_every_kind_reaches_every_node_once, revocations_in_one_message_reach_every_node);

async fn revocation_of_every_kind_reaches_every_node_once(server: Redis) {
    let (node, peer) = (server.store(), server.store());
    follow_revocation_log(&node).await;
    follow_revocation_log(&peer).await;
    let mut feed = node.revocation_log.subscribe();
    let mut peer_feed = peer.revocation_log.subscribe();
    let ada = account();
    for number in 1..=4 {
        create(&node, ada, session(number), NOW).await;
    }
    let first = Generation(0);
    node.sessions.rotate(ada, session(1), first, GRACE, IDLE, NOW).await.unwrap();
    // after the grace window, and not at the start of a second, so that `before` below differs from it
    let late = NOW + GRACE + Duration::from_millis(1500);
    let repeated = node.sessions.rotate(ada, session(1), first, GRACE, IDLE, late).await.unwrap();
    assert_eq!(repeated, Rotation::Reused);
    peer.sessions.revoke(ada, session(2), EndReason::Logout, late).await.unwrap();
    node.sessions
        .revoke_all(AccountSessions::all(ada).except(session(3)), EndReason::PasswordChanged, late)
        .await
        .unwrap();
    node.sessions
        .set_claims(ada, &Roles::default(), &AdditionalClaims::default(), ClaimsVersion(1), Epoch(0), late)
        .await
        .unwrap();
    peer.sessions.revoke_all(AccountSessions::all(ada), EndReason::FactorsChanged, late).await.unwrap();
    peer.sessions.revoke_all(AccountSessions::all(ada), EndReason::Disabled, late).await.unwrap();
    node.revocation_log.append_key_retired("some-key", late).await.unwrap();

    let revocation = |target, reason| Revocation { target, reason, at: late };
    // account-wide events end the sessions that began before the second of the event
    let before = Timestamp::from_millis(late.as_secs() * 1000);
    let expected = [
        revocation(RevocationTarget::Session { account: ada, session: session(1) }, EndReason::Reuse),
        revocation(RevocationTarget::Session { account: ada, session: session(2) }, EndReason::Logout),
        revocation(
            RevocationTarget::Account { account: ada, before, except: Some(session(3)) },
            EndReason::PasswordChanged,
        ),
        revocation(RevocationTarget::Claims { account: ada, version: ClaimsVersion(1) }, EndReason::ClaimsChanged),
        revocation(RevocationTarget::Account { account: ada, before, except: None }, EndReason::FactorsChanged),
        revocation(RevocationTarget::Account { account: ada, before, except: None }, EndReason::Disabled),
        revocation(RevocationTarget::Key { kid: "some-key".to_owned() }, EndReason::KeyRetired),
    ];
    for feed in [&mut feed, &mut peer_feed] {
        let mut received = Vec::new();
        for _ in &expected {
            received.push(next_revocation(feed).await);
        }
        // Order is guaranteed only within a bucket (a group of accounts). Events of keys are in bucket 0.
        received.sort_by_key(|revocation| matches!(revocation.target, RevocationTarget::Key { .. }));
        assert_eq!(received, expected);
        assert!(feed.is_empty());
    }
    // The streams in Redis have the same revocations, all from the last minute, but in the order of the buckets.
    let since = peer.revocation_log.synced_at().unwrap() - Duration::from_mins(1);
    let mut read = Vec::new();
    for bucket in 0..BUCKETS {
        let (revocations, is_complete) = peer.revocation_log.revocations_since(bucket, since).await.unwrap();
        assert!(is_complete, "bucket {bucket}");
        read.extend(revocations);
    }
    read.sort_by_key(|revocation| expected.iter().position(|expected| expected == revocation));
    assert_eq!(read, expected);
    node.close().await;
    peer.close().await;
}

async fn revocations_in_one_message_reach_every_node(server: Redis) {
    let (node, peer) = (server.store(), server.store());
    follow_revocation_log(&peer).await;
    let mut feed = peer.revocation_log.subscribe();
    let accounts: Vec<_> = std::iter::repeat_with(account).take(16).collect();
    for account in &accounts {
        create(&node, *account, session(1), NOW).await;
        assert!(is_live(&peer, *account, session(1)).await);
    }
    // The first call loads the script. The account has no session 2, so the call ends none.
    assert!(!node.sessions.revoke(accounts[0], session(2), EndReason::Logout, NOW).await.unwrap());
    let before = server.calls("evalsha");
    run_on_one_thread(join_all(
        accounts.iter().map(|account| node.sessions.revoke(*account, session(1), EndReason::Logout, NOW)),
    ));
    let calls = server.calls("evalsha") - before;
    assert_eq!(calls, 1, "the node batches the revocations of one thread in one call");
    let mut received = Vec::new();
    for _ in &accounts {
        received.push(next_revocation(&mut feed).await.target);
    }
    for account in accounts {
        assert!(received.contains(&RevocationTarget::Session { account, session: session(1) }));
        assert!(!is_live(&peer, account, session(1)).await);
    }
    assert!(peer.revocation_log.synced_at().is_some(), "the node has missed no event");
    node.close().await;
    peer.close().await;
}
