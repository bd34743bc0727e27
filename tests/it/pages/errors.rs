//! Errors on pages: in the language of the visitor, and with advice.

use latchkey::{
    domain::locale::Locale,
    http::problem::{Code, FieldCode},
};

use super::{cluster, visitor::Visitor};
use crate::harness::client::PASSWORD;

/// Errors that no form or link of a page can cause in a browser: of tokens, service clients and unusual requests, such as one of another media
/// type than a form's. Pages show the text `other` for them.
const NOT_ON_PAGES: &[Code] = &[
    Code::ClaimsChanged,
    Code::InvalidClient,
    Code::InvalidRefreshToken,
    Code::RefreshTokenReused,
    Code::SessionExpired,
    Code::Forbidden,
    Code::UnknownAccount,
    Code::RequestTimeout,
    Code::PayloadTooLarge,
    Code::UnsupportedMediaType,
    Code::HeadersTooLarge,
    Code::InvalidFields,
];
/// Errors of fields that no form of a page can cause.
const FIELD_CODES_NOT_ON_PAGES: &[FieldCode] =
    &[FieldCode::UnknownField, FieldCode::UnknownValue, FieldCode::WrongType, FieldCode::MetadataTooLarge];

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_a_page_has_a_text_in_every_language() {
    let cluster = cluster();
    let node = cluster.node().await;
    let pages = node.state.pages.as_ref().unwrap();
    let on_pages = Code::ALL.iter().filter(|code| !NOT_ON_PAGES.contains(code));
    let in_forms = FieldCode::ALL.iter().filter(|code| !FIELD_CODES_NOT_ON_PAGES.contains(code));
    let codes: Vec<_> = on_pages.map(|code| code.as_str()).chain(in_forms.map(|code| code.as_str())).collect();
    for locale in Locale::ALL {
        let missing: Vec<_> = codes.iter().filter(|code| !pages.has_error_text(locale, code)).collect();
        assert!(missing.is_empty(), "{locale}: {missing:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_path_and_wrong_method_get_a_page_below_account_and_a_problem_elsewhere() {
    let cluster = cluster();
    let node = cluster.node().await;
    let mut visitor = Visitor::new(&node);
    visitor.headers.push(("accept-language", "de".to_owned()));
    let missing = visitor.open("/account/nothing").await.expect(404);
    assert!(missing.text.contains("Diese Seite gibt es nicht."), "{}", missing.text);
    // a visitor opens pages with GET
    let wrong_method = visitor.open("/account/sign-out").await.expect(405);
    assert_eq!(wrong_method.header("allow"), "POST");
    assert!(wrong_method.text.contains("<html lang=\"de\""), "{}", wrong_method.text);
    // `/accounts` begins like `/account`, but is not below it
    for path in ["/v1/nothing", "/accounts"] {
        let answer = node.client.get_anonymously(path).await;
        assert_eq!(answer.problem(), (404, "not_found".to_owned()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_pages_are_not_found() {
    let mut cluster = cluster();
    cluster.config.pages.enabled = false;
    let node = cluster.node().await;
    for path in ["/account/sign-in", "/oauth2/authorize?client_id=shop", "/oauth2/logout"] {
        let answer = node.client.get_anonymously(path).await;
        assert_eq!(answer.problem(), (404, "not_found".to_owned()), "{path}");
    }
    // the metadata does not name the pages either
    let metadata = node.client.get_anonymously("/.well-known/openid-configuration").await.expect(200).json();
    assert!(metadata["authorization_endpoint"].is_null(), "{metadata}");
    assert!(metadata["end_session_endpoint"].is_null(), "{metadata}");
    assert_eq!(metadata["grant_types_supported"], serde_json::json!(["refresh_token", "client_credentials"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_template_is_refused_with_its_file_and_line() {
    let mut cluster = cluster();
    let folder = cluster.folder().join("pages");
    std::fs::create_dir(&folder).unwrap();
    // a misspelt variable
    std::fs::write(folder.join("sign_in.html"), "{{ identifer }}").unwrap();
    cluster.config.pages.templates = Some(folder);
    // a node calls this at its start
    let error = latchkey::pages::Pages::load(&cluster.config).unwrap_err().to_string();
    assert!(error.starts_with("pages.templates: sign_in.html: line 1: undefined value"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_redis_is_reported_on_a_page() {
    let cluster = cluster();
    let node = cluster.node().await;
    node.client.register("ada").await;
    // Two browsers: one is signed in, and the other has loaded the form.
    let mut signed_in = super::signed_in(&node).await;
    let mut signing_in = Visitor::new(&node);
    signing_in.open("/account/sign-in").await.expect(200);
    cluster.redis.kill();
    let form = [("identifier", "ada"), ("password", PASSWORD)];
    let sign_in = signing_in.submit("/account/sign-in", &form).await.expect(503);
    assert!(sign_in.text.contains("The service is busy. Nothing was changed."), "{}", sign_in.text);
    // the form keeps the identifier
    assert!(sign_in.text.contains("value=\"ada\""), "{}", sign_in.text);
    // the sessions are listed from Redis, without a cache
    let devices = signed_in.open("/account/devices").await.expect(503);
    // the empty reference reloads the page
    assert!(devices.text.contains("href=\"\">Try again</a>"), "{}", devices.text);
    // the link of errors that a retry does not solve
    assert!(!devices.text.contains(">Continue<"), "{}", devices.text);
}
