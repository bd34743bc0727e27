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
    harness::client::{PASSWORD, Tokens},
};

#[tokio::test]
async fn service_client_with_the_scope_resets_the_factors_of_an_account() {
    let mut cluster = cluster();
    cluster.config.factors.required = FactorPolicy::AllAccounts;
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    verify_address(&cluster, &node, "ada", &tokens).await;
    let ada = super::enrol(&cluster, &node, "ada").await;
    // the removal sends a mail with the same template, so wait for the mail of the addition first
    let added = cluster.mail_to(&email("ada"), "factor_changed").await;
    assert!(added.text.contains("added to"), "{}", added.text);

    let reset = |name: &str, secret: &str, account: &str| {
        let request = node.request(Method::POST, "/v1/users/factors/reset").basic_auth(name, Some(secret));
        node.send(request.json(&json!({ "account": account })))
    };
    // a service client without the scope `accounts:recover`
    let reader = cluster.service_client("reader").await;
    assert_eq!(reset(&reader.id, &reader.secret, "ada").await.problem(), problem(403, "forbidden"));
    let scopes = vec!["accounts:recover".to_owned()];
    let desk = cluster.service_client_with(NewClient { name: "desk".to_owned(), scopes, ..NewClient::default() }).await;
    assert_eq!(reset(&desk.id, &desk.secret, "nobody").await.problem(), problem(404, "unknown_account"));
    reset(&desk.id, &desk.secret, "ada").await.expect(204);
    assert_eq!(node.refresh(&ada.tokens.refresh).await.status, 401, "its sessions ended");
    let has_notice = || async {
        cluster
            .mails_to(&email("ada"))
            .iter()
            .any(|mail| mail.file.contains("factor_changed") && mail.text.contains("removed from"))
    };
    crate::harness::wait::until("the owner has the notice", has_notice).await;
    // no grace period: the next sign-in sets up a factor
    assert_eq!(node.try_login("ada", PASSWORD).await.problem(), problem(403, "factor_enrolment_required"));
}

#[tokio::test]
async fn admin_resets_the_factors_of_an_account_and_other_users_are_refused() {
    let cluster = cluster();
    let node = cluster.node().await;
    account_with_app(&cluster, &node, "ada").await;
    let id = node.register("grace").await.text_of("id").parse().unwrap();
    let tokens = node.login("grace").await;
    let body = json!({ "account": "ada" });
    let refused = signed_in(&node, &tokens, Method::POST, "/v1/users/factors/reset", body.clone()).await;
    assert_eq!(refused.problem(), problem(403, "forbidden"));
    let admin = Roles::parse(["admin"]).unwrap();
    latchkey::service::accounts::change_roles(&node.state, id, &admin, &Roles::default()).await.unwrap();
    let tokens = node.login("grace").await;
    // an authentication counts as recent for 10 minutes
    cluster.advance(Duration::from_mins(11));
    let no_longer_recent = Tokens::of(&node.refresh(&tokens.refresh).await.expect(200));
    let refused = signed_in(&node, &no_longer_recent, Method::POST, "/v1/users/factors/reset", body.clone()).await;
    assert_eq!(refused.problem(), problem(401, "insufficient_user_authentication"));
    let recent = node.login("grace").await;
    signed_in(&node, &recent, Method::POST, "/v1/users/factors/reset", body).await.expect(204);
    // the password alone is enough again
    node.login("ada").await;
}
