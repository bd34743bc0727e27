//! `GET` and `POST /oauth2/authorize` (RFC 6749, section 3.1; OpenID Connect Core 1.0, section 3.1.2).
//!
//! A page's Content-Security-Policy must not limit `form-action`: browsers apply it to the redirects that follow a submission, and the last
//! one leads to the client.

use std::sync::Arc;

use poem::{
    IntoResponse, Request, RequestBody, Response, Result,
    http::{HeaderValue, StatusCode, header},
    web::Data,
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, Object, OpenApi,
    registry::{MetaMediaType, MetaRequest, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};

use super::{
    error::OAuthError,
    form::{self, CONTENT_TYPE},
    html,
};
use crate::{
    domain::authorization::{AuthorizationResponse, ResponseMode},
    http::{
        api::Tag,
        extract::{browser_session::Browser, client_info::ClientInfo},
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
    /// Returned as it is.
    state: Option<String>,
    /// Returned in the ID token.
    nonce: Option<String>,
    /// The SHA-256 of the code verifier in base64url (RFC 7636).
    code_challenge: Option<String>,
    /// Always `S256`.
    code_challenge_method: Option<String>,
    /// `query`, the default, or `form_post`.
    response_mode: Option<String>,
    /// `none`, or of `login`, `consent`, `select_account`, `create`.
    prompt: Option<String>,
    /// The user authenticates again if they did longer ago than this number of seconds.
    max_age: Option<String>,
    /// An e-mail address or a username, for the sign-in form.
    login_hint: Option<String>,
    /// An ID token of the user whom the client expects.
    id_token_hint: Option<String>,
    /// The required level: `aal1` or `aal2`. The lowest counts.
    acr_values: Option<String>,
    /// Languages for the pages (BCP 47), separated by spaces.
    ui_locales: Option<String>,
    /// Accepted. The claims have one language.
    claims_locales: Option<String>,
    /// A resource that the access tokens are for (RFC 8707); may be repeated.
    resource: Option<String>,
    /// The handle with which a page of Latchkey sends the browser back, without any other parameter.
    request: Option<String>,
}

/// The parameters in the query, if it is well-formed.
struct Query(Result<Parameters, OAuthError>);

/// The parameters in a form, if it is well-formed.
struct Body(Result<Parameters, OAuthError>);

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
        <AuthorizationForm as Type>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: CONTENT_TYPE, schema: AuthorizationForm::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(request: &'a Request, body: &mut RequestBody, _: ExtractParamOptions<()>) -> Result<Self> {
        Ok(Self(form::body_pairs(request, body).await?.map(Parameters)))
    }
}

/// The answer to a browser: a redirect, a page, or a form that it posts to the client.
pub(in crate::http) struct BrowserAnswer(Response);

impl BrowserAnswer {
    /// A redirect that the browser follows with GET.
    pub(super) fn redirect(to: &str) -> Self {
        let mut response = StatusCode::SEE_OTHER.into_response();
        // A URI consists of ASCII characters.
        let location = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
        response.headers_mut().insert(header::LOCATION, location);
        // The address of the page is of no concern to the client, and the code of none to the pages that it links to.
        response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Self(response)
    }

    /// A page.
    pub(super) fn page(status: StatusCode, html: String) -> Self {
        Self(html::response(status, html))
    }

    /// The response for a client.
    pub(in crate::http) fn of(response: &AuthorizationResponse) -> Self {
        match response.mode {
            ResponseMode::Query => Self::redirect(&response.to_url()),
            ResponseMode::FormPost => {
                Self::page(StatusCode::OK, html::form_post(&response.redirect_uri, &response.parameters))
            }
        }
    }
}

impl From<Response> for BrowserAnswer {
    fn from(response: Response) -> Self {
        Self(response)
    }
}

impl IntoResponse for BrowserAnswer {
    fn into_response(self) -> Response {
        self.0
    }
}

impl ApiResponse for BrowserAnswer {
    fn meta() -> MetaResponses {
        let text = |description: &'static str, status| {
            let schema = MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")));
            MetaResponse {
                description,
                status: Some(status),
                status_range: None,
                content: vec![MetaMediaType { content_type: "text/html; charset=utf-8", schema }],
                headers: vec![],
            }
        };
        let redirect = MetaResponse {
            description: "Where the browser goes: to the client, or to a page of Latchkey.",
            status: Some(303),
            status_range: None,
            content: vec![],
            headers: vec![],
        };
        MetaResponses {
            responses: vec![
                text("A page, or a form that the browser posts to the client.", 200),
                redirect,
                text("A message for the user: the request names no client, or a URI that is not the client's.", 400),
            ],
        }
    }

    fn register(_: &mut Registry) {}
}

