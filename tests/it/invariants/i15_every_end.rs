//! I15: Every end of a session other than its own timeouts appends an event with its cause to the revocation log.

use std::time::Duration;

use latchkey::service::{accounts, sessions};
use reqwest::Method;

use crate::harness::{
    client::{PASSWORD, Tokens},
    events,
    test_cluster::TestCluster,
};

const NEW_PASSWORD: &str = "gravel lantern opera sixpence";

#[tokio::test(flavor = "multi_thread")]
async fn i15_each_way_to_end_a_session_appends_an_event_with_its_cause() {
    let mut cluster = TestCluster::new();
    cluster.config.session.max_per_account = 2;
    // Without a retry window, a repeat of a superseded token is reuse once the grace window has ended.
    cluster.config.session.retry_window = Duration::ZERO;
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.register("ada").await;
    let account = accounts::find(&node.state.sql, "ada").await.unwrap().id;
    // the session and the cause of each event so far
    let mut expected: Vec<(String, String)> = Vec::new();
    let mut assert_appended = |session: &str, cause: &str| {
        expected.push((session.to_owned(), cause.to_owned()));
        // An event for `all` or `all but` covers only sessions that began in an earlier second than the event.
        cluster.advance(Duration::from_secs(1));
        assert_eq!(events::sessions_and_causes(&cluster.redis, account), expected);
    };

    let signed_out = node.login("ada").await;
    node.logout(&signed_out.refresh).await.expect(204);
    assert_appended(&signed_out.session, "logout");
    let deleted = node.login("ada").await;
    node.delete(&format!("/v1/sessions/{}", deleted.session), &deleted.access).await.expect(204);
    assert_appended(&deleted.session, "revoked");
    let revoked_by_client = node.login("ada").await;
    let revoke = node.request(Method::POST, "/oauth2/revoke").form(&[("token", &revoked_by_client.refresh)]);
    node.send(revoke.basic_auth(&client.id, Some(&client.secret))).await.expect(200);
    assert_appended(&revoked_by_client.session, "revoked");
    let revoked_by_operator = node.login("ada").await;
    sessions::revoke_by_operator(&node.state, account, revoked_by_operator.session.parse().unwrap()).await.unwrap();
    assert_appended(&revoked_by_operator.session, "revoked");

    let reused = node.login("ada").await;
    node.refresh(&reused.refresh).await.expect(200);
    cluster.advance(cluster.config.session.grace);
    node.refresh(&reused.refresh).await.expect(401);
    assert_appended(&reused.session, "reuse");
    let oldest = node.login("ada").await;
    // so that `oldest` is older than the next session
    cluster.advance(Duration::from_secs(1));
    node.login("ada").await;
    let newest = node.login("ada").await; // the third session, of at most two
    assert_appended(&oldest.session, "limit");
    node.delete("/v1/sessions?keep_current=true", &newest.access).await.expect(200);
    assert_appended(&format!("all but {}", newest.session), "revoked");
    let changed = Tokens::of(&node.change_password(&newest.access, PASSWORD, NEW_PASSWORD).await.expect(200));
    assert_appended(&format!("all but {}", changed.session), "password_changed");
    sessions::revoke_all_by_operator(&node.state, account).await.unwrap();
    assert_appended("all", "revoked");
    // No session is left. These ends are events nevertheless.
    accounts::disable(&node.state, account).await.unwrap();
    assert_appended("all", "disabled");
    accounts::delete(&node.state, account).await.unwrap();
    assert_appended("all", "deleted");
}
