//! The pages of the signed-in account, without scripts.

use std::time::Duration;

use latchkey::domain::account::{Email, Identifier};

use super::{
    ADA, NEW_PASSWORD, cluster, signed_in,
    visitor::{Visitor, alert, field_error},
};
use crate::harness::client::PASSWORD;

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_account_lead_to_the_sign_in_and_back() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = Visitor::new(&node);
    // `next` is a path beneath /account
    for page in ["", "/address", "/password", "/devices", "/data"] {
        let refused = ada.open(&format!("/account{page}")).await.expect(303);
        let next = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", page).finish();
        // In a query, a slash needs no encoding.
        let expected = format!("/account/sign-in?{}", next.replace("%2F", "/"));
        assert_eq!(refused.header("location"), expected, "{page}");
    }
    ada.open("/account/sign-in?next=/devices").await.expect(200);
    let fields = [("identifier", "ada"), ("password", PASSWORD)];
    let signed_in = ada.submit("/account/sign-in?next=/devices", &fields).await.expect(303);
    assert_eq!(signed_in.header("location"), "/account/devices");
    // Ada has signed in, so the sign-in page redirects her.
    for invalid in ["https://evil.example", "//evil.example", "/\\evil.example", "/../evil", "/devices?x=1"] {
        let next = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", invalid).finish();
        let answer = ada.open(&format!("/account/sign-in?{next}")).await.expect(303);
        assert_eq!(answer.header("location"), "/account", "{invalid}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn profile_is_saved_and_invalid_fields_are_marked() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = signed_in(&node).await;
    ada.open("/account").await.expect(200);
    let wrong = [("username", "a b"), ("display_name", "Ada"), ("locale", "de"), ("time_zone", "Mars/Base 1")];
    let refused = ada.submit("/account/profile", &wrong).await.expect(422);
    assert!(field_error(&refused, "username").is_some() && field_error(&refused, "time_zone").is_some());
    assert!(alert(&refused).is_some() && refused.text.contains("value=\"a b\""), "{}", refused.text);
    let correct =
        [("username", "ada"), ("display_name", "Ada Lovelace"), ("locale", "en"), ("time_zone", "Europe/London")];
    let saved = ada.submit("/account/profile", &correct).await.expect(303);
    let page = ada.follow(&saved).await.expect(200);
    assert!(page.text.contains("Saved.") && page.text.contains("value=\"Ada Lovelace\""), "{}", page.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_password_ends_other_sessions_and_keeps_the_browser_signed_in() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let other = node.client.login("ada").await;
    let mut ada = signed_in(&node).await;
    let former = ada.cookies["__Host-latchkey-browser"].clone();
    ada.open("/account/password").await.expect(200);
    let wrong = [("current_password", "not the password"), ("new_password", NEW_PASSWORD)];
    let refused = ada.submit("/account/password", &wrong).await.expect(403);
    assert!(field_error(&refused, "current_password").is_some(), "{}", refused.text);
    let correct = [("current_password", PASSWORD), ("new_password", NEW_PASSWORD)];
    let changed = ada.submit("/account/password", &correct).await.expect(303);
    assert_ne!(ada.cookies["__Host-latchkey-browser"], former);
    assert!(ada.follow(&changed).await.expect(200).text.contains("Your password is changed"));
    assert_eq!(node.client.refresh(&other.refresh).await.problem().0, 401);
    // The former session has ended.
    ada.cookies.insert("__Host-latchkey-browser".to_owned(), former);
    ada.open("/account").await.expect(303);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_ended_and_the_end_of_the_own_session_signs_out() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let phone = node.client.login("ada").await;
    let mut ada = signed_in(&node).await;
    let page = ada.open("/account/devices").await.expect(200);
    assert_eq!(page.text.matches("action=\"/account/devices/end\"").count(), 2, "{}", page.text);
    assert_eq!(page.text.matches("This device").count(), 1, "{}", page.text);
    let sign_out_buttons = page.text.matches(">Sign out</button>").count();
    assert_eq!(sign_out_buttons, 3, "the browser's own, and one for each session: {}", page.text);
    let ended = ada.submit("/account/devices/end", &[("id", &phone.session)]).await.expect(303);
    assert!(ada.follow(&ended).await.text.contains(">Signed out.<"));
    assert_eq!(node.client.refresh(&phone.refresh).await.problem().0, 401);
    let after_ids = page.text.split("name=\"id\" value=\"").skip(1);
    let mut listed_ids = after_ids.map(|rest| rest.split('"').next().unwrap());
    let own_session = listed_ids.find(|id| *id != phone.session).unwrap().to_owned();
    let signed_out = ada.submit("/account/devices/end", &[("id", &own_session)]).await.expect(303);
    assert_eq!(signed_out.header("location"), "/account/signed-out");
    ada.open("/account/devices").await.expect(303);
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_out_ends_the_session_and_its_pages_are_not_cached() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = signed_in(&node).await;
    let page = ada.open("/account").await.expect(200);
    assert_eq!(page.header("cache-control"), "no-store");
    let cookie = ada.cookies["__Host-latchkey-browser"].clone();
    let signed_out = ada.submit("/account/sign-out", &[]).await.expect(303);
    assert_eq!(signed_out.header("location"), "/account/signed-out");
    assert!(!ada.cookies.contains_key("__Host-latchkey-browser"));
    assert!(ada.follow(&signed_out).await.expect(200).text.contains("You are signed out"));
    // The session has ended, so a copy of its cookie is of no use.
    ada.cookies.insert("__Host-latchkey-browser".to_owned(), cookie);
    ada.open("/account").await.expect(303);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_authentication_asks_for_the_password_again_before_a_change_of_address() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = signed_in(&node).await;
    // longer than `session.recent`, 10 minutes
    cluster.clock.advance(Duration::from_hours(2));
    ada.open("/account/address").await.expect(200);
    let to_reauthenticate = ada.submit("/account/address", &[("email", "ada@example.org")]).await.expect(303);
    assert_eq!(to_reauthenticate.header("location"), "/account/reauthenticate?next=/address");
    ada.follow(&to_reauthenticate).await.expect(200);
    let wrong = ada.submit("/account/reauthenticate?next=/address", &[("password", "wrong wrong wrong")]).await;
    assert!(field_error(&wrong.expect(403), "password").is_some());
    let done = ada.submit("/account/reauthenticate?next=/address", &[("password", PASSWORD)]).await.expect(303);
    assert_eq!(done.header("location"), "/account/address");
    ada.follow(&done).await.expect(200);
    ada.submit("/account/address", &[("email", "ada@example.org")]).await.expect(303);
    let mail = cluster.mail_to("ada@example.org", "confirm_address").await;
    ada.open("/account/confirm-address").await.expect(200);
    let former = ada.cookies["__Host-latchkey-browser"].clone();
    // Ada's session is the proof, so the form has no other.
    let changed =
        ada.submit("/account/confirm-address", &[("token", mail.link()), ("proof", "none")]).await.expect(200);
    assert!(changed.text.contains("Address changed"), "{}", changed.text);
    assert_ne!(ada.cookies["__Host-latchkey-browser"], former);
    assert!(ada.open("/account/address").await.expect(200).text.contains("ada@example.org"));
}

#[tokio::test(flavor = "multi_thread")]
async fn export_is_a_download_and_deletion_requires_the_checked_box() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = signed_in(&node).await;
    ada.open("/account/data").await.expect(200);
    let file = ada.submit("/account/data/export", &[]).await.expect(200);
    assert_eq!(file.header("content-disposition"), "attachment; filename=\"account.json\"");
    assert_eq!(file.json()["account"]["email"], ADA);
    // a form without the checked box
    ada.submit("/account/data/delete", &[]).await.expect(422);
    let deleted = ada.submit("/account/data/delete", &[("confirm", "1")]).await.expect(200);
    assert!(deleted.text.contains("Your account will be deleted"), "{}", deleted.text);
    assert!(!ada.cookies.contains_key("__Host-latchkey-browser"));
    ada.open("/account").await.expect(303);
}

/// The pages require a recent authentication wherever the API does (ASVS 7.5.2).
#[tokio::test(flavor = "multi_thread")]
async fn end_of_another_session_needs_a_recent_authentication() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.register("ada").await;
    let phone = node.login("ada").await;
    let mut ada = signed_in(&node).await;
    // longer than `session.recent`, 10 minutes
    cluster.advance(Duration::from_mins(11));
    ada.open("/account/devices").await.expect(200);
    for (form, fields) in
        [("/account/devices/end", [("id", phone.session.as_str())].as_slice()), ("/account/devices/end-others", &[])]
    {
        let answer = ada.submit(form, fields).await.expect(303);
        assert_eq!(answer.header("location"), "/account/reauthenticate?next=/devices");
    }
    node.refresh(&phone.refresh).await.expect(200);
    ada.open("/account/reauthenticate?next=/devices").await.expect(200);
    ada.submit("/account/reauthenticate?next=/devices", &[("password", PASSWORD)]).await.expect(303);
    ada.open("/account/devices").await.expect(200);
    ada.submit("/account/devices/end", &[("id", phone.session.as_str())]).await.expect(303);
    node.refresh(&phone.refresh).await.expect(401);
}

