//! Tests the events that a node records in the audit log.

use std::time::Duration;

use latchkey::{
    domain::audit::AddressPrecision,
    service::{accounts, clients},
    store::sql::{AuditFilter, AuditRow},
};
use reqwest::Method;
use serde_json::json;

use super::rows;
use crate::harness::{
    client::{PASSWORD, Tokens},
    test_cluster::TestCluster,
    wait,
};

/// The event and the reason of a row, and "account" if the row names an account. A missing part is "-".
fn summary(row: &AuditRow) -> (&str, &str, &str) {
    let account = if row.account_id.is_some() { "account" } else { "-" };
    (row.event.as_str(), row.reason.as_deref().unwrap_or("-"), account)
}

#[tokio::test]
async fn configured_precision_of_addresses_applies_to_every_row() {
    let mut cluster = TestCluster::new();
    cluster.config.audit.addresses = AddressPrecision::Truncated;
    let node = cluster.node().await;
    // The registration is written with the account, and the sign-in by the queue of the audit log.
    node.register("ada").await;
    node.login("ada").await;
    node.state.audit.flush().await.unwrap();
    for event in ["account_added", "sign_in"] {
        let row = rows(&node.state.sql).await.into_iter().find(|row| row.event == event).unwrap();
        assert_eq!(row.address.as_deref(), Some("127.0.0.0"), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_security_event_is_recorded() {
    let mut cluster = TestCluster::new();
    // so that a repeat after the grace window is reuse
    cluster.config.session.retry_window = Duration::ZERO;
    let node = cluster.node().await;
    let service = cluster.service_client("billing").await;
    node.register("ada").await;
    let (first, second) = (node.login("ada").await, node.login("ada").await);
    node.try_login("ada", "not her password").await.expect(401);
    node.try_login("nobody", "whatever it is").await.expect(401);
    let newest = Tokens::of(&node.refresh(&first.refresh).await.expect(200));
    // after the grace window of 10 s
    cluster.advance(Duration::from_secs(11));
    node.refresh(&first.refresh).await.expect(401);
    // The session has ended already, so this logout records no event.
    node.logout(&newest.refresh).await.expect(204);
    node.logout(&second.refresh).await.expect(204);
    let third = node.login("ada").await;
    node.login("ada").await; // the session that the next request ends
    node.delete("/v1/sessions?keep_current=true", &third.access).await.expect(200);
    node.change_password(&third.access, "not her password", "velvet thunder pocket ostrich").await.expect(403);
    let introspect = |secret: &str| {
        let request = node.request(Method::POST, "/oauth2/introspect");
        request.basic_auth(&service.id, Some(secret)).form(&[("token", "x")])
    };
    node.send(introspect("wrong")).await.expect(401);
    node.send(introspect(&service.secret)).await.expect(200);
    let account = accounts::find(&node.state.sql, "ada").await.unwrap().id;
    accounts::disable(&node.state, account).await.unwrap();
    node.try_login("ada", "not her password").await.expect(401);
    node.state.audit.flush().await.unwrap();

    let recorded = rows(&node.state.sql).await;
    let mut summaries: Vec<_> = recorded.iter().map(summary).collect();
    summaries.sort_unstable();
    let mut expected = [
        ("key_made", "-", "-"),
        ("client_added", "-", "-"),
        ("account_added", "-", "account"),
        ("sign_in", "-", "account"),
        ("sign_in", "-", "account"),
        ("sign_in", "wrong_password", "account"),
        ("sign_in", "unknown_account", "-"),
        ("refresh_reuse", "superseded", "account"),
        ("session_ended", "logout", "account"),
        ("sign_in", "-", "account"),
        ("sign_in", "-", "account"),
        ("sessions_ended", "revoked", "account"),
        ("password_change", "wrong_password", "account"),
        ("client_authentication", "wrong_credentials", "-"),
        ("account_disabled", "-", "account"),
        ("sessions_ended", "disabled", "account"),
        ("sign_in", "disabled", "account"),
    ];
    expected.sort_unstable();
    assert_eq!(summaries, expected);
    assert!(recorded.iter().all(|row| row.count == 1), "{recorded:?}");
    let reuse = recorded.iter().find(|row| row.event == "refresh_reuse").unwrap();
    assert_eq!(reuse.session_id.as_ref(), Some(&first.session));
    assert_eq!(reuse.actor, "anyone");
    assert_eq!(reuse.address.as_deref(), Some("127.0.0.1"));
    let refused = recorded.iter().find(|row| row.event == "client_authentication").unwrap();
    assert_eq!(refused.client_id.as_deref(), Some("billing"));
}

/// The disabled client presents its right secret, so the recorded reason must not be a wrong secret.
#[tokio::test]
async fn authentication_of_a_disabled_client_is_recorded_with_its_id_and_the_reason_disabled() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let service = cluster.service_client("billing").await;
    clients::disable(&cluster.clock, &node.state.sql, &service.id).await.unwrap();
    node.state.clients.reload().await.unwrap(); // the node keeps clients in memory
    for id in [service.id.as_str(), "stranger"] {
        let request = node.request(Method::POST, "/oauth2/introspect").basic_auth(id, Some(&service.secret));
        node.send(request.form(&[("token", "x")])).await.expect(401);
    }
    node.state.audit.flush().await.unwrap();
    let recorded = rows(&node.state.sql).await;
    let refused = recorded.iter().filter(|row| row.event == "client_authentication");
    let mut refused: Vec<_> = refused.map(|row| (row.reason.as_deref(), row.client_id.as_deref())).collect();
    refused.sort_unstable();
    assert_eq!(refused, [(Some("disabled"), Some("billing")), (Some("unknown_client"), None)]);
}

/// Identical refusals share a row, and a node writes its last events before it stops.
#[tokio::test(flavor = "multi_thread")]
async fn identical_refusals_are_counted_and_written_when_the_node_stops() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    // After some wrong passwords, the rate limit of sign-ins to this account refuses the others.
    for _ in 0..50 {
        node.try_login("nobody", "whatever it is").await;
    }
    let sql = cluster.sql().await;
    node.stop().await;
    let recorded = rows(&sql).await;
    let refusals = recorded.iter().filter(|row| row.event == "sign_in" || row.event == "rate_limit");
    let refused: i64 = refusals.map(|row| row.count).sum();
    assert_eq!(refused, 50, "{recorded:?}");
    for row in recorded.iter().filter(|row| row.event == "rate_limit") {
        assert_eq!(row.detail.as_deref(), Some("login-account"), "the name of the rate limit");
    }
    sql.close().await;
}

/// Logins succeed while the audit log can't be written, and are recorded once it can.
#[tokio::test(flavor = "multi_thread")]
async fn events_during_a_database_lock_are_written_once_after_it() {
    let mut cluster = TestCluster::new();
    cluster.config.database.acquire_timeout = Duration::from_millis(100); // so that writing soon fails
    let node = cluster.node().await;
    node.register("ada").await;
    node.state.audit.flush().await.unwrap();
    let account = accounts::find(&node.state.sql, "ada").await.unwrap().id;
    // Holds the only write lock of SQLite.
    let lock = node.state.sql.change_account(account).await.unwrap().unwrap();
    let tokens = node.login("ada").await;
    node.logout(&tokens.refresh).await.expect(204);
    assert!(node.state.audit.flush().await.is_err());
    drop(lock);
    let written = || async {
        drop(node.state.audit.flush().await); // an error means: not yet
        rows(&node.state.sql).await.iter().any(|row| row.event == "session_ended")
    };
    wait::until("the events are written", written).await;
    let recorded = rows(&node.state.sql).await;
    assert_eq!(recorded.iter().filter(|row| row.event == "sign_in").count(), 1, "once: {recorded:?}");
}

/// Attack: many refused calls for unknown clients and accounts, to hide guesses at the password of one account.
#[tokio::test(flavor = "multi_thread")]
async fn flood_of_refusals_does_not_hide_guesses_at_an_account() {
    let mut cluster = TestCluster::new();
    cluster.config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    cluster.config.audit.max_refusals = 20;
    let node = cluster.node().await;
    node.register("ada").await;
    node.register("eve").await;
    for host in 0..30 {
        let from = format!("192.0.2.{host}");
        let introspection = node.request(Method::POST, "/oauth2/introspect").header("x-forwarded-for", &from);
        let introspection = introspection.form(&[("token", "x")]).basic_auth("nobody", Some("wrong"));
        node.send(introspection).await.expect(401);
        let body = json!({ "identifier": format!("nobody{host}"), "password": "not a password" });
        let unknown_account = node.request(Method::POST, "/v1/login").header("x-forwarded-for", &from);
        node.send(unknown_account.json(&body)).await.expect(401);
        // Each known account has a budget of its own (`max_refusals_per_account`). A rate limit may answer some of these sign-ins.
        let body = json!({ "identifier": "eve", "password": "not her password" });
        let other_guess = node.request(Method::POST, "/v1/login").header("x-forwarded-for", &from);
        node.send(other_guess.json(&body)).await;
    }
    for _ in 0..5 {
        node.try_login("ada", "not her password").await.expect(401);
    }
    let account = accounts::find(&node.state.sql, "ada").await.unwrap().id;
    node.state.audit.flush().await.unwrap();
    let filter = AuditFilter { account: Some(account), ..AuditFilter::default() };
    let of_account = node.state.sql.audit(&filter, 100).await.unwrap();
    let guesses: i64 = of_account.iter().filter(|row| row.event == "sign_in").map(|row| row.count).sum();
    assert_eq!(guesses, 5, "{of_account:?}");

    // Of the 30 refusals of each event, `max_refusals` = 20 are recorded. A row `lost` counts the others.
    let all = rows(&node.state.sql).await;
    let lost = |event: &str| {
        let of_event = all.iter().filter(|row| row.event == "lost" && row.detail.as_deref() == Some(event));
        of_event.map(|row| row.count).sum::<i64>()
    };
    assert_eq!(lost("client_authentication"), 10);
    assert_eq!(lost("sign_in"), 10);
    let metrics = latchkey::service::metrics::render(&node.state).await.unwrap();
    // the rows `lost` are all recorded
    for line in ["latchkey_audit_lost_total{event=\"sign_in\"} 10", "latchkey_audit_lost_total{event=\"lost\"} 0"] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i15_every_end_of_a_session_is_recorded_with_its_cause() {
    let mut cluster = TestCluster::new();
    cluster.config.session.max_per_account = 2;
    // so that a repeat after the grace window is reuse
    cluster.config.session.retry_window = Duration::ZERO;
    let node = cluster.node().await;
    let client = cluster.service_client("billing").await;
    node.register("ada").await;
    let account = accounts::find(&node.state.sql, "ada").await.unwrap().id;

    let first = node.login("ada").await;
    node.logout(&first.refresh).await.expect(204);
    let second = node.login("ada").await;
    node.delete(&format!("/v1/sessions/{}", second.session), &second.access).await.expect(204);
    let third = node.login("ada").await;
    let revoke = node.request(Method::POST, "/oauth2/revoke").form(&[("token", &third.refresh)]);
    node.send(revoke.basic_auth(&client.id, Some(&client.secret))).await.expect(200);
    // Reuse of a superseded refresh token.
    let fourth = node.login("ada").await;
    node.refresh(&fourth.refresh).await.expect(200);
    // after the grace window of 10 s
    cluster.advance(Duration::from_secs(11));
    node.refresh(&fourth.refresh).await.expect(401);
    // The cap of two sessions ends the fifth and the sixth. The clock advances, so that these two are the oldest.
    let fifth = node.login("ada").await;
    node.login("ada").await;
    cluster.advance(Duration::from_secs(1));
    let seventh = node.login("ada").await;
    // A cookie login that replaces the session of the cookie.
    let body = json!({ "identifier": "ada", "password": PASSWORD, "transport": "cookie" });
    let login = node.request(Method::POST, "/v1/login").json(&body);
    let login = login.header("cookie", format!("__Host-latchkey={}", seventh.refresh));
    cluster.advance(Duration::from_secs(1));
    node.send(login).await.expect(200);
    let eighth = node.login("ada").await;
    // The change of the password replaces the eighth session by the ninth.
    let ninth = node.change_password(&eighth.access, PASSWORD, "gravel lantern ostrich nine").await.expect(200);
    accounts::disable(&node.state, account).await.unwrap();
    node.state.audit.flush().await.unwrap();

    let filter = AuditFilter { account: Some(account), ..AuditFilter::default() };
    let recorded = node.state.sql.audit(&filter, 100).await.unwrap();
    let mut ends: Vec<_> = recorded
        .iter()
        .filter(|row| ["session_ended", "sessions_ended", "refresh_reuse"].contains(&row.event.as_str()))
        .map(|row| (row.session_id.clone(), row.reason.clone().unwrap(), row.count))
        .collect();
    ends.sort();
    let session = |tokens: &Tokens| Some(tokens.session.clone());
    let rows_of = |reason: &str| -> Vec<_> {
        ends.iter()
            .filter(|(_, cause, _)| cause == reason)
            .map(|(session, _, count)| (session.clone(), *count))
            .collect()
    };
    assert_eq!(rows_of("logout"), [(session(&first), 1)]);
    let mut revoked = [(session(&second), 1), (session(&third), 1)];
    revoked.sort(); // by the ids, which are random
    assert_eq!(rows_of("revoked"), revoked);
    assert_eq!(rows_of("superseded"), [(session(&fourth), 1)]);
    assert!(rows_of("limit").contains(&(session(&fifth), 1)), "{ends:?}");
    let mut replaced = [(session(&seventh), 1), (session(&eighth), 1)];
    replaced.sort();
    assert_eq!(rows_of("replaced"), replaced);
    let row_of_eighth = |event: &str| {
        let mut of_eighth = recorded.iter().filter(|row| row.session_id == session(&eighth));
        of_eighth.find(|row| row.event == event).unwrap()
    };
    assert_eq!(row_of_eighth("session_ended").detail, Some(ninth.text_of("session_id")));
    assert_eq!(row_of_eighth("password_change").detail, None);
    // one row for all ended sessions, without an id
    assert_eq!(rows_of("password_changed"), [(None, 1)]);
    assert_eq!(rows_of("disabled"), [(None, 1)]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registration_is_recorded_with_its_actor_and_address() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let body = json!({ "email": "eve@example.com", "password": PASSWORD });
    node.post("/v1/users", body).await.expect(201);
    let recorded = rows(&node.state.sql).await;
    let added = recorded.iter().find(|row| row.event == "account_added").unwrap();
    assert_eq!(added.actor, "anyone");
    assert_eq!(added.address.as_deref(), Some("127.0.0.1"));
}