/// The errors of the endpoints that browsers are sent to: those of the service itself.
pub(super) struct BrowserProblems;

impl Problems for BrowserProblems {
    const CODES: &'static [Code] = &[];
}

/// The errors of an authorization request that are no matter for its client.
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
        AuthorizeStep::SignIn
        | AuthorizeStep::Reauthenticate
        | AuthorizeStep::StepUp(_)
        | AuthorizeStep::Redirect(_) => "/account/sign-in",
    }
}

/// The page for a request that is not form-encoded.
pub(super) fn malformed() -> BrowserAnswer {
    let text = "The request is malformed. Go back to the app and try again.";
    BrowserAnswer::page(StatusCode::BAD_REQUEST, html::message("Malformed request", text))
}

fn answer(
    state: &AppState,
    outcome: Result<AuthorizeOutcome, AuthorizeError>,
) -> Result<BrowserAnswer, Failed<AuthorizeProblems>> {
    Ok(match outcome {
        Ok(AuthorizeOutcome::Respond(response)) => BrowserAnswer::of(&response),
        Ok(AuthorizeOutcome::Page { step, handle }) => {
            BrowserAnswer::redirect(&format!("{}{}?request={}", state.config.issuer, page_of(&step), handle.expose()))
        }
        Err(AuthorizeError::Refused(response)) => BrowserAnswer::of(&response),
        Err(AuthorizeError::Untrusted(why)) => {
            let message = format!("The sign-in can't continue: {why}. Go back to the app and try again.");
            BrowserAnswer::page(StatusCode::BAD_REQUEST, html::message("Sign-in failed", &message))
        }
        Err(AuthorizeError::TooManyApps) => {
            let message = "The account allows too many apps that are not registered. Remove one first.";
            BrowserAnswer::page(StatusCode::BAD_REQUEST, html::message("Sign-in failed", message))
        }
        Err(AuthorizeError::Service(error)) => return Err(ProblemError::from(error).into()),
    })
}

#[OpenApi(tag = "Tag::OAuth")]
impl AuthorizeApi {
    /// Authorize an app
    ///
    /// Where an app sends the browser of its user to sign in (RFC 6749, section 4.1; OpenID Connect Core 1.0). The response goes to
    /// `redirect_uri` with `code`, `state` and `iss`, or with `error`. If the user has to do something first, the browser goes to one of
    /// Latchkey's pages, which sends it back. If the client or its redirect URI can't be trusted, a page shows the error to the user.
    #[oai(path = "/oauth2/authorize", method = "get", operation_id = "authorize")]
    async fn get(
        &self,
        Data(state): Data<&Arc<AppState>>,
        browser: Browser,
        Query(parameters): Query,
    ) -> Result<BrowserAnswer, Failed<AuthorizeProblems>> {
        let Ok(parameters) = parameters else { return Ok(malformed()) };
        let outcome = authorize::authorize(state, &parameters, browser.session.as_ref(), &browser.origin).await;
        answer(state, outcome)
    }

    /// Authorize an app (form)
    ///
    /// As `GET`, with the parameters in a form. The browser continues with `GET`, since it doesn't send its cookies with forms of other
    /// sites.
    #[oai(path = "/oauth2/authorize", method = "post", operation_id = "authorize_form")]
    async fn post(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        Body(parameters): Body,
    ) -> Result<BrowserAnswer, Failed<AuthorizeProblems>> {
        let Ok(parameters) = parameters else { return Ok(malformed()) };
        match authorize::begin(state, &parameters, client.ip).await {
            Ok(handle) => {
                let to = format!("{}{PATH}?request={}", state.config.issuer, handle.expose());
                Ok(BrowserAnswer::redirect(&to))
            }
            Err(error) => answer(state, Err(error)),
        }
    }
}