/// I14 (factors cannot be bypassed): a role that is added after the sign-in may require a second factor.
#[tokio::test(flavor = "multi_thread")]
async fn i14_browsers_session_without_the_required_factor_ends() {
    use latchkey::domain::{account::Roles, factor::FactorPolicy};
    let roles = |names: &[&str]| Roles::parse(names).unwrap();
    let mut cluster = cluster();
    let policy = FactorPolicy::Roles(roles(&["admin"]));
    cluster.config.factors.required = policy;
    cluster.config.factors.grace = Duration::from_hours(1);
    let node = cluster.node().await;
    let account = node.client.register("ada").await.text_of("id").parse().unwrap();
    let mut ada = signed_in(&node).await;
    // Longer than `factors.grace`. Without the role, the account needs no second factor.
    cluster.advance(Duration::from_hours(2));
    ada.open("/account").await.expect(200);
    let (added, removed) = (roles(&["admin"]), roles(&[]));
    latchkey::service::accounts::change_roles(&node.state, account, &added, &removed).await.unwrap();
    let answer = ada.open("/account").await.expect(303);
    assert_eq!(answer.header("location"), "/account/sign-in?next=");
    let remaining = node.state.redis.sessions.list(account, node.state.clock.now()).await.unwrap();
    assert!(remaining.is_empty(), "{remaining:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_added_verified_made_primary_and_removed() {
    let mut cluster = cluster();
    // the primary address and a secondary one
    cluster.config.account.max_emails = 2;
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = signed_in(&node).await;
    ada.open("/account/address").await.expect(200);
    let refused = ada.submit("/account/address/add", &[("secondary", "not an address")]).await.expect(422);
    assert!(field_error(&refused, "secondary").is_some(), "{}", refused.text);
    let added = ada.submit("/account/address/add", &[("secondary", "ada@work.example")]).await.expect(303);
    let page = ada.follow(&added).await.expect(200);
    assert!(page.text.contains("ada@work.example") && page.text.contains("Enter the code"), "{}", page.text);
    assert!(page.text.contains("the maximum number of addresses"), "{}", page.text);
    let full = ada.submit("/account/address/add", &[("secondary", "ada@third.example")]).await.expect(409);
    assert!(alert(&full).is_some(), "{}", full.text);

    let mail = cluster.mail_to("ada@work.example", "verify_address").await;
    let page = ada.open("/account/verify-address").await.expect(200);
    assert!(page.text.contains("value=\"ada@work.example\""), "{}", page.text);
    let former = ada.cookies["__Host-latchkey-browser"].clone();
    let fields = [("email", "ada@work.example"), ("code", mail.code()), ("proof", "none")];
    let verified = ada.submit("/account/verify-address", &fields).await.expect(200);
    assert!(verified.text.contains("Your address is confirmed"), "{}", verified.text);
    assert_ne!(ada.cookies["__Host-latchkey-browser"], former, "a new session takes the place of the former one");

    // the id of the first address that has a button: a secondary one
    let first_id = |page: &crate::harness::client::Answer| {
        page.text.split("name=\"id\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let page = ada.open("/account/address").await.expect(200);
    let changed = ada.submit("/account/address/primary", &[("id", &first_id(&page))]).await.expect(303);
    let page = ada.follow(&changed).await.expect(200);
    assert!(page.text.contains("The primary address is changed"), "{}", page.text);
    // The former primary address was never verified, so its removal sends no mail to it.
    let removed = ada.submit("/account/address/remove", &[("id", &first_id(&page))]).await.expect(303);
    let page = ada.follow(&removed).await.expect(200);
    assert!(page.text.contains("The address is removed") && !page.text.contains(ADA), "{}", page.text);
    let unknown = ada.submit("/account/address/remove", &[("id", "x")]).await.expect(404);
    assert!(alert(&unknown).is_some(), "{}", unknown.text);
    node.client.try_login("ada@work.example", PASSWORD).await.expect(200);
    node.client.try_login(ADA, PASSWORD).await.expect(401);
}

/// I13: an unverified address belongs to nobody. Bob verifies the address that Ada had not verified, so Ada loses it.
#[tokio::test(flavor = "multi_thread")]
async fn i13_account_that_has_lost_its_address_is_shown_by_its_username() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = signed_in(&node).await;
    node.client.register("bob").await;
    let bob = node.state.sql.find_account(&Identifier::parse("bob")).await.unwrap().unwrap();
    let mut change = node.state.sql.change_account(bob.id).await.unwrap().unwrap();
    change.make_primary_address(&Email::parse(ADA).unwrap(), node.state.clock.now()).await.unwrap();
    change.commit().await.unwrap();

    let page = ada.open("/account").await.expect(200);
    assert!(page.text.contains("<span class=\"me\">ada</span>"), "{}", page.text);
    let page = ada.open("/account/address").await.expect(200);
    assert!(page.text.contains("Your account has no primary address"), "{}", page.text);
    let empty_address = "<strong class=\"break\"></strong>";
    assert!(!page.text.contains(empty_address), "{}", page.text);
    for path in ["/account/password", "/account/reauthenticate?next=/data"] {
        let page = ada.open(path).await.expect(200);
        assert!(page.text.contains("name=\"username\" value=\"ada\""), "{}", page.text);
    }
}

/// The page that takes the code can send the mail again.
#[tokio::test(flavor = "multi_thread")]
async fn mail_of_an_added_address_is_sent_again() {
    let mut cluster = cluster();
    // `limits.mail_per_account` may refuse a second mail within 5 minutes
    crate::accounts::remove_mail_and_login_limits(&mut cluster);
    let node = cluster.node().await;
    node.client.register("ada").await;
    let mut ada = signed_in(&node).await;
    ada.open("/account/address").await.expect(200);
    ada.submit("/account/address/add", &[("secondary", "ada@work.example")]).await.expect(303);
    ada.open("/account/verify-address").await.expect(200);
    ada.submit("/account/verify-address/send", &[("email", "ada@work.example")]).await.expect(303);
    crate::harness::wait::until("both mails are written", || async { cluster.mails_to("ada@work.example").len() == 2 })
        .await;
}
