//! Runs the commands of docs/passkeys.md as printed, except for the port, against a node. One step is replaced: the reader adds a passkey
//! on the page of `examples/browser`, and here a software authenticator registers it. The module `browser` tests that page.

use reqwest::Method;
use serde_json::{Value, json};

use super::{add_passkey, authenticator::Authenticator, registration_options};
use crate::{
    accounts::document::DocumentShell,
    docs::code_blocks,
    harness::client::{Client, Tokens},
};

/// The origin of the example's page, as the document serves it.
const PAGE_ORIGIN: &str = "http://localhost:3000";

/// Registers a passkey for the document's account, as the page does. Returns a recovery code.
async fn add_as_the_page(client: &Client) -> String {
    let body = json!({ "identifier": "ada@example.com", "password": "velvet otter quarry lantern" });
    let request = client.request(Method::POST, "/v1/login").header("Origin", PAGE_ORIGIN).json(&body);
    let tokens = Tokens::of(&client.send(request).await.expect(200));
    let mut authenticator = Authenticator::new();
    authenticator.origin = PAGE_ORIGIN.to_owned();
    let credential = authenticator.create(&registration_options(client, &tokens).await);
    let added = add_passkey(client, &tokens, credential).await.expect(201).json();
    added["recovery_codes"][0].as_str().unwrap().to_owned()
}

/// Parses the JSON objects that a block has printed.
fn parse_objects(output: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(output).into_iter().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_document_about_passkeys_succeeds_as_printed() {
    let mut shell = DocumentShell::new();
    let mut outputs = Vec::new();
    for block in code_blocks("docs/passkeys.md", "sh") {
        if block.trim_end().ends_with("latchkey serve") {
            shell.serve(&block);
        } else if block.starts_with("read ") {
            // The reader adds a passkey on the page, and then types one of the shown recovery codes.
            let code = add_as_the_page(shell.client()).await;
            shell.run(&format!("recovery_code='{code}'"));
        } else {
            let output = shell.run(&block);
            assert!(!output.contains("urn:latchkey:problem:"), "a call was refused: {output}");
            outputs.push(parse_objects(&output));
        }
    }
    shell.end();
    // the objects that the document's four blocks have printed
    let [registration, second_factor, management, sign_ins] = &outputs[..] else { panic!("{outputs:#?}") };

    // The object before the options is the registered account.
    let options = &registration[1]["public_key"];
    assert_eq!(options["rp"]["id"], "localhost");
    assert_eq!(options["user"]["name"], "ada@example.com");
    assert!(options["challenge"].is_string(), "{options}");
    assert!(options["pubKeyCredParams"].is_array(), "{options}");
    assert!(registration[1]["expires_in"].is_u64(), "{registration:?}");
    assert_eq!(second_factor[0]["public_key"]["allowCredentials"].as_array().unwrap().len(), 1, "{second_factor:?}");
    let [listed, renamed, listed_after_removal] = &management[..] else { panic!("{management:#?}") };
    assert_eq!(listed["passkeys"][0]["id"], renamed["id"]);
    assert_eq!(renamed["name"], "Old phone");
    assert_eq!(listed_after_removal["passkeys"], json!([]));
    assert!(sign_ins[0]["access_token"].is_string(), "the password alone signs in: {sign_ins:?}");
    // The options of a sign-in without a username name no passkeys: the list is empty or missing.
    let allowed = &sign_ins[1]["public_key"]["allowCredentials"];
    assert!(allowed.is_null() || *allowed == json!([]), "{sign_ins:?}");
}
