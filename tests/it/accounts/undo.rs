//! Tests the undo links after several changes of address: the owner's links work, and an attacker's address gets no link.

use std::time::Duration;

use latchkey::{
    domain::{
        account::{Email, Identifier},
        ids::AccountId,
    },
    service::{
        accounts::set_email,
        emails::support,
        initiator::Initiator,
        invite_account::{self, Delivery},
        request_origin::RequestOrigin,
    },
};
use reqwest::Method;
use serde_json::json;

use super::{
    NEW_PASSWORD, count_mails, email,
    emails::{add_verified, cluster_with_verified_account, join_lines, list, wait_until_settled},
    first_mail, problem, request_address_change, reset, signed_in,
};
use crate::harness::{
    client::{Answer, Client, PASSWORD, Tokens},
    test_cluster::{Node, TestCluster},
};

/// The first characters of the token in every link of a mail.
const LINK_TOKEN_PREFIX: &str = "lk_ot_";

/// The id of an address of the account.
async fn address_id(node: &Client, tokens: &Tokens, name: &str) -> String {
    let emails = node.get("/v1/me/emails", &tokens.access).await.expect(200).json()["emails"].clone();
    let found = emails.as_array().unwrap().iter().find(|address| address["email"] == json!(email(name)));
    found.unwrap_or_else(|| panic!("no {name} in {emails}"))["id"].as_str().unwrap().to_owned()
}

/// Makes a secondary address the primary one. Returns the tokens of the new session.
async fn promote(node: &Client, tokens: &Tokens, name: &str) -> Tokens {
    let path = format!("/v1/me/emails/{}/primary", address_id(node, tokens, name).await);
    Tokens::of(&signed_in(node, tokens, Method::POST, &path, json!({})).await.expect(200))
}

/// Removes a secondary address. Returns the tokens of the new session.
async fn remove(node: &Client, tokens: &Tokens, name: &str) -> Tokens {
    let path = format!("/v1/me/emails/{}", address_id(node, tokens, name).await);
    Tokens::of(&node.delete(&path, &tokens.access).await.expect(200))
}

/// Changes the primary address with the link that is mailed to the new one. Returns the tokens of the new session.
async fn change_address(cluster: &TestCluster, node: &Client, tokens: &Tokens, new_name: &str) -> Tokens {
    let (token, _) = request_address_change(cluster, node, tokens, new_name).await;
    let changed = signed_in(node, tokens, Method::POST, "/v1/email/verify", json!({ "token": token })).await;
    Tokens::of(&changed.expect(200))
}

/// Undoes a change of address with the token of a link.
async fn undo(node: &Client, token: &str) -> Answer {
    node.post("/v1/email/undo", json!({ "token": token })).await
}

/// The tokens of the undo links in the mails to an address, oldest first.
async fn undo_tokens(cluster: &TestCluster, node: &Node, name: &str) -> Vec<String> {
    wait_until_settled(node).await;
    let mails = cluster.mails_to(&email(name)).into_iter();
    mails.filter(|mail| mail.file.ends_with(".address_changed.eml")).map(|mail| mail.token().to_owned()).collect()
}

/// The token of the link "this wasn't me" in the newest notice to this address that contains `text`.
async fn report_link(cluster: &TestCluster, node: &Node, name: &str, text: &str) -> String {
    wait_until_settled(node).await;
    let mails = cluster.mails_to(&email(name));
    let found = mails.iter().rev().find(|mail| join_lines(&mail.text).contains(text));
    found.unwrap_or_else(|| panic!("{name} has no notice {text:?}")).token().to_owned()
}

/// The id of the account `ada`.
async fn account_id(node: &Node) -> AccountId {
    node.state.sql.find_account(&Identifier::parse("ada")).await.unwrap().unwrap().id
}

/// The former addresses to which the account can still be restored.
async fn former_addresses(node: &Node) -> Vec<String> {
    let found = node.state.sql.former_addresses(account_id(node).await, node.state.clock.now()).await.unwrap();
    found.into_iter().map(|address| address.email.as_str().to_owned()).collect()
}

/// Asserts that the owner can reset the password with the first reset mail to `ada`, and that the address `thief` no longer belongs to
/// the account.
async fn assert_owner_recovers(cluster: &TestCluster, node: &Node) {
    let (token, _) = first_mail(cluster, "ada", "password_reset").await;
    reset(node, &token, NEW_PASSWORD).await.expect(204);
    let owner = node.login_with(&email("ada"), NEW_PASSWORD).await;
    assert_eq!(list(node, &owner).await, ["ada (primary)"]);
    node.post("/v1/password/forgot", json!({ "identifier": email("thief") })).await.expect(202);
    assert_eq!(undo_tokens(cluster, node, "thief").await, Vec::<String>::new());
    assert_eq!(count_mails(cluster, "thief", "password_reset"), 0);
}

