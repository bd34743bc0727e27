//! `GET` and `POST /oauth2/logout` (OpenID Connect RP-Initiated Logout 1.0).

use poem::{
    IntoResponse, Response, Result,
    http::{HeaderValue, header},
};
use poem_openapi::{Object, OpenApi};

use super::browser::{Body, BrowserAnswer, BrowserProblems, Pairs, Query};
use crate::{
    http::{
        api::Tag,
        cookie,
        extract::auth::CsrfCheck,
        pages::{self, Failure, Visit},
        problem::{Failed, ProblemError},
    },
    service::end_session::{EndSession, EndSessionError, EndSessionOutcome, end_session},
};

/// The path of the endpoint.
pub(super) const PATH: &str = "/oauth2/logout";
/// The form field with the CSRF token of the page on which the user confirms the sign-out.
const CSRF_FIELD: &str = "csrf";

/// The endpoint to which apps redirect the browser to sign its user out.
pub struct EndSessionApi;

/// A sign-out. `GET` takes the same parameters in the query.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub(in crate::http) struct EndSessionForm {
    /// An ID token of the user, expired or not. Without it, the user confirms the sign-out on a page.
    id_token_hint: Option<String>,
    /// The client.
    client_id: Option<String>,
    /// Where the browser goes afterwards: one of the client's registered URIs.
    post_logout_redirect_uri: Option<String>,
    /// Returned to the client.
    state: Option<String>,
    /// Accepted and ignored.
    logout_hint: Option<String>,
    /// Languages for the page (BCP 47).
    ui_locales: Option<String>,
}

/// The value of a parameter. A parameter with an empty value counts as absent.
fn parameter<'a>(parameters: &'a Pairs, name: &str) -> Option<&'a str> {
    let found = parameters.iter().find(|(key, value)| key == name && !value.is_empty());
    found.map(|(_, value)| value.as_str())
}

/// Reads the parameters of a request. `is_confirmed` is true if the user has confirmed the sign-out on a page.
fn parse_request(parameters: &Pairs, is_confirmed: bool) -> EndSession {
    let value = |name: &str| parameter(parameters, name).map(ToOwned::to_owned);
    EndSession {
        id_token_hint: value("id_token_hint"),
        client_id: value("client_id"),
        post_logout_redirect_uri: value("post_logout_redirect_uri"),
        state: value("state"),
        is_confirmed,
    }
}

/// Signs out, unless the user must confirm first, and redirects the browser.
async fn respond(
    visit: Visit,
    parameters: &Pairs,
    is_confirmed: bool,
) -> Result<BrowserAnswer, Failed<BrowserProblems>> {
    let (state, browser) = (&visit.state, &visit.browser);
    let request = parse_request(parameters, is_confirmed);
    match end_session(state, &request, browser.session.as_ref(), browser.origin.ip).await {
        Ok(EndSessionOutcome::SignedOut(target)) => {
            let target = target.unwrap_or_else(|| format!("{}/account/signed-out", state.config.issuer));
            let mut response: Response = BrowserAnswer::redirect(&target).into_response();
            // The cookie is cleared only if the request sent it: a form that another site posts comes without it, and must not clear it.
            if browser.session.is_some()
                && let Ok(set_cookie) = HeaderValue::from_str(&cookie::clear_browser())
            {
                response.headers_mut().append(header::SET_COOKIE, set_cookie);
            }
            Ok(BrowserAnswer::from(response))
        }
        Ok(EndSessionOutcome::Confirm) => Ok(BrowserAnswer::page(pages::confirm_sign_out(visit, parameters).await)?),
        Err(error) => {
            let code = match error {
                EndSessionError::Hint => "invalid_hint",
                EndSessionError::RedirectUri => "unregistered_redirect_uri",
                EndSessionError::Client => "unknown_client",
                EndSessionError::Service(error) => return Err(ProblemError::from(error).into()),
            };
            Ok(BrowserAnswer::failure(&visit, Failure::SignOut, code, Some(error.to_string()))?)
        }
    }
}

/// The error page for parameters that cannot be read.
fn malformed(visit: &Visit) -> Result<BrowserAnswer, Failed<BrowserProblems>> {
    Ok(BrowserAnswer::failure_without_detail(visit, Failure::SignOut, "malformed_request")?)
}

#[OpenApi(tag = "Tag::OAuth")]
impl EndSessionApi {
    /// Sign out of all apps
    ///
    /// Where an app sends the browser of its user to sign out (OpenID Connect RP-Initiated Logout 1.0). The browser's session ends, and
    /// so do the sessions of all apps that the browser has signed in to, unless they have `offline_access`. Then the browser goes to
    /// `post_logout_redirect_uri`. Without an ID token of the browser's user as a hint, the user confirms first.
    #[oai(path = "/oauth2/logout", method = "get", operation_id = "end_session")]
    async fn get(&self, visit: Visit, Query(parameters): Query) -> Result<BrowserAnswer, Failed<BrowserProblems>> {
        let Ok(parameters) = parameters else { return malformed(&visit) };
        // the confirmation is a form, so it arrives by POST
        let is_confirmed = false;
        respond(visit, &parameters, is_confirmed).await
    }

    /// Sign out of all apps (form)
    ///
    /// As `GET`, with the parameters in a form. The confirmation of the user arrives here as well.
    #[oai(path = "/oauth2/logout", method = "post", operation_id = "end_session_form")]
    async fn post(
        &self,
        visit: Visit,
        CsrfCheck(cross_site_problem): CsrfCheck,
        body: Body<EndSessionForm>,
    ) -> Result<BrowserAnswer, Failed<BrowserProblems>> {
        let Ok(parameters) = body.parameters else { return malformed(&visit) };
        // The browser sends no cookies with a form that another site posts, but it sends them with the GET request of this redirect. A
        // request with a hint needs no cookie, and is not redirected, because the ID token must not get into a URL.
        if visit.browser.session.is_none() && parameter(&parameters, "id_token_hint").is_none() {
            let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&parameters).finish();
            return Ok(BrowserAnswer::redirect(&format!("{}{PATH}?{query}", visit.state.config.issuer)));
        }
        let is_confirmed = cross_site_problem.is_none()
            && parameter(&parameters, CSRF_FIELD).is_some_and(|token| visit.browser.accepts_csrf(&visit.state, token));
        respond(visit, &parameters, is_confirmed).await
    }
}
