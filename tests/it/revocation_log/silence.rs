//! However the channel dies, no session is said to live once its end was confirmed.

use std::time::Duration;

use latchkey::{
    domain::{event::Reason, ids::AccountId},
    store::redis::Redis,
};

use super::{
    acquainted, ended, follow, in_step, lives,
    proxy::{Mode, Proxy},
    revoked,
};
use crate::store::server::{DURABLE, NOW, Server, account, create, session, store_with};

/// A node on the server itself, and one behind the proxy, which remembers two sessions of an account.
async fn beds(server: &Server) -> (Redis, Redis, Proxy, AccountId) {
    let proxy = Proxy::start(server.socket()).await;
    let (one, two) = (server.store(), store_with(&proxy.url(), Duration::from_secs(1)));
    follow(&one).await;
    follow(&two).await;
    acquainted(&[&one, &two]).await;
    let ada = account();
    for number in 1..=3 {
        create(&one, ada, session(number), NOW).await;
        assert!(lives(&two, ada, session(number)).await);
    }
    (one, two, proxy, ada)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_has_gone_deaf_is_no_harm() {
    let server = Server::redis_7_0();
    let (one, two, proxy, ada) = beds(&server).await;
    let mut told = two.told();
    proxy.set(Mode::Deaf);
    for number in 1..=2 {
        one.revoke(ada, session(number), Reason::Logout, NOW).await.unwrap();
        ended(&two, ada, session(number)).await;
        revoked(&mut told).await;
    }
    // no better, no worse: it stays in step by looking
    in_step(&two).await;
    assert!(lives(&two, ada, session(3)).await);
    proxy.set(Mode::Open);
    one.revoke(ada, session(3), Reason::Logout, NOW).await.unwrap();
    ended(&two, ada, session(3)).await;
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_network_ends_what_is_remembered() {
    let server = Server::redis_7_0();
    let (one, two, proxy, ada) = beds(&server).await;
    let mut told = two.told();
    proxy.set(Mode::Frozen);
    one.revoke(ada, session(1), Reason::Logout, NOW).await.unwrap();
    ended(&two, ada, session(1)).await;
    crate::harness::wait::until("it is out of step", || async { two.in_step().is_none() }).await;
    assert!(two.liveness(ada, session(2), NOW).await.is_err(), "it can't know");
    proxy.set(Mode::Open);
    in_step(&two).await;
    revoked(&mut told).await;
    assert!(!lives(&two, ada, session(1)).await);
    assert!(lives(&two, ada, session(2)).await);
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_made_again_and_nothing_is_missed() {
    let server = Server::redis_7_0();
    let (one, two, proxy, ada) = beds(&server).await;
    let mut told = two.told();
    for number in 1..=3 {
        acquainted(&[&one, &two]).await;
        assert!(lives(&two, ada, session(number)).await);
        proxy.set(Mode::Cut);
        one.revoke(ada, session(number), Reason::Logout, NOW).await.unwrap();
        ended(&two, ada, session(number)).await;
        proxy.set(Mode::Open);
        revoked(&mut told).await;
        in_step(&two).await;
        assert!(!lives(&two, ada, session(number)).await);
    }
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_killed_and_restarted_has_lost_nothing() {
    let mut server = Server::start("redis-server", 0, DURABLE);
    let (one, two) = (server.store(), server.store());
    follow(&one).await;
    follow(&two).await;
    acquainted(&[&one, &two]).await;
    let mut told = two.told();
    let ada = account();
    for number in 1..=2 {
        create(&one, ada, session(number), NOW).await;
        assert!(lives(&two, ada, session(number)).await);
    }
    one.revoke(ada, session(1), Reason::Logout, NOW).await.unwrap();
    server.kill();
    ended(&two, ada, session(1)).await;
    server.restart();
    in_step(&one).await;
    in_step(&two).await;
    assert!(!lives(&two, ada, session(1)).await);
    assert!(lives(&two, ada, session(2)).await);
    revoked(&mut told).await;
    one.revoke(ada, session(2), Reason::Logout, NOW).await.unwrap();
    ended(&two, ada, session(2)).await;
    revoked(&mut told).await;
    assert!(told.is_empty());
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_is_waited_for_no_longer_than_it_could_have_remembered() {
    let server = Server::redis_7_0();
    let (one, two, three) = (server.store(), server.store(), server.store());
    for store in [&one, &two, &three] {
        follow(store).await;
    }
    acquainted(&[&one, &two, &three]).await;
    let ada = account();
    for number in 1..=3 {
        create(&one, ada, session(number), NOW).await;
        assert!(lives(&two, ada, session(number)).await);
    }
    // it says goodbye
    three.close().await;
    acquainted(&[&one, &two]).await;
    // it doesn't
    drop(two);
    one.revoke(ada, session(1), Reason::Logout, NOW).await.unwrap();
    acquainted(&[&one]).await;
    assert_eq!(one.revoke_all(ada, None, None, Reason::Revoked, NOW).await.unwrap(), 2);
    one.close().await;
}
