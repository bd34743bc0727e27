//! The REST API: a file for each endpoint or shared feature.

mod client_address;
mod cookie;
mod cors;
mod framework;
mod jwks;
mod login;
mod logout;
mod me;
mod metadata;
mod password;
mod refresh;
mod sessions;
mod users;
mod verify;

use serde_json::Value;

use crate::harness::client::Answer;

/// Asserts that the body has exactly these fields, in any order.
#[track_caller]
fn assert_fields(body: &Value, expected: &[&str]) {
    let mut names: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = expected.to_vec();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
}

/// The field and the code of each entry in a problem's `errors`.
fn field_errors(answer: &Answer) -> Vec<(String, String)> {
    let body = answer.json();
    let errors = body["errors"].as_array().unwrap_or_else(|| panic!("no errors in {body}"));
    let text_of = |error: &Value, member: &str| error[member].as_str().unwrap().to_owned();
    errors.iter().map(|error| (text_of(error, "field"), text_of(error, "code"))).collect()
}

/// A problem as [`Answer::problem`] returns it.
fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// An error as [`field_errors`] returns it.
fn field_error(field: &str, code: &str) -> (String, String) {
    (field.to_owned(), code.to_owned())
}