/// Starts a cluster in which a thief with the owner's session has changed the primary address three times: to the thief's address, back to
/// the owner's, and to the thief's again. Returns the tokens of the thief's session.
async fn changes_of_a_thief() -> (TestCluster, Node, Tokens) {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let (_, mut thief) = add_verified(&cluster, &node, &tokens, "thief").await;
    for name in ["thief", "ada", "thief"] {
        // no two changes have the same time
        cluster.advance(Duration::from_secs(1));
        thief = promote(&node, &thief, name).await;
    }
    (cluster, node, thief)
}

#[tokio::test]
async fn repeated_changes_of_a_thief_leave_the_owners_undo_links_and_give_the_thief_none() {
    let (cluster, node, thief) = changes_of_a_thief().await;
    remove(&node, &thief, "ada").await;
    let links = undo_tokens(&cluster, &node, "ada").await;
    assert_eq!(links.len(), 2, "a link for each time that the owner's address was replaced");
    assert_eq!(former_addresses(&node).await, [email("ada")]);
    assert_eq!(undo_tokens(&cluster, &node, "thief").await, Vec::<String>::new());
    let notices = cluster.mails_to(&email("thief"));
    let notice = notices.iter().find(|mail| join_lines(&mail.text).contains("ada@example.com is now the primary"));
    let notice = notice.expect("a notice of the change");
    assert!(!notice.text.contains(LINK_TOKEN_PREFIX), "{}", notice.text);

    undo(&node, &links[0]).await.expect(204);
    assert_eq!(undo(&node, &links[1]).await.problem(), problem(401, "invalid_code"), "nothing is left to undo");
    assert_owner_recovers(&cluster, &node).await;
    assert_eq!(former_addresses(&node).await, Vec::<String>::new());
}

#[tokio::test]
async fn report_after_repeated_changes_restores_the_earliest_address_and_mails_the_reset_there() {
    let (cluster, node, thief) = changes_of_a_thief().await;
    remove(&node, &thief, "ada").await;
    let report = report_link(&cluster, &node, "ada", "ada@example.com was removed").await;
    node.post("/v1/account/secure", json!({ "token": report })).await.expect(204);
    assert_owner_recovers(&cluster, &node).await;
    assert_eq!(former_addresses(&node).await, Vec::<String>::new());
}

#[tokio::test]
async fn report_by_the_owner_of_the_primary_address_voids_the_earlier_changes() {
    let (cluster, node, thief) = changes_of_a_thief().await;
    promote(&node, &thief, "ada").await;
    let report = report_link(&cluster, &node, "ada", "ada@example.com is now the primary").await;
    node.post("/v1/account/secure", json!({ "token": report })).await.expect(204);
    assert_owner_recovers(&cluster, &node).await;
    assert_eq!(former_addresses(&node).await, Vec::<String>::new());
}

#[tokio::test]
async fn undo_link_of_the_first_change_also_undoes_a_second_change_within_the_window() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let tokens = change_address(&cluster, &node, &tokens, "work").await;
    cluster.advance(Duration::from_mins(1));
    change_address(&cluster, &node, &tokens, "thief").await;
    assert_eq!(undo_tokens(&cluster, &node, "work").await, Vec::<String>::new());
    let links = undo_tokens(&cluster, &node, "ada").await;
    undo(&node, &links[0]).await.expect(204);
    assert_owner_recovers(&cluster, &node).await;
}

#[tokio::test]
async fn change_after_the_window_of_an_earlier_change_can_be_undone() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let (_, tokens) = add_verified(&cluster, &node, &tokens, "work").await;
    promote(&node, &tokens, "work").await;
    wait_until_settled(&node).await;
    // the window for undoing is 72 hours
    cluster.advance(Duration::from_hours(73));
    let thief = node.login("ada").await;
    let (_, thief) = add_verified(&cluster, &node, &thief, "thief").await;
    promote(&node, &thief, "thief").await;
    let links = undo_tokens(&cluster, &node, "work").await;
    undo(&node, &links[0]).await.expect(204);
    let (token, _) = first_mail(&cluster, "work", "password_reset").await;
    reset(&node, &token, NEW_PASSWORD).await.expect(204);
    let owner = node.login_with(&email("work"), NEW_PASSWORD).await;
    assert_eq!(list(&node, &owner).await, ["work (primary)", "ada"]);
}

