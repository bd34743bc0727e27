//! A node notices that Redis has lost revocations, and reports the loss to the feed.

use std::time::Duration;

use latchkey::{
    domain::{
        clock::Timestamp,
        event::{EndReason, FeedMessage},
    },
    store::redis::key::{Keys, bucket},
};
use tokio::sync::broadcast::Receiver;

use super::{follow_revocation_log, is_live, next_revocation, wait_until_synced};
use crate::harness::fault_proxy::{FaultProxy, Mode};
use crate::store::server::{NOW, Redis, account, create, session, store_with};

/// Asserts that the next message of the feed reports that revocations were lost.
async fn assert_loss_is_reported(feed: &mut Receiver<FeedMessage>) {
    let received = tokio::time::timeout(Duration::from_secs(60), feed.recv()).await.expect("a message arrives");
    let message = received.unwrap();
    assert!(matches!(message, FeedMessage::Lost), "{message:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_redis_clears_the_cache_and_the_feed_reports_it() {
    let server = Redis::redis_7_0();
    let store = server.store();
    follow_revocation_log(&store).await;
    let mut feed = store.revocation_log.subscribe();
    let ada = account();
    for number in 1..=2 {
        create(&store, ada, session(number), NOW).await;
        assert!(is_live(&store, ada, session(number)).await);
    }
    store.sessions.revoke(ada, session(1), EndReason::Logout, NOW).await.unwrap();
    next_revocation(&mut feed).await;
    server.command(&["FLUSHALL"]);
    assert_loss_is_reported(&mut feed).await;
    assert!(!is_live(&store, ada, session(2)).await);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gap_whose_events_have_expired_is_reported_to_the_feed() {
    let server = Redis::redis_7_0();
    let proxy = FaultProxy::start(server.socket()).await;
    let command_timeout = Duration::from_secs(1);
    // The stores of two nodes. Only `proxied` loses its connection.
    let direct = server.store();
    let proxied = store_with(&proxy.redis_url(), command_timeout);
    follow_revocation_log(&proxied).await;
    let mut feed = proxied.revocation_log.subscribe();
    let ada = account();
    for number in 1..=4 {
        create(&direct, ada, session(number), NOW).await;
    }
    direct.sessions.revoke(ada, session(1), EndReason::Logout, NOW).await.unwrap();
    next_revocation(&mut feed).await;
    proxy.set(Mode::Cut);
    direct.sessions.revoke(ada, session(2), EndReason::Logout, NOW).await.unwrap();
    direct.sessions.revoke(ada, session(3), EndReason::Logout, NOW).await.unwrap();
    // Only the newest event of the account's bucket (group of accounts), that of session 3, is left, as if the older events had expired.
    server.command(&["XTRIM", &Keys::new("lk:").events_of_bucket(bucket(ada)), "MAXLEN", "1"]);
    proxy.set(Mode::Open);
    // The feed receives the event of session 3, and then the message that events were lost.
    next_revocation(&mut feed).await;
    assert_loss_is_reported(&mut feed).await;
    wait_until_synced(&proxied).await;
    assert!(is_live(&proxied, ada, session(4)).await);
    direct.close().await;
    proxied.close().await;
}

/// During an upgrade, a newer release may append entries that this one cannot read.
#[tokio::test(flavor = "multi_thread")]
async fn unreadable_entry_is_skipped_and_the_feed_reports_it() {
    let server = Redis::redis_7_0();
    let store = server.store();
    follow_revocation_log(&store).await;
    let mut feed = store.revocation_log.subscribe();
    let ada = account();
    for number in 1..=2 {
        create(&store, ada, session(number), NOW).await;
        assert!(is_live(&store, ada, session(number)).await);
    }
    let keys = Keys::new("lk:");
    let bucket = bucket(ada);
    // The scripts of a newer release would append an entry and store its position as well.
    let append =
        "local id = redis.call('XADD', KEYS[1], '*', 'kind', 'of a newer release') redis.call('SET', KEYS[2], id)";
    server.command(&["EVAL", append, "2", &keys.events_of_bucket(bucket), &keys.position_of_bucket(bucket)]);
    assert_loss_is_reported(&mut feed).await;
    // The node continues to receive events.
    store.sessions.revoke(ada, session(1), EndReason::Logout, NOW).await.unwrap();
    next_revocation(&mut feed).await;
    wait_until_synced(&store).await;
    assert!(!is_live(&store, ada, session(1)).await);
    assert!(is_live(&store, ada, session(2)).await);
    let start = Timestamp::from_millis(0);
    let (read, is_complete) = store.revocation_log.revocations_since(bucket, start).await.unwrap();
    assert_eq!(read.len(), 1, "the logout");
    assert!(!is_complete, "the unreadable entry is missing");
    store.close().await;
}
