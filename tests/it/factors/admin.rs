//! Resets of an account's second factors by admins and service clients.

use std::time::Duration;

use latchkey::{
    domain::{account::Roles, factor::FactorPolicy},
    service::clients::NewClient,
};
use reqwest::Method;
use serde_json::json;

use super::{account_with_app, cluster};
use crate::{
    accounts::{email, problem, signed_in, verify_address},
    harness::{
        client::{PASSWORD, Tokens},
        test_cluster::ServiceClient,
        wait,
    },
};

#[tokio::test]
async fn service_client_with_the_scope_resets_the_factors_of_an_account() {
    let mut cluster = cluster();
    cluster.config.factors.required = FactorPolicy::AllAccounts;
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    // notices go to a verified address only
    verify_address(&cluster, &node, "ada", &tokens).await;
    let ada = super::enrol(&cluster, &node, "ada").await;
    // The removal sends a mail with the same template, so the test waits for the mail of the addition first.
    let added = cluster.mail_to(&email("ada"), "factor_changed").await;
    assert!(added.text.contains("added to"), "{}", added.text);

    let reset = |client: &ServiceClient, account: &str| {
        let request = node.request(Method::POST, "/v1/users/factors/reset");
        let request = request.basic_auth(&client.id, Some(&client.secret));
        node.send(request.json(&json!({ "account": account })))
    };
    // a service client without the scope `accounts:recover`
    let reader = cluster.service_client("reader").await;
    assert_eq!(reset(&reader, "ada").await.problem(), problem(403, "forbidden"));
    let scopes = vec!["accounts:recover".to_owned()];
    let desk = cluster.service_client_with(NewClient { name: "desk".to_owned(), scopes, ..NewClient::default() }).await;
    assert_eq!(reset(&desk, "nobody").await.problem(), problem(404, "unknown_account"));
    reset(&desk, "ada").await.expect(204);
    assert_eq!(node.refresh(&ada.tokens.refresh).await.status, 401, "the account's sessions ended");
    let has_notice = async || {
        let mails = cluster.mails_to(&email("ada"));
        mails.iter().any(|mail| mail.file.contains("factor_changed") && mail.text.contains("removed from"))
    };
    wait::until("the owner has the notice", has_notice).await;
    // a reset starts no new grace period: the next sign-in must set up a factor
    assert_eq!(node.try_login("ada", PASSWORD).await.problem(), problem(403, "factor_enrolment_required"));
}

#[tokio::test]
async fn admin_resets_the_factors_of_an_account_and_other_users_are_refused() {
    let cluster = cluster();
    let node = cluster.node().await;
    account_with_app(&cluster, &node, "ada").await;
    let grace_id = node.register("grace").await.text_of("id").parse().unwrap();
    let as_user = node.login("grace").await;
    let reset_ada = async |tokens: &Tokens| {
        signed_in(&node, tokens, Method::POST, "/v1/users/factors/reset", json!({ "account": "ada" })).await
    };
    assert_eq!(reset_ada(&as_user).await.problem(), problem(403, "forbidden"));
    let (added, removed) = (Roles::parse(["admin"]).unwrap(), Roles::default());
    latchkey::service::accounts::change_roles(&node.state, grace_id, &added, &removed).await.unwrap();
    let as_admin = node.login("grace").await;
    // longer than `session.recent` (10 minutes)
    cluster.advance(Duration::from_mins(11));
    let no_longer_recent = Tokens::of(&node.refresh(&as_admin.refresh).await.expect(200));
    let refused = reset_ada(&no_longer_recent).await;
    assert_eq!(refused.problem(), problem(401, "insufficient_user_authentication"));
    let recent = node.login("grace").await;
    reset_ada(&recent).await.expect(204);
    // ada's password alone is enough again
    node.login("ada").await;
}
