//! Single sign-on: the sessions of apps belong to the browser's session, and end with it.

use std::time::Duration;

use latchkey::{
    domain::{account::Roles, event::EndReason, factor::FactorPolicy},
    service::{accounts, browser_session},
    store::sql::AuditFilter,
};

use super::{
    Browser, Request, claims, exchange, node_with_ada_and_shop, page_and_handle, public, refresh, sign_in, text, web,
};
use crate::{
    harness::{
        client::PASSWORD,
        events,
        test_cluster::{Node, ServiceClient, TestCluster},
    },
    pages::visitor::Visitor,
};

/// Asserts that an app's authorization request leads to a page instead of a code, since the browser's session has ended or is too weak.
async fn assert_needs_page(node: &Node, browser: &Browser, app: &ServiceClient) {
    page_and_handle(node, &browser.authorize(node, &Request::for_client(&app.id)).await);
}

fn session_of(browser: &Browser) -> String {
    browser.session.unwrap().1.to_string()
}

/// The ids of the ended sessions of a browser's account, each with the reason of its end, from the audit log, sorted.
async fn recorded_ends(node: &Node, browser: &Browser) -> Vec<(String, String)> {
    node.state.audit.flush().await.unwrap();
    let filter = AuditFilter { account: browser.session.map(|(account, _)| account), ..AuditFilter::default() };
    let limit = 100;
    let recorded = node.state.sql.audit(&filter, limit).await.unwrap();
    let mut ends: Vec<_> = recorded
        .into_iter()
        .filter(|row| row.event == "session_ended")
        .map(|row| (row.session_id.unwrap(), row.reason.unwrap()))
        .collect();
    ends.sort();
    ends
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_end_of_browsers_session_ends_its_apps_on_every_node() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let peer = cluster.node().await;
    // From now on the peer caches the sessions that it looks up.
    cluster.wait_for_peers().await;
    let forum = cluster.service_client_with(web("forum")).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let other_browser = Browser::signed_in(&node, "ada").await;
    let shop_tokens = sign_in(&node, &browser, &shop, "openid").await;
    let forum_tokens = sign_in(&node, &browser, &forum, "openid").await;
    let offline_tokens = sign_in(&node, &browser, &shop, "openid offline_access").await;
    let other_browser_tokens = sign_in(&node, &other_browser, &shop, "openid").await;
    // The peer looks both sessions up, and so caches them.
    for tokens in [&shop_tokens, &forum_tokens] {
        peer.get("/oauth2/userinfo", text(tokens, "access_token")).await.expect(200);
    }
    let login_tokens = node.login("ada").await;
    let (_, session) = browser.session.unwrap();
    node.delete(&format!("/v1/sessions/{session}"), &login_tokens.access).await.expect(204);
    for (tokens, client) in [(&shop_tokens, &shop), (&forum_tokens, &forum)] {
        peer.get("/oauth2/userinfo", text(tokens, "access_token")).await.expect(401);
        refresh(&peer, client, text(tokens, "refresh_token")).await.expect(400);
    }
    // The offline session continues, and so does the session of the other browser's app.
    refresh(&peer, &shop, text(&offline_tokens, "refresh_token")).await.expect(200);
    refresh(&peer, &shop, text(&other_browser_tokens, "refresh_token")).await.expect(200);
    assert_needs_page(&peer, &browser, &shop).await;
    node.stop().await;
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i15_every_end_of_an_apps_session_is_reported() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid").await;
    let sid = text(&claims(text(&tokens, "id_token")), "sid").to_owned();
    let (account, session) = browser.session.unwrap();
    let now = node.state.clock.now();
    // ends the browser's session and the app sessions beneath it
    node.state.redis.sessions.revoke_tree(account, session, EndReason::Logout, now).await.unwrap();
    let remaining = node.state.redis.sessions.list(account, now).await.unwrap();
    assert!(remaining.is_empty());
    let ended = events::sessions_and_causes(&cluster.redis, account);
    assert_eq!(ended, [(sid, "logout".to_owned()), (session.to_string(), "logout".to_owned())]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_i16_account_wide_changes_reach_apps() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid").await;
    let (account, _) = browser.session.unwrap();
    let state = &node.state;
    let (added, removed) = (Roles::parse(["admin"]).unwrap(), Roles::default());
    accounts::change_roles(state, account, &added, &removed).await.unwrap();
    let refusal = node.get("/oauth2/userinfo", text(&tokens, "access_token")).await.problem();
    assert_eq!(refusal, (401, "claims_changed".to_owned()));
    let tokens = refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(200).json();
    assert_eq!(claims(text(&tokens, "access_token"))["roles"], serde_json::json!(["admin"]));
    let later = sign_in(&node, &browser, &shop, "openid offline_access").await;
    assert_eq!(claims(text(&later, "access_token"))["roles"], serde_json::json!(["admin"]));
    let login_tokens = node.login("ada").await;
    let new_password = "another verse of tidal engines";
    node.change_password(&login_tokens.access, PASSWORD, new_password).await.expect(200);
    for tokens in [&tokens, &later] {
        refresh(&node, &shop, text(tokens, "refresh_token")).await.expect(400);
        node.get("/oauth2/userinfo", text(tokens, "access_token")).await.expect(401);
    }
    assert_needs_page(&node, &browser, &shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_app_session_has_the_acr_of_the_browsers_session() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    for (browser, acr) in
        [(Browser::signed_in(&node, "ada").await, "aal1"), (Browser::signed_in_at_aal2(&node, "ada").await, "aal2")]
    {
        let tokens = sign_in(&node, &browser, &shop, "openid offline_access").await;
        let refreshed = refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(200).json();
        for tokens in [&tokens, &refreshed] {
            assert_eq!(claims(text(tokens, "id_token"))["acr"], acr);
            assert_eq!(claims(text(tokens, "access_token"))["acr"], acr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_sign_in_renews_session_id_and_keeps_apps_of_the_same_account() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    node.register("bob").await;
    let state = &node.state;
    let replace = async |former: &Browser, new: &Browser| {
        let former_session = former.live_session(&node).await.unwrap();
        let (account, session) = new.session.unwrap();
        let ip = None;
        browser_session::renew(state, &former_session, account, session, ip).await.unwrap();
        assert_eq!(former.live_session(&node).await, None, "the former session has ended");
    };
    let first = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &first, &shop, "openid").await;
    let second = Browser::signed_in(&node, "ada").await;
    replace(&first, &second).await;
    let tokens = refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(200).json();
    // The app's session is now beneath ada's second session, and ends when bob's session replaces the second session.
    let bobs_browser = Browser::signed_in(&node, "bob").await;
    replace(&second, &bobs_browser).await;
    refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(400);
    let app_session = claims(text(&tokens, "access_token"))["sid"].as_str().unwrap().to_owned();
    let mut expected = [(session_of(&first), "replaced"), (session_of(&second), "replaced"), (app_session, "logout")]
        .map(|(session, reason)| (session, reason.to_owned()));
    expected.sort();
    assert_eq!(recorded_ends(&node, &first).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn former_session_and_its_apps_end_when_the_session_of_the_new_sign_in_has_ended() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let state = &node.state;
    let browser = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid").await;
    let former = browser.live_session(&node).await.unwrap();
    let new = Browser::signed_in(&node, "ada").await;
    let (account, new_session) = new.session.unwrap();
    let ip = None;
    browser_session::end(state, &new.live_session(&node).await.unwrap(), ip).await.unwrap();
    browser_session::renew(state, &former, account, new_session, ip).await.unwrap();
    assert_eq!(browser.live_session(&node).await, None);
    refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(400);
    let app_session = claims(text(&tokens, "access_token"))["sid"].as_str().unwrap().to_owned();
    let mut expected = [(session_of(&browser), "replaced"), (session_of(&new), "logout"), (app_session, "logout")]
        .map(|(session, reason)| (session, reason.to_owned()));
    expected.sort();
    assert_eq!(recorded_ends(&node, &browser).await, expected);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_session_is_extended_by_use_and_has_no_tokens() {
    let mut cluster = TestCluster::new();
    cluster.config.session.idle_timeout = Duration::from_hours(1);
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    // Three hours, in steps that are shorter than the idle timeout. Each authorization request extends the session.
    for _ in 0..4 {
        cluster.advance(Duration::from_mins(45));
        browser.code(&node, &Request::for_client(&shop.id)).await;
    }
    let (_, cookie_value) = browser.cookie_parts();
    // The cookie is no refresh token.
    node.refresh(cookie_value).await.expect(401);
    let login_tokens = node.login("ada").await;
    let sessions = node.get("/v1/sessions", &login_tokens.access).await.json();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 2, "the browser's and that of the login");
    assert_eq!(sessions["sessions"][0]["browser"], true, "the oldest session comes first");
    // longer than the idle timeout
    cluster.advance(Duration::from_mins(61));
    assert_needs_page(&node, &browser, &shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn session_cap_never_ends_the_browsers_session_without_its_apps() {
    let mut cluster = TestCluster::new();
    cluster.config.session.max_per_account = 3;
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let mut tokens = Vec::new();
    for _ in 0..6 {
        // The cap ends sessions by their age, so the times of all sessions must differ.
        cluster.advance(Duration::from_secs(1));
        tokens.push(sign_in(&node, &browser, &shop, "openid").await);
    }
    let (account, _) = browser.session.unwrap();
    // The browser's session, which app sessions don't displace, and the last two app sessions.
    assert_eq!(node.state.redis.sessions.list(account, node.state.clock.now()).await.unwrap().len(), 3);
    refresh(&node, &shop, text(&tokens[5], "refresh_token")).await.expect(200);
    refresh(&node, &shop, text(&tokens[0], "refresh_token")).await.expect(400);
    // A sign-in elsewhere ends the oldest session: the browser's, and with it all app sessions.
    cluster.advance(Duration::from_secs(1));
    let login_tokens = node.login("ada").await;
    let remaining = node.get("/v1/sessions", &login_tokens.access).await.json();
    assert_eq!(remaining["sessions"].as_array().unwrap().len(), 1, "{remaining}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn second_app_needs_no_second_sign_in() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let mut spa = cluster.service_client_with(public("spa")).await;
    // A public client sends no secret.
    spa.secret.clear();
    let browser = Browser::signed_in(&node, "ada").await;
    let first = sign_in(&node, &browser, &shop, "openid").await;
    let code = browser.code(&node, &Request::for_client("spa").with("prompt", "none")).await;
    let second = exchange(&node, &spa, &code).await.expect(200).json();
    let (first_claims, second_claims) = (claims(text(&first, "id_token")), claims(text(&second, "id_token")));
    assert_eq!(first_claims["sub"], second_claims["sub"]);
    assert_eq!(first_claims["auth_time"], second_claims["auth_time"]);
    assert_ne!(first_claims["sid"], second_claims["sid"], "each app has a session of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn list_of_sessions_shows_the_app() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    // The list is ordered by the time of creation, oldest first.
    cluster.advance(Duration::from_secs(1));
    sign_in(&node, &browser, &shop, "openid").await;
    cluster.advance(Duration::from_secs(1));
    sign_in(&node, &browser, &shop, "openid offline_access").await;
    cluster.advance(Duration::from_secs(1));
    let login_tokens = node.login("ada").await;
    let listed = node.get("/v1/sessions", &login_tokens.access).await.expect(200).json();
    // The browser's session, those of the app, and that of the login.
    let sessions = listed["sessions"].as_array().unwrap();
    let browsers_session = browser.session.unwrap().1.to_string();
    let parents = sessions.iter().map(|session| session["parent"].as_str()).collect::<Vec<_>>();
    assert_eq!(parents, [None, Some(browsers_session.as_str()), None, None], "an offline session has no parent");
    let apps = sessions.iter().map(|session| session["app"].as_str()).collect::<Vec<_>>();
    assert_eq!(apps, [None, Some("shop"), Some("shop"), None]);
    assert_eq!(sessions[1]["user_agent"], serde_json::Value::Null);
    assert_eq!(sessions[1]["client_id"], "shop");
}

/// The absolute timeout ends the browser's session without an event, so the app sessions beneath it must expire at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn i4_app_session_ends_no_later_than_the_browsers_session_unless_it_is_offline() {
    let cluster = TestCluster::new();
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    // The absolute timeout is 30 days. The browser is used every 5 days, since the idle timeout is 7 days.
    let day = Duration::from_hours(24);
    for _ in 0..5 {
        cluster.advance(5 * day);
        browser.authorize(&node, &Request::for_client(&shop.id)).await.expect(303);
    }
    let online = sign_in(&node, &browser, &shop, "openid").await;
    let offline = sign_in(&node, &browser, &shop, "openid offline_access").await;
    // 29 days after the browser's sign-in
    cluster.advance(4 * day);
    let online = refresh(&node, &shop, text(&online, "refresh_token")).await.expect(200).json();
    let offline = refresh(&node, &shop, text(&offline, "refresh_token")).await.expect(200).json();
    // 31 days after the browser's sign-in
    cluster.advance(2 * day);
    assert_needs_page(&node, &browser, &shop).await;
    refresh(&node, &shop, text(&online, "refresh_token")).await.expect(400);
    refresh(&node, &shop, text(&offline, "refresh_token")).await.expect(200);
    node.stop().await;
}

/// The roles, and with them the required factor, may change after the browser has signed in.
#[tokio::test(flavor = "multi_thread")]
async fn i14_browsers_session_without_the_required_factor_ends() {
    let mut cluster = TestCluster::new();
    cluster.config.factors.required = FactorPolicy::Roles(Roles::parse(["admin"]).unwrap());
    cluster.config.factors.grace = Duration::from_hours(1);
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    let strong = Browser::signed_in_at_aal2(&node, "ada").await;
    let tokens = sign_in(&node, &browser, &shop, "openid").await;
    // longer than the grace period, in which an account without the required factor may sign in
    cluster.advance(Duration::from_hours(2));
    let (account, _) = browser.session.unwrap();
    // Without the role, the browser's session suffices.
    browser.code(&node, &Request::for_client(&shop.id)).await;
    let (added, removed) = (Roles::parse(["admin"]).unwrap(), Roles::default());
    accounts::change_roles(&node.state, account, &added, &removed).await.unwrap();
    assert_needs_page(&node, &browser, &shop).await;
    refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(400);
    strong.code(&node, &Request::for_client(&shop.id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_app_gets_no_tokens_for_a_session_without_the_required_factor() {
    let mut cluster = TestCluster::new();
    cluster.config.factors.grace = Duration::from_secs(100);
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let weak = Browser::signed_in(&node, "ada").await;
    let tokens = sign_in(&node, &weak, &shop, "openid").await;
    // Only the second node requires a second factor.
    cluster.config.factors.required = FactorPolicy::AllAccounts;
    let strict = cluster.node().await;
    // The grace period counts from the sign-in of the browser: a later app does not extend it.
    cluster.advance(Duration::from_secs(99));
    let later = sign_in(&strict, &weak, &shop, "openid").await;
    cluster.advance(Duration::from_secs(1));
    for tokens in [&tokens, &later] {
        refresh(&strict, &shop, text(tokens, "refresh_token")).await.expect(400);
    }
    // The browser has to sign in again.
    assert_needs_page(&strict, &weak, &shop).await;
    let strong = Browser::signed_in_at_aal2(&strict, "ada").await;
    sign_in(&strict, &strong, &shop, "openid").await;
}

/// An app in use keeps its browser's session alive. Once neither is used, both end by the idle timeout.
#[tokio::test(flavor = "multi_thread")]
async fn i4_app_in_use_keeps_its_browsers_session_alive_and_does_not_outlive_it() {
    let mut cluster = TestCluster::new();
    cluster.config.session.idle_timeout = Duration::from_hours(1);
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    cluster.advance(Duration::from_mins(59));
    let mut tokens = sign_in(&node, &browser, &shop, "openid").await;
    for _ in 0..5 {
        cluster.advance(Duration::from_mins(59));
        tokens = refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(200).json();
    }
    cluster.advance(Duration::from_mins(59));
    let (account, session) = browser.session.unwrap();
    let found = node.state.redis.sessions.find(account, session, node.state.clock.now()).await.unwrap();
    assert!(found.is_some(), "the browser's session is live");
    browser.code(&node, &Request::for_client(&shop.id)).await;
    cluster.advance(Duration::from_mins(61));
    assert_needs_page(&node, &browser, &shop).await;
    refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(400);
    assert!(node.state.redis.sessions.list(account, node.state.clock.now()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn session_cap_of_one_leaves_room_for_the_browsers_session_and_an_app() {
    let mut cluster = TestCluster::new();
    cluster.config.session.max_per_account = 1;
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    let browser = Browser::signed_in(&node, "ada").await;
    for scope in ["openid", "openid", "openid offline_access", "openid offline_access"] {
        cluster.advance(Duration::from_secs(1));
        let tokens = sign_in(&node, &browser, &shop, scope).await;
        refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(200);
        let (account, _) = browser.session.unwrap();
        assert_eq!(node.state.redis.sessions.list(account, node.state.clock.now()).await.unwrap().len(), 2);
        browser.code(&node, &Request::for_client(&shop.id)).await;
    }
    // A sign-in elsewhere ends the browser's session and the app's.
    cluster.advance(Duration::from_secs(1));
    let login_tokens = node.login("ada").await;
    assert_eq!(node.get("/v1/sessions", &login_tokens.access).await.json()["sessions"].as_array().unwrap().len(), 1);
}

/// The session of a browser that signs in within the grace period of `factors.required` ends with that period, and so do the sessions of
/// its apps.
#[tokio::test(flavor = "multi_thread")]
async fn i14_offline_grant_ends_with_the_grace_period_of_the_required_factor() {
    let mut cluster = TestCluster::new();
    cluster.config.factors.required = FactorPolicy::AllAccounts;
    cluster.config.factors.grace = Duration::from_hours(48);
    let (node, shop) = node_with_ada_and_shop(&cluster).await;
    // The grace period begins with the first sign-in.
    node.login("ada").await;
    cluster.advance(Duration::from_hours(40));
    // Signs in on the page: `Browser::signed_in` stores a session without regard to the grace period.
    let mut ada = Visitor::new(&node);
    ada.open("/account/sign-in").await.expect(200);
    let fields = [("identifier", "ada"), ("password", PASSWORD)];
    ada.submit("/account/sign-in", &fields).await.expect(303);
    let request = Request::for_client(&shop.id).with("scope", "openid offline_access");
    let to_app = ada.open(&format!("/oauth2/authorize?{}", request.query())).await.expect(303);
    let response = super::response_of(&to_app);
    let tokens = exchange(&node, &shop, &response["code"]).await.expect(200).json();
    // 47 hours after the first sign-in
    cluster.advance(Duration::from_hours(7));
    let tokens = refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(200).json();
    // The grace period of 48 hours has passed.
    cluster.advance(Duration::from_hours(1));
    refresh(&node, &shop, text(&tokens, "refresh_token")).await.expect(400);
    node.stop().await;
}
