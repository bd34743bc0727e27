//! Requests that an app sends through its user's browser: the parameters, in a query or in a form, and the responses.
//! [`crate::http::pages`] renders the pages.
//!
//! A page's Content-Security-Policy must not limit `form-action` to this service: browsers apply it to the redirects that follow a
//! submission, and the last one leads to the client.

use std::marker::PhantomData;

use poem::{
    IntoResponse, Request, RequestBody, Response, Result,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions,
    registry::{MetaMediaType, MetaRequest, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};

use super::{
    error::OAuthError,
    form::{self, CONTENT_TYPE},
};
use crate::{
    domain::authorization::{AuthorizationResponse, ResponseMode},
    http::{
        pages::{self, Failure, Visit},
        problem::{Code, ProblemError, Problems},
    },
};

/// Parameters in order. Names may be repeated.
pub(super) type Pairs = Vec<(String, String)>;

/// The parameters in the query, or the error of a malformed query.
pub(super) struct Query(pub(super) Result<Pairs, OAuthError>);

/// The parameters in a form, or the error of a malformed form. `T` describes them in the OpenAPI document.
pub(super) struct Body<T> {
    pub(super) parameters: Result<Pairs, OAuthError>,
    schema: PhantomData<T>,
}

impl<'a> poem::FromRequest<'a> for Query {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(Self(form::parse_pairs(request.uri().query().unwrap_or_default())))
    }
}

impl<'a, T: Type> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: CONTENT_TYPE, schema: T::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(request: &'a Request, body: &mut RequestBody, _: ExtractParamOptions<()>) -> Result<Self> {
        Ok(Self { parameters: form::body_pairs(request, body).await?, schema: PhantomData })
    }
}

/// The answer to a browser: a redirect, a page, or a form that it posts to the client.
pub(super) struct BrowserAnswer(Response);

impl BrowserAnswer {
    /// A redirect that the browser follows with GET.
    pub(super) fn redirect(to: &str) -> Self {
        let mut response = StatusCode::SEE_OTHER.into_response();
        // `to` is a URI, which has only ASCII characters, so the fallback is never used
        let location = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
        response.headers_mut().insert(header::LOCATION, location);
        // A referrer would reveal the page's URL to the client, and the authorization code to the pages that the client links to.
        response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Self(response)
    }

    /// A rendered page.
    ///
    /// # Errors
    /// The problem of a page that can't be rendered.
    pub(super) fn page(rendered: Result<Response>) -> Result<Self, ProblemError> {
        rendered.map(Self).map_err(|error| {
            let other = |error| ProblemError::internal_because(format!("a page can't be rendered: {error}"));
            error.downcast::<ProblemError>().unwrap_or_else(other)
        })
    }

    /// The answer that takes an authorization response to the client.
    ///
    /// # Errors
    /// See [`BrowserAnswer::page`].
    pub(super) fn authorization(visit: &Visit, response: &AuthorizationResponse) -> Result<Self, ProblemError> {
        match response.mode {
            ResponseMode::Query => Ok(Self::redirect(&response.to_url())),
            ResponseMode::FormPost => Self::page(pages::form_post(visit, response)),
        }
    }

    /// An error page for the user, where a redirect to the client is not possible or not safe. `failure` and `code` select the text for
    /// the user. `detail` is the reason for developers.
    ///
    /// # Errors
    /// See [`BrowserAnswer::page`].
    pub(super) fn failure(
        visit: &Visit,
        failure: Failure,
        code: &'static str,
        detail: Option<String>,
    ) -> Result<Self, ProblemError> {
        Self::page(pages::failure_page(visit, failure, code, detail))
    }

    /// The same page as [`BrowserAnswer::failure`], for a code whose text needs no detail.
    ///
    /// # Errors
    /// See [`BrowserAnswer::page`].
    pub(super) fn failure_without_detail(
        visit: &Visit,
        failure: Failure,
        code: &'static str,
    ) -> Result<Self, ProblemError> {
        Self::failure(visit, failure, code, None)
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
        let html = |description: &'static str, status| {
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
                html("A page, or a form that the browser posts to the client.", 200),
                redirect,
                html("A message for the user: the request is malformed, or its client or URI can't be trusted.", 400),
            ],
        }
    }

    fn register(_: &mut Registry) {}
}

/// The errors of the endpoints for browsers: only the errors that every operation can have.
pub(super) struct BrowserProblems;

impl Problems for BrowserProblems {
    const CODES: &'static [Code] = &[];
}
