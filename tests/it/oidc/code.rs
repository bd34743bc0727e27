//! Authorization codes, mostly of the app `shop`: single use (I11), short-lived, bound to the client, redirect URI, verifier and sign-in.

use std::time::Duration;

use futures_util::future::join_all;
use latchkey::domain::event::EndReason;

use super::{
    Browser, CALLBACK, Request, VERIFIER, error_of, exchange, exchange_with, node_with_ada_and_shop, public, refresh,
    text, token, web,
};
use crate::harness::{client::PASSWORD, test_cluster::TestCluster};

#[tokio::test(flavor = "multi_thread")]
async fn i11_code_is_exchanged_once_by_sixteen_racers_on_two_nodes() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let peer = cluster.node().await;
    let browser = Browser::signed_in(&node, "ada").await;
    // four races, because each may interleave differently
    for _ in 0..4 {
        let code = browser.code(&node, &Request::for_client(&shop.id)).await;
        let nodes = [&node, &peer];
        let racers = (0..16).map(|racer| exchange(nodes[racer % 2], &shop, &code));
        let answers = join_all(racers).await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
        assert_eq!(won.len(), 1);
        for answer in &lost {
            assert_eq!(error_of(answer), (400, "invalid_grant".to_owned()));
        }
        // The other requests were second uses, which end the session of the first.
        let tokens = won[0].json();
        let refused = refresh(&node, &shop, text(&tokens, "refresh_token")).await;
        assert_eq!(error_of(&refused), (400, "invalid_grant".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_use_of_code_ends_session_of_first_use() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let code = browser.code(&node, &Request::for_client(&shop.id)).await;
    let tokens = exchange(&node, &shop, &code).await.expect(200).json();
    let userinfo = async || node.get("/oauth2/userinfo", text(&tokens, "access_token")).await.status.as_u16();
    assert_eq!(userinfo().await, 200);
    // A caller without the verifier or the client's secret can't end the session.
    let stranger = cluster.service_client_with(web("stranger")).await;
    exchange(&node, &stranger, &code).await.expect(400);
    let wrong_verifier = VERIFIER.to_lowercase(); // the verifier has upper case
    exchange_with(&node, &shop, &code, CALLBACK, &wrong_verifier).await.expect(400);
    assert_eq!(userinfo().await, 200);
    // An unused code expires after a minute. A second use ends the session up to ten minutes after the first use.
    cluster.advance(Duration::from_mins(5));
    assert_eq!(error_of(&exchange(&node, &shop, &code).await), (400, "invalid_grant".to_owned()));
    assert_eq!(userinfo().await, 401);
    let refused = refresh(&node, &shop, text(&tokens, "refresh_token")).await;
    assert_eq!(error_of(&refused), (400, "invalid_grant".to_owned()));
    // The browser's session is untouched.
    browser.code(&node, &Request::for_client(&shop.id)).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_is_bound_to_client_redirect_uri_and_verifier() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let other = cluster.service_client_with(web("other")).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let code = browser.code(&node, &Request::for_client(&shop.id)).await;
    let invalid = (400, "invalid_grant".to_owned());
    assert_eq!(error_of(&exchange(&node, &other, &code).await), invalid);
    let uri = "https://app.example.com/other";
    assert_eq!(error_of(&exchange_with(&node, &shop, &code, uri, VERIFIER).await), invalid);
    // `VERIFIER` with another last character
    let other_verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXl";
    assert_eq!(error_of(&exchange_with(&node, &shop, &code, CALLBACK, other_verifier).await), invalid);
    assert_eq!(error_of(&exchange_with(&node, &shop, &code, CALLBACK, "short").await), invalid);
    assert_eq!(error_of(&exchange(&node, &shop, "lk_ac_unknown").await), invalid);
    let without_verifier = [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", CALLBACK)];
    let refused = token(&node, &shop, &without_verifier).await;
    assert_eq!(error_of(&refused), (400, "invalid_request".to_owned()));
    // The refused requests did not consume the code.
    exchange(&node, &shop, &code).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_expires_after_a_minute_or_when_its_browser_session_ends() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let code = browser.code(&node, &Request::for_client(&shop.id)).await;
    cluster.advance(Duration::from_secs(60)); // the whole lifetime of a code
    exchange(&node, &shop, &code).await.expect(400);
    let code = browser.code(&node, &Request::for_client(&shop.id)).await;
    cluster.advance(Duration::from_secs(59));
    exchange(&node, &shop, &code).await.expect(200);
    // A password change ends the browser's session, and with it the code.
    let code = browser.code(&node, &Request::for_client(&shop.id)).await;
    let tokens = node.login("ada").await;
    node.change_password(&tokens.access, PASSWORD, "another verse of tidal engines").await.expect(200);
    assert_eq!(error_of(&exchange(&node, &shop, &code).await), (400, "invalid_grant".to_owned()));
    // A sign-out ends the browser's session and those beneath it (`revoke_tree`), and with them the code.
    let browser = Browser::signed_in(&node, "ada").await;
    let code = browser.code(&node, &Request::for_client(&shop.id)).await;
    let (account, session) = browser.session.unwrap();
    let now = node.state.clock.now();
    node.state.redis.sessions.revoke_tree(account, session, EndReason::Logout, now).await.unwrap();
    assert_eq!(error_of(&exchange(&node, &shop, &code).await), (400, "invalid_grant".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn public_client_exchanges_code_without_secret() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    node.register("ada").await;
    let mut app = cluster.service_client_with(public("spa")).await;
    let secret = app.secret;
    // `refresh` below authenticates `app` with an empty secret, as a public client
    app.secret = String::new();
    let browser = Browser::signed_in(&node, "ada").await;
    let code = browser.code(&node, &Request::for_client("spa")).await;
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "spa"),
        ("code", &code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    // The database has the hash of a secret, but a public client can't authenticate with it.
    let with_secret = node.request(reqwest::Method::POST, "/oauth2/token").form(&form);
    let refused = node.send(with_secret.basic_auth("spa", Some(&secret))).await;
    assert_eq!(error_of(&refused), (401, "invalid_client".to_owned()));
    let tokens = node.send(node.request(reqwest::Method::POST, "/oauth2/token").form(&form)).await.expect(200).json();
    refresh(&node, &app, text(&tokens, "refresh_token")).await.expect(200);
}
