//! Tests the audit events and metrics of second factors.

use latchkey::store::sql::AuditFilter;
use reqwest::Method;
use serde_json::json;

use super::{account_with_app, challenge, cluster, second_factor, wrong_code};
use crate::accounts::signed_in;

#[tokio::test]
async fn every_step_of_a_second_factor_is_recorded_and_counted() {
    let cluster = cluster();
    let node = cluster.node().await;
    let ada = account_with_app(&cluster, &node, "ada").await;
    let challenge = challenge(&node, "ada").await;
    second_factor(&node, &challenge, "totp", &wrong_code(&ada.app, &cluster.clock)).await.expect(401);
    // The challenge survives a wrong code.
    second_factor(&node, &challenge, "recovery_code", &ada.recovery_codes[0]).await.expect(200);
    // makes new recovery codes
    signed_in(&node, &ada.tokens, Method::POST, "/v1/me/recovery-codes", json!({})).await.expect(200);
    let text = node.state.metrics.render().unwrap();
    for line in [
        "latchkey_logins_total{outcome=\"second_factor_required\"} 1",
        "latchkey_second_factors_total{method=\"totp\",outcome=\"wrong_code\"} 1",
        "latchkey_second_factors_total{method=\"recovery_code\",outcome=\"success\"} 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    // a node that stops writes the queued entries of the audit log
    node.stop().await;
    let limit = 100; // more than the test causes
    let rows = cluster.sql().await.audit(&AuditFilter::default(), limit).await.unwrap();
    let has = |event: &str, outcome: &str, detail: &str| {
        rows.iter().any(|row| row.event == event && row.outcome == outcome && row.detail.as_deref() == Some(detail))
    };
    assert!(has("factor_added", "success", "totp"));
    assert!(has("second_factor", "refused", "totp"));
    assert!(has("recovery_code_used", "success", "9"), "the detail is the number of codes that are left of ten");
    assert!(has("recovery_codes_made", "success", "recovery_codes"));
}
