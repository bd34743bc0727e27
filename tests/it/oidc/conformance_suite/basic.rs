//! The modules of the conformance suite's profile Basic, in which the app receives authorization responses in the query of its
//! redirect URI. Each test has the name of its module; `walk.rs` has the steps.

use super::{Mode::Query, walk};

/// An app signs a user in, and learns the user's identity.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_server() {
    walk::server(Query).await;
}

/// A request without `response_type` is an error.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_response_type_missing() {
    walk::response_type_missing(Query).await;
}

/// A published key verifies the ID token.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_idtoken_signature() {
    walk::idtoken_signature(Query).await;
}

/// The provider offers no ID tokens without a signature, so the suite skips this module.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_idtoken_unsigned() {
    walk::idtoken_unsigned(Query).await;
}

/// The userinfo endpoint answers to GET.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_userinfo_get() {
    walk::userinfo_get(Query).await;
}

/// The userinfo endpoint answers to POST with the token in the header.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_userinfo_post_header() {
    walk::userinfo_post_header(Query).await;
}

/// The userinfo endpoint answers to POST with the token in the form.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_userinfo_post_body() {
    walk::userinfo_post_body(Query).await;
}

/// A request without `nonce` gets an ID token without `nonce`.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_ensure_request_without_nonce_succeeds_for_code_flow() {
    walk::ensure_request_without_nonce_succeeds_for_code_flow(Query).await;
}

/// The scope `profile` reveals the profile.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_scope_profile() {
    walk::scope_profile(Query).await;
}

/// The scope `email` reveals the e-mail address.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_scope_email() {
    walk::scope_email(Query).await;
}

/// The scope `address`, which is not supported, is ignored.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_scope_address() {
    walk::scope_address(Query).await;
}

/// The scope `phone`, which is not supported, is ignored.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_scope_phone() {
    walk::scope_phone(Query).await;
}

/// A request for all scopes is granted the supported ones.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_scope_all() {
    walk::scope_all(Query).await;
}

/// The order of the scopes and of the parameters does not matter.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_alternate_happy_flow() {
    walk::alternate_happy_flow(Query).await;
}

/// `display=page` does not fail the request.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_display_page() {
    walk::display_page(Query).await;
}

/// `display=popup` does not fail the request.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_display_popup() {
    walk::display_popup(Query).await;
}

/// `prompt=login` requires a new authentication, and `auth_time` is the time of the new one.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_prompt_login() {
    walk::prompt_login(Query).await;
}

/// `prompt=none` in a browser without a session is an error.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_prompt_none_not_logged_in() {
    walk::prompt_none_not_logged_in(Query).await;
}

/// `prompt=none` in a browser with a session gets tokens, with the `auth_time` of that session.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_prompt_none_logged_in() {
    walk::prompt_none_logged_in(Query).await;
}

/// `max_age=1` requires a new authentication when the last one is two seconds old.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_max_age_1() {
    walk::max_age_1(Query).await;
}

/// `max_age=10000` requires no new authentication: the ID tokens of two requests have the same `auth_time`.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_max_age_10000() {
    walk::max_age_10000(Query).await;
}

/// An unknown parameter does not fail the request.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_ensure_request_with_unknown_parameter_succeeds() {
    walk::ensure_request_with_unknown_parameter_succeeds(Query).await;
}

/// With an ID token as `id_token_hint`, `prompt=none` gets tokens of the same user.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_id_token_hint() {
    walk::id_token_hint(Query).await;
}

/// A `login_hint` does not fail the request, and the sign-in page shows the hint.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_login_hint() {
    walk::login_hint(Query).await;
}

/// `ui_locales` does not fail the request.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_ui_locales() {
    walk::ui_locales(Query).await;
}

/// `claims_locales` does not fail the request.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_claims_locales() {
    walk::claims_locales(Query).await;
}

/// Unknown `acr_values` do not fail the request, and `acr` in the ID token is that of the sign-in.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_ensure_request_with_acr_values_succeeds() {
    walk::ensure_request_with_acr_values_succeeds(Query).await;
}

/// The second use of a code is an error.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_codereuse() {
    walk::codereuse(Query).await;
}

/// The second use of a code, half a minute after the first, revokes the tokens of the first.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_codereuse_30seconds() {
    walk::codereuse_30seconds(Query).await;
}

/// A request with a redirect URI that is not registered gets an error page, and no redirect.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_ensure_registered_redirect_uri() {
    walk::ensure_registered_redirect_uri(Query).await;
}

/// The authorization endpoint answers to POST.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_ensure_post_request_succeeds() {
    walk::ensure_post_request_succeeds(Query).await;
}

/// An app authenticates with its secret in the form.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_server_client_secret_post() {
    walk::server_client_secret_post(Query).await;
}

/// A `request_uri` is refused as unsupported.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_request_uri_unsigned_supported_correctly_or_rejected_as_unsupported() {
    walk::request_uri_unsigned_supported_correctly_or_rejected_as_unsupported(Query).await;
}

/// A request object without a signature is refused as unsupported.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_unsigned_request_object_supported_correctly_or_rejected_as_unsupported() {
    walk::unsigned_request_object_supported_correctly_or_rejected_as_unsupported(Query).await;
}

/// The parameter `claims` is not supported: the metadata says so, and the parameter does not fail the request.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_claims_essential() {
    walk::claims_essential(Query).await;
}

/// A request object with another redirect URI is refused as unsupported, and its redirect URI is not used.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_ensure_request_object_with_redirect_uri() {
    walk::ensure_request_object_with_redirect_uri(Query).await;
}

/// A refresh token yields tokens of the same user and authentication, and is refused to another client.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_refresh_token() {
    walk::refresh_token(Query).await;
}

/// The code of a request with PKCE can be exchanged only with the verifier of that request.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_ensure_request_with_valid_pkce_succeeds() {
    walk::ensure_request_with_valid_pkce_succeeds(Query).await;
}
