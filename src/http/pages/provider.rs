//! Pages of the OpenID Provider's own endpoints, `/oauth2/authorize` and `/oauth2/logout`.

use poem::{Response, Result, handler, http::StatusCode};
use url::form_urlencoded;

use super::{PREFIX, account, authorization::host, visit::Visit};
use crate::{
    domain::authorization::{AuthorizationResponse, ResponseMode},
    http::problem::ProblemError,
    pages::views::{ClientLink, Field, FormPost, Message, SignOut},
    service::error::ServiceError,
};

/// The code that selects the text of [`unconfirmed_page`].
const UNCONFIRMED: &str = "unconfirmed_app";

/// The kind of a failed request whose error is shown to the user, instead of redirecting to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Failure {
    /// An authorization request.
    SignIn,
    /// A sign-out.
    SignOut,
}

impl Failure {
    const ALL: [Self; 2] = [Self::SignIn, Self::SignOut];

    /// The codes for which the page has a text.
    const CODES: [&'static str; 8] = [
        "unknown_client",
        "client_document",
        "unregistered_redirect_uri",
        "request_expired",
        "malformed_request",
        "invalid_hint",
        "too_many_apps",
        UNCONFIRMED,
    ];

    /// The kind of [`Message`] that reports the failure.
    const fn kind(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in_failed",
            Self::SignOut => "sign_out_failed",
        }
    }
}

/// The visit for a page about a failed request. Its links to other languages lead to `/account/error`, and do not repeat the request.
fn error_visit(visit: &Visit, failure: Failure, code: &str) -> Visit {
    visit.shown_as(&format!("{PREFIX}/error"), format!("?kind={}&code={code}", failure.kind()))
}

fn message_page(
    visit: &Visit,
    failure: Failure,
    code: &str,
    detail: Option<String>,
    status: StatusCode,
) -> Result<Response> {
    let visit = error_visit(visit, failure, code);
    let view = Message { detail, ..Message::without_action(failure.kind()) };
    visit.reply().form_error(code).status(status).page(&view)
}

/// The message of a failed request. `detail` is a reason for developers.
///
/// # Errors
/// A page that can't be rendered.
pub(in crate::http) fn failure_page(
    visit: &Visit,
    failure: Failure,
    code: &'static str,
    detail: Option<String>,
) -> Result<Response> {
    message_page(visit, failure, code, detail, StatusCode::BAD_REQUEST)
}

/// The page for a failed request of a client that the user has not allowed: the browser is not redirected to such a client. The page shows
/// the error and the host of the redirect URI, with a link to the URI unless the client expects a form.
///
/// # Errors
/// A page that can't be rendered.
pub(in crate::http) fn unconfirmed_page(visit: &Visit, response: &AuthorizationResponse) -> Result<Response> {
    let failure = Failure::SignIn;
    let visit = error_visit(visit, failure, UNCONFIRMED);
    // the values of `error` and `error_description`
    let reasons = response.parameters.iter().filter(|(name, _)| name.starts_with("error"));
    let detail = reasons.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(": ");
    let url = (response.mode == ResponseMode::Query).then(|| response.to_url());
    let client = ClientLink { host: host(&response.redirect_uri), url };
    let view = Message { detail: Some(detail), client: Some(client), ..Message::without_action(failure.kind()) };
    visit.reply().form_error(UNCONFIRMED).status(StatusCode::BAD_REQUEST).page(&view)
}

/// `GET /account/error`: shows the error of an authorization request or a sign-out in another language. The parameters are not trusted:
/// unknown values select the text of an expired sign-in.
#[handler]
pub(super) async fn show_error(visit: Visit) -> Result<Response> {
    let kind = visit.parameter("kind").unwrap_or_default();
    let failure = Failure::ALL.into_iter().find(|failure| failure.kind() == kind).unwrap_or(Failure::SignIn);
    let code = visit.parameter("code").unwrap_or_default();
    let code = Failure::CODES.into_iter().find(|known| *known == code).unwrap_or("request_expired");
    let detail = None; // not a parameter of this page
    message_page(&visit, failure, code, detail, StatusCode::OK)
}

/// The form that the browser posts to the client at once (OAuth 2.0 Form Post Response Mode).
///
/// # Errors
/// A page that can't be rendered.
pub(in crate::http) fn form_post(visit: &Visit, response: &AuthorizationResponse) -> Result<Response> {
    let fields = response.parameters.iter().map(|(name, value)| Field::new(name, value)).collect();
    let view = FormPost { action: response.redirect_uri.clone(), fields };
    // `any_target`: the form leads to the client.
    visit.reply().any_target().page(&view)
}

/// The page that asks whether to sign out. Its form keeps the parameters that the sign-out needs.
///
/// # Errors
/// [`ProblemError`], or a page that can't be rendered.
pub(in crate::http) async fn confirm_sign_out(visit: Visit, parameters: &[(String, String)]) -> Result<Response> {
    let kept_names = ["client_id", "post_logout_redirect_uri", "state"];
    let kept: Vec<_> = parameters.iter().filter(|(name, _)| kept_names.contains(&name.as_str())).collect();
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(kept.iter().copied()).finish();
    // the page's links to other languages keep the parameters
    let path = visit.path.clone();
    let mut visit = visit.shown_as(&path, format!("?{query}"));
    let client = match kept.iter().find(|(name, _)| name == "client_id") {
        Some((_, id)) => {
            let found = visit.state.clients.find(id).await.map_err(ServiceError::from).map_err(ProblemError::from)?;
            found.map(|found| found.client.display_name().to_owned())
        }
        None => None,
    };
    // Sets the name of the account in `visit`, which the page shows.
    account::load_owner_identifier(&mut visit).await?;
    let fields = kept.into_iter().map(|(name, value)| Field::new(name, value)).collect();
    // `any_target`: the sign-out redirects the browser to the app's `post_logout_redirect_uri`.
    visit.reply().any_target().page(&SignOut { fields, client })
}
