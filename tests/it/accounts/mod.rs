//! Account management: links and codes of mails, and their effects.

mod change_email;
mod claims;
mod deletion;
pub mod document;
mod email_login;
pub mod emails;
mod invitation;
mod notices;
mod outages;
mod password_reset;
mod profile;
mod registration;
mod support;
mod undo;
mod verification;
mod without_password;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    client::{Answer, Client, Tokens},
    test_cluster::TestCluster,
    wait,
};

/// A password that [`Client::register`] does not use.
pub const NEW_PASSWORD: &str = "gravel lantern ostrich nine";

/// A problem as [`Answer::problem`] returns it.
pub fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// The address of the account that [`Client::register`] registers with this name.
pub fn email(name: &str) -> String {
    format!("{name}@example.com")
}

/// Requests a password reset for the account `name`. Returns the token and the code of the mail.
pub async fn request_reset(cluster: &TestCluster, node: &Client, name: &str) -> (String, String) {
    let before = count_mails(cluster, name, "password_reset");
    node.post("/v1/password/forgot", json!({ "identifier": name })).await.expect(202);
    next_mail(cluster, name, before, "password_reset").await
}

/// The number of mails of this template to the address of this name.
pub fn count_mails(cluster: &TestCluster, name: &str, template: &str) -> usize {
    let mails = cluster.mails_to(&email(name));
    mails.iter().filter(|mail| mail.file.ends_with(&format!(".{template}.eml"))).count()
}

/// Waits until the address of this name has got more than `before` mails of this template. Returns the token and the code of the newest.
pub async fn next_mail(cluster: &TestCluster, name: &str, before: usize, template: &str) -> (String, String) {
    let arrived = || async { count_mails(cluster, name, template) > before };
    wait::until(&format!("{name} has a mail {template}"), arrived).await;
    let mail = cluster.mail_to(&email(name), template).await;
    (mail.token().to_owned(), mail.code().to_owned())
}

/// Waits for the first mail of this template to the address of this name. Returns its token and code.
pub async fn first_mail(cluster: &TestCluster, name: &str, template: &str) -> (String, String) {
    next_mail(cluster, name, 0, template).await
}

/// Resets a password with the token of a link. Returns the answer with any status.
pub async fn reset(node: &Client, token: &str, password: &str) -> Answer {
    node.post("/v1/password/reset", json!({ "token": token, "new_password": password })).await
}

/// Verifies the address of an account of [`Client::register`], as its owner.
pub async fn verify_address(cluster: &TestCluster, node: &Client, name: &str, tokens: &Tokens) {
    let before = count_mails(cluster, name, "verify_address");
    node.post("/v1/email/verification", json!({ "email": email(name) })).await.expect(202);
    let (token, _) = next_mail(cluster, name, before, "verify_address").await;
    signed_in(node, tokens, Method::POST, "/v1/email/verify", json!({ "token": token })).await.expect(204);
}

/// Sends a JSON request with an access token. Returns the answer with any status.
pub async fn signed_in(node: &Client, tokens: &Tokens, method: Method, path: &str, body: Value) -> Answer {
    node.send(node.request(method, path).bearer_auth(&tokens.access).json(&body)).await
}

/// Requests a change of the address, as the account of `tokens`, to the address of `new_name`. Returns the token and the code of the mail.
pub async fn request_address_change(
    cluster: &TestCluster,
    node: &Client,
    tokens: &Tokens,
    new_name: &str,
) -> (String, String) {
    let before = count_mails(cluster, new_name, "confirm_address");
    signed_in(node, tokens, Method::POST, "/v1/me/email", json!({ "email": email(new_name) })).await.expect(202);
    next_mail(cluster, new_name, before, "confirm_address").await
}

/// Removes the limits on mails and sign-ins, for tests that cause many.
pub fn remove_mail_and_login_limits(cluster: &mut TestCluster) {
    let limits = &mut cluster.config.limits;
    limits.mail_per_account = None;
    limits.recovery_per_address = None;
    limits.login_per_address = None;
}
