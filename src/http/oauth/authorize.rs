//! `GET` and `POST /oauth2/authorize` (RFC 6749, section 3.1; OpenID Connect Core 1.0, section 3.1.2).

use poem::Result;
use poem_openapi::{Object, OpenApi};

use super::browser::{Body, BrowserAnswer, Query};
use crate::{
    crypto::authorization_code::RequestHandle,
    http::{
        api::Tag,
        pages::{self, Failure, Visit},
        problem::{Code, Failed, ProblemError, Problems},
    },
    service::authorize::{self, AuthorizeError, AuthorizeOutcome, AuthorizeStep, Parameters},
    state::AppState,
};

/// The path of the endpoint.
pub(in crate::http) const PATH: &str = "/oauth2/authorize";

/// The authorization endpoint.
pub struct AuthorizeApi;

/// An authorization request. `GET` takes the same parameters in the query.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub(in crate::http) struct AuthorizationForm {
    /// Always `code`.
    response_type: Option<String>,
    /// The client.
    client_id: Option<String>,
    /// Where the response goes: one of the client's registered URIs, character for character. A loopback address may have any port.
    redirect_uri: Option<String>,
    /// `openid`, `profile`, `email`, `offline_access` and the client's own scopes, separated by spaces. Scopes that the client may not
    /// have are ignored.
    scope: Option<String>,
    /// Returned to the client unchanged.
    state: Option<String>,
    /// Returned in the ID token.
    nonce: Option<String>,
    /// The SHA-256 of the code verifier in base64url (RFC 7636).
    code_challenge: Option<String>,
    /// Always `S256`.
    code_challenge_method: Option<String>,
    /// `query`, the default, or `form_post`.
    response_mode: Option<String>,
    /// `none`, or any of `login`, `consent`, `select_account` and `create`, separated by spaces.
    prompt: Option<String>,
    /// The user authenticates again if the last authentication is older than this number of seconds.
    max_age: Option<String>,
    /// An e-mail address or a username, for the sign-in form.
    login_hint: Option<String>,
    /// An ID token of the user whom the client expects.
    id_token_hint: Option<String>,
    /// The accepted authentication levels, `aal1` or `aal2`, separated by spaces. The lowest one is required.
    acr_values: Option<String>,
    /// Languages for the pages (BCP 47), separated by spaces.
    ui_locales: Option<String>,
    /// Accepted, without effect: the claims have one language.
    claims_locales: Option<String>,
    /// A resource that the access tokens are for (RFC 8707); may be repeated.
    resource: Option<String>,
    /// The handle of a stored request, with which a page of Latchkey sends the browser back. Needs no other parameter.
    request: Option<String>,
}

/// The problems of an authorization request. Its other errors go to the client or to an error page.
struct AuthorizeProblems;

impl Problems for AuthorizeProblems {
    const CODES: &'static [Code] = &[Code::TooManyRequests];
}

/// The page of a step.
fn page_of(step: &AuthorizeStep) -> &'static str {
    match step {
        AuthorizeStep::Consent => "/account/consent",
        AuthorizeStep::CreateAccount => "/account/register",
        AuthorizeStep::SelectAccount => "/account/select-account",
        AuthorizeStep::Reauthenticate | AuthorizeStep::StepUp(_) => "/account/reauthenticate",
        // An outcome never has the step `Redirect`: that is `AuthorizeOutcome::Respond`.
        AuthorizeStep::SignIn | AuthorizeStep::Redirect(_) => "/account/sign-in",
    }
}

/// The URL of `path` (the endpoint or a page) with the handle of a request. `ui_locales` keeps the language of the pages.
fn with_handle(state: &AppState, path: &str, handle: &RequestHandle, ui_locales: Option<&str>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("request", handle.expose());
    if let Some(locales) = ui_locales {
        query.append_pair("ui_locales", locales);
    }
    format!("{}{path}?{}", state.config.issuer, query.finish())
}

/// The answer to the browser: an authorization response for the client, a redirect to the page of the missing step, or an error page.
fn respond(
    visit: &Visit,
    outcome: Result<AuthorizeOutcome, AuthorizeError>,
) -> Result<BrowserAnswer, Failed<AuthorizeProblems>> {
    Ok(match outcome {
        Ok(AuthorizeOutcome::Respond(response)) => BrowserAnswer::authorization(visit, &response)?,
        Ok(AuthorizeOutcome::Page { step, handle, ui_locales }) => {
            BrowserAnswer::redirect(&with_handle(&visit.state, page_of(&step), &handle, ui_locales.as_deref()))
        }
        Err(AuthorizeError::Refused(response)) => BrowserAnswer::authorization(visit, &response)?,
        // the user has not allowed the client, so a page shows the error
        Err(AuthorizeError::Unconfirmed(response)) => BrowserAnswer::page(pages::unconfirmed_page(visit, &response))?,
        Err(AuthorizeError::Untrusted(reason)) => {
            BrowserAnswer::failure(visit, Failure::SignIn, reason.code(), Some(reason.to_string()))?
        }
        Err(AuthorizeError::TooManyApps) => {
            BrowserAnswer::failure_without_detail(visit, Failure::SignIn, "too_many_apps")?
        }
        Err(AuthorizeError::Service(error)) => return Err(ProblemError::from(error).into()),
    })
}

/// The error page for parameters that are not well-formed.
fn malformed(visit: &Visit) -> Result<BrowserAnswer, Failed<AuthorizeProblems>> {
    Ok(BrowserAnswer::failure_without_detail(visit, Failure::SignIn, "malformed_request")?)
}

#[OpenApi(tag = "Tag::OAuth")]
impl AuthorizeApi {
    /// Authorize an app
    ///
    /// Where an app sends the browser of its user to sign in (RFC 6749, section 4.1; OpenID Connect Core 1.0). The response goes to
    /// `redirect_uri` with `code`, `state` and `iss`, or with `error`. If the user has to do something first, the browser goes to one of
    /// Latchkey's pages, which sends it back. If the client or its redirect URI can't be trusted, a page shows the error to the user.
    #[oai(path = "/oauth2/authorize", method = "get", operation_id = "authorize")]
    async fn get(&self, visit: Visit, Query(parameters): Query) -> Result<BrowserAnswer, Failed<AuthorizeProblems>> {
        let Ok(parameters) = parameters.map(Parameters) else { return malformed(&visit) };
        let browser = &visit.browser;
        let outcome = authorize::authorize(&visit.state, &parameters, browser.session.as_ref(), &browser.origin).await;
        respond(&visit, outcome)
    }

    /// Authorize an app (form)
    ///
    /// As `GET`, with the parameters in a form. The browser continues with `GET`, since it doesn't send its cookies with forms of other
    /// sites.
    #[oai(path = "/oauth2/authorize", method = "post", operation_id = "authorize_form")]
    async fn post(
        &self,
        visit: Visit,
        body: Body<AuthorizationForm>,
    ) -> Result<BrowserAnswer, Failed<AuthorizeProblems>> {
        let Ok(parameters) = body.parameters.map(Parameters) else { return malformed(&visit) };
        match authorize::validate_and_store(&visit.state, &parameters, visit.client.ip).await {
            Ok(handle) => {
                // `validate_and_store` has stored the locales with the request.
                let ui_locales = None;
                Ok(BrowserAnswer::redirect(&with_handle(&visit.state, PATH, &handle, ui_locales)))
            }
            Err(error) => respond(&visit, Err(error)),
        }
    }
}
