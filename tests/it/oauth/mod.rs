//! Tests of the OAuth endpoints for service clients: token, introspection and revocation.

mod client_auth;
mod clients;
mod errors;
mod introspect;
mod introspection_cache;
mod revoke;
mod token;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::Value;

use crate::harness::{
    client::Answer,
    test_cluster::{Node, ServiceClient},
};

/// Posts a form, with HTTP Basic if a client is given.
async fn post(node: &Node, path: &str, client: Option<&ServiceClient>, form: &[(&str, &str)]) -> Answer {
    let request = node.request(Method::POST, path).form(form);
    let request = match client {
        Some(client) => request.basic_auth(&client.id, Some(&client.secret)),
        None => request,
    };
    node.send(request).await
}

/// Introspects a token.
async fn introspect(node: &Node, client: &ServiceClient, token: &str) -> Value {
    let answer = post(node, "/oauth2/introspect", Some(client), &[("token", token)]).await.expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json()
}

/// Requests an access token by the grant `client_credentials`.
async fn client_token(node: &Node, client: &ServiceClient) -> String {
    let form = [("grant_type", "client_credentials")];
    post(node, "/oauth2/token", Some(client), &form).await.expect(200).text_of("access_token")
}

/// The status and the `error` of a response. Asserts that it is a complete error of RFC 6749.
#[track_caller]
fn error(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.header("content-type"), "application/json", "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 2, "only error and error_description: {body}");
    let description = body["error_description"].as_str().unwrap();
    // RFC 6749, section 5.2: printable ASCII without quotes and backslashes
    let allowed = |byte: u8| matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    assert!(!description.is_empty() && description.bytes().all(allowed), "{description}");
    // Only a refusal with 401 has a challenge.
    let challenge = if answer.status == 401 { "Basic realm=\"latchkey\"" } else { "" };
    assert_eq!(answer.header("www-authenticate"), challenge);
    (answer.status.as_u16(), answer.text_of("error"))
}

/// The expected result of [`error`].
fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// The header of a JWT, unverified.
fn jwt_header(token: &str) -> Value {
    decode_part(token.split('.').next().unwrap())
}

/// The claims of a JWT, unverified.
fn jwt_claims(token: &str) -> Value {
    decode_part(token.split('.').nth(1).unwrap())
}

/// The JSON of the header or the claims of a JWT.
fn decode_part(part: &str) -> Value {
    let json = BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
    serde_json::from_slice(&json).unwrap()
}
