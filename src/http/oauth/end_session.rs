//! `GET` and `POST /oauth2/logout` (OpenID Connect RP-Initiated Logout 1.0).

use std::sync::Arc;

use poem::{
    IntoResponse, Request, RequestBody, Response, Result,
    http::{HeaderValue, StatusCode, header},
    web::Data,
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions, Object, OpenApi,
    registry::{MetaMediaType, MetaRequest, Registry},
    types::Type,
};

use super::{
    authorize::{BrowserAnswer, BrowserProblems, malformed},
    error::OAuthError,
    form::{self, CONTENT_TYPE},
    html,
};
use crate::{
    http::{
        api::Tag,
        cookie,
        extract::{auth::CsrfCheck, browser_session::Browser},
        problem::{Failed, ProblemError},
    },
    service::end_session::{EndSession, EndSessionError, EndSessionOutcome, end_session},
    state::AppState,
};

/// The path of the endpoint.
pub(super) const PATH: &str = "/oauth2/logout";
/// The field of the confirmation with the anti-forgery token.
const CSRF: &str = "csrf";

/// The endpoint to which apps send the browser to sign out.
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
    /// Accepted.
    logout_hint: Option<String>,
    /// Languages for the page (BCP 47).
    ui_locales: Option<String>,
}

/// The parameters.
struct Parameters(Vec<(String, String)>);

/// The parameters in the query, if it is well-formed.
struct Query(Result<Parameters, OAuthError>);

/// The parameters in a form, if it is well-formed.
struct Body(Result<Parameters, OAuthError>);

impl Parameters {
    fn read(&self) -> EndSession {
        let one = |name: &str| {
            self.0.iter().find(|(it, value)| it == name && !value.is_empty()).map(|(_, value)| value.clone())
        };
        EndSession {
            id_token_hint: one("id_token_hint"),
            client_id: one("client_id"),
            post_logout_redirect_uri: one("post_logout_redirect_uri"),
            state: one("state"),
            is_confirmed: false,
        }
    }

    fn csrf(&self) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == CSRF).map(|(_, value)| value.as_str())
    }
}

impl<'a> poem::FromRequest<'a> for Query {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(Self(form::pairs(request.uri().query().unwrap_or_default()).map(Parameters)))
    }
}

impl<'a> ApiExtractor<'a> for Body {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <EndSessionForm as Type>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: CONTENT_TYPE, schema: EndSessionForm::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(request: &'a Request, body: &mut RequestBody, _: ExtractParamOptions<()>) -> Result<Self> {
        Ok(Self(form::body_pairs(request, body).await?.map(Parameters)))
    }
}

async fn answer(
    state: &AppState,
    mut browser: Browser,
    parameters: &Parameters,
    is_confirmed: bool,
) -> Result<BrowserAnswer, Failed<BrowserProblems>> {
    let request = EndSession { is_confirmed, ..parameters.read() };
    match end_session(state, &request, browser.session.as_ref(), browser.origin.ip).await {
        Ok(EndSessionOutcome::SignedOut(target)) => {
            let target = target.unwrap_or_else(|| format!("{}/account/signed-out", state.config.issuer));
            let mut response: Response = BrowserAnswer::redirect(&target).into_response();
            // Without a session there is nothing to forget: a form of another site could clear the cookie otherwise.
            if browser.session.is_some()
                && let Ok(cookie) = HeaderValue::from_str(&cookie::clear_browser())
            {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            Ok(BrowserAnswer::from(response))
        }
        Ok(EndSessionOutcome::Confirm) => {
            let (csrf, _) = browser.csrf_token(state);
            let kept = ["client_id", "post_logout_redirect_uri", "state"];
            let fields = parameters.0.iter().filter(|(name, _)| kept.contains(&name.as_str()));
            let fields = fields.map(|(name, value)| (name.as_str(), value.as_str()));
            let action = format!("{}{PATH}", state.config.issuer);
            let page = html::confirm_sign_out(&action, fields.chain([(CSRF, csrf.as_str())]));
            Ok(BrowserAnswer::page(StatusCode::OK, page))
        }
        Err(EndSessionError::Service(error)) => Err(ProblemError::from(error).into()),
        Err(error) => {
            let message = format!("You are still signed in: {error}. Go back to the app and try again.");
            Ok(BrowserAnswer::page(StatusCode::BAD_REQUEST, html::message("Sign-out failed", &message)))
        }
    }
}

#[OpenApi(tag = "Tag::OAuth")]
impl EndSessionApi {
    /// Sign out of all apps
    ///
    /// Where an app sends the browser of its user to sign out (OpenID Connect RP-Initiated Logout 1.0). The browser's session ends, and
    /// so do the sessions of all apps that the browser has signed in to, unless they have `offline_access`. Then the browser goes to
    /// `post_logout_redirect_uri`. Without an ID token of the browser's user as a hint, the user confirms first.
    #[oai(path = "/oauth2/logout", method = "get", operation_id = "end_session")]
    async fn get(
        &self,
        Data(state): Data<&Arc<AppState>>,
        browser: Browser,
        Query(parameters): Query,
    ) -> Result<BrowserAnswer, Failed<BrowserProblems>> {
        let Ok(parameters) = parameters else { return Ok(malformed()) };
        answer(state, browser, &parameters, false).await
    }

    /// Sign out of all apps (form)
    ///
    /// As `GET`, with the parameters in a form. The confirmation of the user arrives here as well.
    #[oai(path = "/oauth2/logout", method = "post", operation_id = "end_session_form")]
    async fn post(
        &self,
        Data(state): Data<&Arc<AppState>>,
        browser: Browser,
        CsrfCheck(cross_site): CsrfCheck,
        Body(parameters): Body,
    ) -> Result<BrowserAnswer, Failed<BrowserProblems>> {
        let Ok(parameters) = parameters else { return Ok(malformed()) };
        let is_confirmed =
            cross_site.is_none() && parameters.csrf().is_some_and(|token| browser.accepts_csrf(state, token));
        // The browser sends its cookies only with the GET request that follows. A hint is no matter for a URL, and needs no cookie.
        if browser.session.is_none() && parameters.read().id_token_hint.is_none() {
            let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&parameters.0).finish();
            return Ok(BrowserAnswer::redirect(&format!("{}{PATH}?{query}", state.config.issuer)));
        }
        answer(state, browser, &parameters, is_confirmed).await
    }
}
