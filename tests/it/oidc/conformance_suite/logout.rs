//! The modules of the profile RP-Initiated Logout of the OpenID conformance suite. Each test has the name of its module.

use super::{
    super::{Browser, text},
    Mode::Query,
    Suite,
};
use crate::harness::client::Answer;

/// The app's registered `post_logout_redirect_uri`.
const BYE: &str = "https://app.example.com/bye";

/// A browser that has signed in to the app.
struct SignedIn {
    suite: Suite,
    browser: Browser,
    id_token: String,
}

impl SignedIn {
    async fn start() -> Self {
        let suite = Suite::start(Query).await;
        let browser = suite.browser().await;
        let tokens = suite.tokens(&browser, &suite.request()).await;
        let id_token = text(&tokens, "id_token").to_owned();
        Self { suite, browser, id_token }
    }

    async fn request_logout(&self, parameters: &[(&str, &str)]) -> Answer {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        self.browser.get(&self.suite.node, &format!("/oauth2/logout?{query}")).await
    }

    /// Whether the browser is signed in. As in the suite, an authorization request with `prompt=none` shows it.
    async fn is_signed_in(&self) -> bool {
        let response = self.suite.authorize(&self.browser, &self.suite.request().with("prompt", "none")).await;
        match response.get("error") {
            None => true,
            Some(error) => {
                assert_eq!(error, "login_required");
                false
            }
        }
    }

    /// Requests a sign-out, and asserts that the user is signed out without a question, and the browser redirected to `location`.
    async fn expect_return(self, parameters: &[(&str, &str)], location: &str) {
        let answer = self.request_logout(parameters).await.expect(303);
        assert_eq!(answer.header("location"), location);
        assert!(!self.is_signed_in().await);
        self.suite.finish().await;
    }

    /// Requests a sign-out, and asserts that a page asks for confirmation, and that the user is still signed in.
    async fn expect_question(self, parameters: &[(&str, &str)]) {
        let page = self.request_logout(parameters).await.expect(200);
        assert!(page.text.contains("Sign out?"), "{}", page.text);
        assert!(self.is_signed_in().await);
        self.suite.finish().await;
    }

    /// Requests a sign-out, and asserts that a page shows an error, without a redirect, and that the user is still signed in.
    async fn expect_error(self, parameters: &[(&str, &str)]) {
        let page = self.request_logout(parameters).await.expect(400);
        // `header` returns an empty text for a header that is absent
        assert_eq!(page.header("location"), "");
        assert!(self.is_signed_in().await);
        self.suite.finish().await;
    }
}

/// The metadata has the logout endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_rp_initiated_logout_discovery_endpoint_verification() {
    let suite = Suite::start(Query).await;
    let metadata = suite.node.get_anonymously("/.well-known/openid-configuration").await.expect(200).json();
    assert_eq!(metadata["end_session_endpoint"], "https://auth.example.com/oauth2/logout");
    suite.finish().await;
}

/// A sign-out with all parameters returns to the app with `state`.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_rp_initiated_logout() {
    let fixture = SignedIn::start().await;
    let hint = fixture.id_token.clone();
    let parameters = [("id_token_hint", hint.as_str()), ("post_logout_redirect_uri", BYE), ("state", "a state")];
    fixture.expect_return(&parameters, &format!("{BYE}?state=a+state")).await;
}

/// A URI that is not registered leads to an error page.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_rp_initiated_logout_bad_post_logout_redirect_uri() {
    let fixture = SignedIn::start().await;
    let hint = fixture.id_token.clone();
    fixture
        .expect_error(&[("id_token_hint", &hint), ("post_logout_redirect_uri", "https://app.example.com/bye/foo")])
        .await;
}

/// An ID token whose signature was changed leads to an error page.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_rp_initiated_logout_modified_id_token_hint() {
    let fixture = SignedIn::start().await;
    let (message, signature) = fixture.id_token.rsplit_once('.').unwrap();
    // replaces the first character of the signature by another one
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let hint = format!("{message}.{other}{}", &signature[1..]);
    fixture.expect_error(&[("id_token_hint", &hint), ("post_logout_redirect_uri", BYE)]).await;
}

/// Without an ID token the user confirms the sign-out first.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_rp_initiated_logout_no_id_token_hint() {
    let fixture = SignedIn::start().await;
    let app = fixture.suite.app.id.clone();
    fixture.expect_question(&[("client_id", &app), ("post_logout_redirect_uri", BYE), ("state", "a state")]).await;
}

/// Without any parameter the user confirms the sign-out first.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_rp_initiated_logout_no_params() {
    SignedIn::start().await.expect_question(&[]).await;
}

/// Without a URI to return to, a page of Latchkey says that the user is signed out.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_rp_initiated_logout_no_post_logout_redirect_uri() {
    let fixture = SignedIn::start().await;
    let hint = fixture.id_token.clone();
    let parameters = [("id_token_hint", hint.as_str()), ("state", "a state")];
    fixture.expect_return(&parameters, "https://auth.example.com/account/signed-out").await;
}

/// A sign-out without `state` returns to the app without `state`.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_rp_initiated_logout_no_state() {
    let fixture = SignedIn::start().await;
    let hint = fixture.id_token.clone();
    fixture.expect_return(&[("id_token_hint", &hint), ("post_logout_redirect_uri", BYE)], BYE).await;
}

/// With `state` alone the user confirms the sign-out first.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_rp_initiated_logout_only_state() {
    SignedIn::start().await.expect_question(&[("state", "a state")]).await;
}

/// A registered URI to which a query was added leads to an error page.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_rp_initiated_logout_query_added_to_post_logout_redirect_uri() {
    let fixture = SignedIn::start().await;
    let hint = fixture.id_token.clone();
    let added = format!("{BYE}?foo=bar");
    fixture.expect_error(&[("id_token_hint", &hint), ("post_logout_redirect_uri", &added)]).await;
}

/// A text that is no ID token leads to an error page.
#[tokio::test(flavor = "multi_thread")]
async fn oidcc_rp_initiated_logout_bad_id_token_hint() {
    let fixture = SignedIn::start().await;
    fixture.expect_error(&[("id_token_hint", "foo"), ("post_logout_redirect_uri", BYE)]).await;
}
