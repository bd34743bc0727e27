//! Whatever ends sessions is told, on every node but the one where it happened too.

use std::time::Duration;

use latchkey::service::accounts;
use serde_json::Value;

use crate::harness::{
    client::PASSWORD,
    sse::Feed,
    test_cluster::{Node, TestCluster},
};

struct Two {
    cluster: TestCluster,
    here: Node,
    there: Node,
    feed: Feed,
    account: String,
}

impl Two {
    async fn start() -> Self {
        let cluster = TestCluster::new();
        let (here, there) = (cluster.node().await, cluster.node().await);
        let account = here.account("ada").await.text_of("id");
        let service = cluster.service_client("billing").await;
        let mut feed = Feed::open(&there, &service, None).await;
        assert_eq!(feed.caught_up().await, [Value::Null; 0]);
        Self { cluster, here, there, feed, account }
    }

    async fn next(&mut self) -> Value {
        let told = self.feed.revocation().await;
        assert_eq!(told["account_id"], *self.account);
        told
    }

    async fn stop(self) {
        drop(self.feed);
        self.here.stop().await;
        self.there.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_token() {
    let mut two = Two::start().await;
    let tokens = two.here.login("ada").await;
    two.here.refresh(&tokens.refresh).await.expect(200);
    two.cluster.advance(Duration::from_secs(11));
    two.here.refresh(&tokens.refresh).await.expect(401);
    let told = two.next().await;
    assert_eq!((&told["kind"], &told["reason"]), (&"session".into(), &"reuse".into()));
    assert_eq!(told["session_id"], *tokens.session);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ended_by_its_owner_and_all_others() {
    let mut two = Two::start().await;
    let (one, other) = (two.here.login("ada").await, two.here.login("ada").await);
    two.cluster.advance(Duration::from_secs(1));
    two.here.delete(&format!("/v1/sessions/{}", other.session), &one.access).await.expect(204);
    let told = two.next().await;
    assert_eq!((&told["session_id"], &told["reason"]), (&other.session.into(), &"revoked".into()));
    two.here.delete("/v1/sessions?keep_current=true", &one.access).await.expect(200);
    let told = two.next().await;
    assert_eq!((&told["kind"], &told["except_session_id"]), (&"account".into(), &one.session.into()));
    assert_eq!((&told["before"], &told["reason"]), (&"2027-01-15T08:00:01.000Z".into(), &"revoked".into()));
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password() {
    let mut two = Two::start().await;
    let tokens = two.here.login("ada").await;
    two.cluster.advance(Duration::from_millis(1500));
    two.here.change_password(&tokens.access, PASSWORD, "marmalade verse engine tidal").await.expect(204);
    let told = two.next().await;
    assert_eq!((&told["kind"], &told["reason"]), (&"account".into(), &"password_changed".into()));
    assert_eq!(
        (&told["before"], &told["at"]),
        (&"2027-01-15T08:00:01.000Z".into(), &"2027-01-15T08:00:01.500Z".into())
    );
    assert_eq!(told["except_session_id"], *tokens.session);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_account_and_a_session_as_young_as_that() {
    let mut two = Two::start().await;
    two.here.login("ada").await;
    two.cluster.advance(Duration::from_secs(1));
    let young = two.here.login("ada").await;
    let ada = accounts::find(&two.here.state.sql, "ada").await.unwrap();
    accounts::disable(&two.here.state, ada.id).await.unwrap();
    let mut told = [two.next().await, two.next().await];
    told.sort_by_key(|told| told["kind"].to_string());
    assert_eq!((&told[0]["kind"], &told[0]["reason"]), (&"account".into(), &"disabled".into()));
    assert!(told[0].get("except_session_id").is_none());
    assert_eq!((&told[1]["session_id"], &told[1]["reason"]), (&young.session.into(), &"disabled".into()));
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_key() {
    let mut two = Two::start().await;
    two.here.state.redis.revocation_log.append_key_retired("kqQ9ldQ5alp9g0ZU", two.cluster.clock.now()).await.unwrap();
    let told = two.feed.revocation().await;
    assert_eq!((&told["kind"], &told["kid"]), (&"key".into(), &"kqQ9ldQ5alp9g0ZU".into()));
    assert_eq!(told["reason"], "key_retired");
    two.stop().await;
}
