//! Passkeys: registration, sign-in, second factors, step-up, and forged or replayed responses.

pub mod authenticator;
mod browser;
mod document;
mod enrolment;
mod forged;
mod registration;
mod second_factor;
mod sign_in;
mod soft_passkey;
mod step_up;

use reqwest::Method;
use serde_json::{Value, json};

use self::authenticator::Authenticator;
use crate::{
    accounts::remove_mail_and_login_limits,
    harness::{
        client::{Answer, Client, Tokens},
        test_cluster::{Node, TestCluster},
    },
};

/// A cluster without limits on mails and sign-ins, a node with the account `ada`, and the tokens of a sign-in.
async fn signed_in() -> (TestCluster, Node, Tokens) {
    let mut cluster = TestCluster::new();
    remove_mail_and_login_limits(&mut cluster);
    let node = cluster.node().await;
    node.register("ada").await;
    let tokens = node.login("ada").await;
    (cluster, node, tokens)
}

/// A cluster whose account `ada` has a passkey. The tokens are of the session that the registration has started, after a step-up.
async fn with_passkey() -> (TestCluster, Node, Tokens, Authenticator) {
    let (cluster, node, tokens) = signed_in().await;
    let mut authenticator = Authenticator::new();
    let tokens = register_passkey(&node, &tokens, &mut authenticator).await;
    let tokens = stepped_up(&node, &tokens, &mut authenticator).await;
    (cluster, node, tokens, authenticator)
}

/// Sends a request with an access token and a JSON body.
async fn call(node: &Client, tokens: &Tokens, method: Method, path: &str, body: &Value) -> Answer {
    node.send(node.request(method, path).bearer_auth(&tokens.access).json(body)).await
}

/// Requests the options for `authenticator.create`.
async fn registration_options(node: &Client, tokens: &Tokens) -> Value {
    let answer = call(node, tokens, Method::POST, "/v1/me/passkeys/options", &json!({})).await;
    answer.expect(200).json()["public_key"].take()
}

/// The name that [`add_passkey`] gives a passkey.
const PASSKEY_NAME: &str = "Ada's phone";

/// Sends a created credential, which registers the passkey.
async fn add_passkey(node: &Client, tokens: &Tokens, credential: Value) -> Answer {
    let body = json!({ "name": PASSKEY_NAME, "credential": credential });
    call(node, tokens, Method::POST, "/v1/me/passkeys", &body).await
}

/// Registers the authenticator. Returns the tokens of the new session: a registration ends all others.
async fn register_passkey(node: &Client, tokens: &Tokens, authenticator: &mut Authenticator) -> Tokens {
    let options = registration_options(node, tokens).await;
    let answer = add_passkey(node, tokens, authenticator.create(&options)).await.expect(201);
    tokens_in_json(&answer.json()["tokens"])
}

fn tokens_in_json(body: &Value) -> Tokens {
    let text = |field: &str| body[field].as_str().unwrap_or_else(|| panic!("no {field} in {body}")).to_owned();
    Tokens { access: text("access_token"), refresh: text("refresh_token"), session: text("session_id") }
}

/// Requests the options for `authenticator.get` at a sign-in.
async fn login_options(node: &Client) -> Value {
    node.post("/v1/login/passkey/options", json!({})).await.expect(200).json()["public_key"].take()
}

/// Presents the authenticator's response at a sign-in. Returns the answer with any status.
async fn send_login(node: &Client, credential: Value) -> Answer {
    node.post("/v1/login/passkey", json!({ "credential": credential })).await
}

/// Requests the options for `authenticator.get` at a step-up.
async fn step_up_options(node: &Client, tokens: &Tokens) -> Value {
    let answer = call(node, tokens, Method::POST, "/v1/me/reauthenticate/passkey/options", &json!({})).await;
    answer.expect(200).json()["public_key"].take()
}

/// Steps up with the passkey, which changes of an account with a passkey require. Returns the tokens with the new access token.
async fn stepped_up(node: &Client, tokens: &Tokens, authenticator: &mut Authenticator) -> Tokens {
    let credential = authenticator.get(&step_up_options(node, tokens).await);
    let body = json!({ "credential": credential });
    let answer = call(node, tokens, Method::POST, "/v1/me/reauthenticate", &body).await.expect(200);
    Tokens { access: answer.text_of("access_token"), ..tokens.clone() }
}

/// Signs in with the authenticator's response to new options. Returns the answer with any status.
async fn try_sign_in(node: &Client, authenticator: &mut Authenticator) -> Answer {
    let options = login_options(node).await;
    send_login(node, authenticator.get(&options)).await
}

async fn list_passkeys(node: &Client, tokens: &Tokens) -> Vec<Value> {
    let answer = node.get("/v1/me/passkeys", &tokens.access).await.expect(200);
    answer.json()["passkeys"].as_array().unwrap().clone()
}

/// The claims of an access token, unverified.
fn claims(tokens: &Tokens) -> Value {
    let payload = tokens.access.split('.').nth(1).unwrap();
    let decoded = authenticator::from_base64url(&json!(payload));
    serde_json::from_slice(&decoded).unwrap()
}

/// The events, outcomes and reasons of the audit log, newest first.
async fn audit_entries(node: &Node) -> Vec<(String, String, Option<String>)> {
    node.state.audit.flush().await.unwrap();
    let all_entries = latchkey::store::sql::AuditFilter::default();
    let limit = 100;
    let rows = node.state.sql.audit(&all_entries, limit).await.unwrap();
    rows.into_iter().map(|row| (row.event, row.outcome, row.reason)).collect()
}
