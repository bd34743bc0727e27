//! Every kind of revocation on one node reaches a subscriber of another node.

use std::time::Duration;

use latchkey::{domain::account::Roles, service::accounts};
use serde_json::{Value, json};

use crate::harness::{
    client::{PASSWORD, Tokens},
    sse::{Event, Feed},
    test_cluster::{Node, TestCluster},
    wait,
};

/// Two nodes, the account `ada`, and a subscription to the feed of `peer`. The tests revoke on `node`. The test clock starts at
/// 2027-01-15T08:00:00Z.
struct FeedFixture {
    // Fields are dropped in order: the feed before the nodes, and the nodes before their Redis and database.
    feed: Feed,
    node: Node,
    peer: Node,
    cluster: TestCluster,
    account: String,
}

impl FeedFixture {
    async fn start() -> Self {
        let mut cluster = TestCluster::new();
        // Without this window, a superseded token is refused as reuse after the grace window.
        cluster.config.session.retry_window = Duration::ZERO;
        let (node, peer) = (cluster.node().await, cluster.node().await);
        let account = node.register("ada").await.text_of("id");
        let service = cluster.service_client("billing").await;
        let mut feed = Feed::open(&peer, &service).await;
        assert!(feed.caught_up().await.is_empty());
        Self { cluster, node, peer, feed, account }
    }

    /// Returns the next revocation, which must be of the account.
    async fn next(&mut self) -> Value {
        let received = self.feed.revocation().await;
        assert_eq!(received["account_id"], *self.account);
        received
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_for_a_reused_token_is_sent() {
    let mut fixture = FeedFixture::start().await;
    let tokens = fixture.node.login("ada").await;
    fixture.node.refresh(&tokens.refresh).await.expect(200);
    // after the grace window of 10 s
    fixture.cluster.advance(Duration::from_secs(11));
    fixture.node.refresh(&tokens.refresh).await.expect(401);
    let received = fixture.next().await;
    assert_eq!(received["kind"], "session");
    assert_eq!(received["reason"], "reuse");
    assert_eq!(received["session_id"], *tokens.session);
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_of_one_session_and_of_all_others_are_sent() {
    let mut fixture = FeedFixture::start().await;
    let (first, second) = (fixture.node.login("ada").await, fixture.node.login("ada").await);
    fixture.cluster.advance(Duration::from_secs(1));
    fixture.node.delete(&format!("/v1/sessions/{}", second.session), &first.access).await.expect(204);
    let received = fixture.next().await;
    assert_eq!(received["session_id"], *second.session);
    assert_eq!(received["reason"], "revoked");
    fixture.node.delete("/v1/sessions?keep_current=true", &first.access).await.expect(200);
    let received = fixture.next().await;
    assert_eq!(received["kind"], "account");
    assert_eq!(received["except_session_id"], *first.session);
    assert_eq!(received["before"], "2027-01-15T08:00:01.000Z");
    assert_eq!(received["reason"], "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_for_a_changed_password_is_sent() {
    let mut fixture = FeedFixture::start().await;
    let tokens = fixture.node.login("ada").await;
    fixture.cluster.advance(Duration::from_millis(1500));
    let changed =
        fixture.node.change_password(&tokens.access, PASSWORD, "marmalade verse engine tidal").await.expect(200);
    let received = fixture.next().await;
    assert_eq!(received["kind"], "account");
    assert_eq!(received["reason"], "password_changed");
    assert_eq!(received["at"], "2027-01-15T08:00:01.500Z");
    assert_eq!(received["before"], "2027-01-15T08:00:01.000Z", "in whole seconds");
    assert_eq!(received["except_session_id"], *Tokens::of(&changed).session);
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_of_a_disabled_account_and_its_newest_session_are_sent() {
    let mut fixture = FeedFixture::start().await;
    fixture.node.login("ada").await;
    fixture.cluster.advance(Duration::from_secs(1));
    let newest = fixture.node.login("ada").await;
    let ada = accounts::find(&fixture.node.state.sql, "ada").await.unwrap();
    accounts::disable(&fixture.node.state, ada.id).await.unwrap();
    // The event of the account covers sessions that began before the current second, so the newest session has an event of its own.
    let mut received = [fixture.next().await, fixture.next().await];
    received.sort_by_key(|received| received["kind"].to_string());
    let [of_account, of_session] = received; // sorted by kind: "account" precedes "session"
    assert_eq!(of_account["kind"], "account");
    assert_eq!(of_account["reason"], "disabled");
    assert!(of_account.get("except_session_id").is_none());
    assert_eq!(of_session["session_id"], *newest.session);
    assert_eq!(of_session["reason"], "disabled");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_roles_are_sent_live_in_the_snapshot_and_after_resuming() {
    let mut fixture = FeedFixture::start().await;
    // A subscription can resume after this id, which is from before the changes.
    fixture.feed.wait_for_new_id().await;
    let before_changes = fixture.feed.last_id.clone();
    let ada = accounts::find(&fixture.node.state.sql, "ada").await.unwrap();
    let (editor, none) = (Roles::parse(["editor"]).unwrap(), Roles::default());
    // Adds the role, adds it again on the other node, and then removes it.
    accounts::change_roles(&fixture.node.state, ada.id, &editor, &none).await.unwrap();
    accounts::change_roles(&fixture.peer.state, ada.id, &editor, &none).await.unwrap();
    fixture.cluster.advance(Duration::from_secs(1));
    accounts::change_roles(&fixture.peer.state, ada.id, &none, &editor).await.unwrap();
    let claims = |version, at: &str| {
        let data = json!({ "account_id": fixture.account, "claims_version": version, "at": at });
        Event { name: "claims".to_owned(), data }
    };
    let expected = [claims(1, "2027-01-15T08:00:00.000Z"), claims(2, "2027-01-15T08:00:01.000Z")];
    let received = async |feed: &mut Feed| {
        let mut received = Vec::new();
        let all = async {
            while received.len() < expected.len() {
                let event = feed.next().await.unwrap();
                if event.name == "claims" {
                    received.push(event);
                }
            }
        };
        wait::within_timeout("all changes of claims arrive", all).await;
        received
    };
    assert_eq!(received(&mut fixture.feed).await, expected, "adding the role again sends no event");
    let service = fixture.cluster.service_client("other").await;
    // A subscription without an id begins with the snapshot.
    for last in [None, before_changes.as_deref()] {
        let mut feed = Feed::open_after(&fixture.node, &service, last).await;
        assert_eq!(received(&mut feed).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_of_a_retired_key_is_sent() {
    let mut fixture = FeedFixture::start().await;
    let (kid, now) = ("kqQ9ldQ5alp9g0ZU", fixture.cluster.clock.now());
    fixture.node.state.redis.revocation_log.append_key_retired(kid, now).await.unwrap();
    let received = fixture.feed.revocation().await;
    assert_eq!(received["kind"], "key");
    assert_eq!(received["kid"], kid);
    assert_eq!(received["reason"], "key_retired");
}