#[tokio::test]
async fn operator_who_restores_an_address_gives_the_replaced_address_no_undo_link() {
    let (cluster, node, thief) = cluster_with_verified_account().await;
    change_address(&cluster, &node, &thief, "thief").await;
    let id = account_id(&node).await;
    set_email(&node.state, id, &Email::parse(&email("ada")).unwrap()).await.unwrap();
    assert_eq!(former_addresses(&node).await, [email("ada")], "the owner's undo link still works");
    wait_until_settled(&node).await;
    // The mail `address_changed` has an undo link. A replaced primary address that must not get a link gets this mail in its place.
    let notice = cluster.mail_to(&email("thief"), "secondary_address_changed").await;
    assert!(!notice.text.contains(LINK_TOKEN_PREFIX), "{}", notice.text);
    node.post("/v1/password/forgot", json!({ "identifier": email("ada") })).await.expect(202);
    assert_owner_recovers(&cluster, &node).await;
    assert_eq!(former_addresses(&node).await, Vec::<String>::new(), "the reset verified the address");
}

#[tokio::test]
async fn operator_who_sets_another_address_or_removes_a_former_one_voids_the_undo_link() {
    for is_removed in [false, true] {
        let (cluster, node, tokens) = cluster_with_verified_account().await;
        let (_, tokens) = add_verified(&cluster, &node, &tokens, "work").await;
        promote(&node, &tokens, "work").await;
        let links = undo_tokens(&cluster, &node, "ada").await;
        let id = account_id(&node).await;
        let address = |name: &str| Email::parse(&email(name)).unwrap();
        if is_removed {
            let ip = None;
            support::remove(&node.state, id, &address("ada"), &Initiator::Operator, ip).await.unwrap();
        } else {
            set_email(&node.state, id, &address("other")).await.unwrap();
        }
        assert_eq!(former_addresses(&node).await, Vec::<String>::new());
        assert_eq!(undo(&node, &links[0]).await.problem(), problem(401, "invalid_code"), "removed: {is_removed}");
    }
}

/// An earlier release gave every replaced address an undo link, also an attacker's.
#[tokio::test]
async fn reset_by_an_operator_forgets_former_addresses_that_replaced_the_primary_one() {
    let (cluster, node, _) = cluster_with_verified_account().await;
    let id = account_id(&node).await;
    // A primary address is stored when another one replaces it. `ada` is stored although it is primary, so it was replaced and restored.
    // `thief` was stored after `ada`, so `thief` had replaced it. `older` was replaced before, and is kept.
    for name in ["older", "ada", "thief"] {
        let mut change = node.state.sql.change_account(id).await.unwrap().unwrap();
        let now = cluster.clock.now();
        let address = Email::parse(&email(name)).unwrap();
        change.add_former_address(&address, now, now + Duration::from_hours(72)).await.unwrap();
        change.commit().await.unwrap();
        cluster.advance(Duration::from_mins(1));
    }
    let account = node.state.sql.account(id).await.unwrap().unwrap();
    let origin = RequestOrigin::default();
    invite_account::start_reset(&node.state, account, Delivery::Mail, &Initiator::Operator, &origin).await.unwrap();
    assert_eq!(former_addresses(&node).await, [email("older")]);
}

#[tokio::test]
async fn later_changes_of_a_thief_do_not_shorten_the_owners_time_to_undo() {
    let (cluster, node, tokens) = cluster_with_verified_account().await;
    let (_, thief) = add_verified(&cluster, &node, &tokens, "thief").await;
    promote(&node, &thief, "thief").await;
    let first = undo_tokens(&cluster, &node, "ada").await.remove(0);
    // the window for undoing is 72 hours
    cluster.advance(Duration::from_hours(71));
    // the thief's access token has expired, and the thief knows the password
    let mut thief = node.login_with(&email("thief"), PASSWORD).await;
    for name in ["ada", "thief"] {
        thief = promote(&node, &thief, name).await;
    }
    let links = undo_tokens(&cluster, &node, "ada").await;
    let second = links.iter().find(|link| **link != first).expect("a link of the last change");
    cluster.advance(Duration::from_hours(71));
    assert_eq!(undo(&node, &first).await.problem(), problem(401, "invalid_code"), "the link has expired");
    undo(&node, second).await.expect(204);
    assert_owner_recovers(&cluster, &node).await;
}
