//! Errors as RFC 6749, section 5.2, has them: `error`, a stable code, and `error_description`, for people.

use std::marker::PhantomData;

use poem::{
    Response,
    error::ResponseError,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::{ToJSON, Type},
};

use crate::{
    http::{
        extract::client_auth::CHALLENGE,
        problem::{self, Code, ProblemError},
    },
    service::{clients::AuthenticateClientError, error::ServiceError},
};

/// The name of the errors in the API document.
pub(in crate::http) const SCHEMA: &str = "OAuthError";

/// What can be wrong (RFC 6749, section 5.2; RFC 7009, section 2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum OAuthCode {
    /// Something is missing, repeated, or can't be read.
    InvalidRequest,
    /// The client isn't known, is disabled, or its credentials are wrong.
    InvalidClient,
    /// The refresh token isn't valid, or belongs to somebody else.
    InvalidGrant,
    /// The client may not do this.
    UnauthorizedClient,
    /// The grant type isn't one of this service's.
    UnsupportedGrantType,
    /// The client may not have this scope.
    InvalidScope,
    /// Tokens of this kind can't be revoked.
    UnsupportedTokenType,
}

impl OAuthCode {
    pub(in crate::http) const ALL: [Self; 7] = [
        Self::InvalidRequest,
        Self::InvalidClient,
        Self::InvalidGrant,
        Self::UnauthorizedClient,
        Self::UnsupportedGrantType,
        Self::InvalidScope,
        Self::UnsupportedTokenType,
    ];

    pub(in crate::http) const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::UnsupportedTokenType => "unsupported_token_type",
        }
    }

    pub(in crate::http) const fn status(self) -> StatusCode {
        match self {
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// What it means, in a few words, for the API document.
    pub(in crate::http) const fn title(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The request can't be read",
            Self::InvalidClient => "The client is not known or its credentials are wrong",
            Self::InvalidGrant => "The refresh token is not valid",
            Self::UnauthorizedClient => "The client may not do this",
            Self::UnsupportedGrantType => "There is no such grant type here",
            Self::InvalidScope => "The client may not have this scope",
            Self::UnsupportedTokenType => "Tokens of this kind can't be revoked",
        }
    }
}

/// An error on its way to the caller.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .code.as_str())]
pub struct OAuthError {
    code: OAuthCode,
    description: &'static str,
}

impl OAuthError {
    pub(super) const fn new(code: OAuthCode, description: &'static str) -> Self {
        Self { code, description }
    }

    pub(super) const fn invalid_request(description: &'static str) -> Self {
        Self::new(OAuthCode::InvalidRequest, description)
    }

    pub(super) const fn invalid_client(description: &'static str) -> Self {
        Self::new(OAuthCode::InvalidClient, description)
    }

    /// The answer.
    pub fn into_response(self) -> Response {
        let body =
            OAuthErrorBody { error: self.code.as_str().to_owned(), error_description: self.description.to_owned() };
        let mut response =
            Response::builder().status(self.code.status()).content_type("application/json").body(body.to_json_string());
        let headers = response.headers_mut();
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        if self.code.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        response
    }
}

impl ResponseError for OAuthError {
    fn status(&self) -> StatusCode {
        self.code.status()
    }
}

/// An error of OAuth 2.0 (RFC 6749, section 5.2).
#[derive(Object)]
#[oai(rename = "OAuthError")]
struct OAuthErrorBody {
    /// The kind of error, for programs. Stable.
    error: String,
    /// What is wrong, for people.
    error_description: String,
}

/// The errors that one endpoint can answer with.
pub(super) trait OAuthErrors: Send + Sync + 'static {
    const CODES: &'static [OAuthCode];
    /// Whether there is a limit to how often it may be called.
    const LIMITED: bool = true;
}

/// The `Err` type of handlers, and so their documentation: an error of OAuth 2.0, or a problem where the request isn't at
/// fault.
pub(super) struct OAuthFailed<E>(poem::Error, PhantomData<E>);

impl<E: OAuthErrors> From<OAuthError> for OAuthFailed<E> {
    fn from(error: OAuthError) -> Self {
        debug_assert!(E::CODES.contains(&error.code), "{error} is not among the endpoint's documented errors");
        Self(error.into(), PhantomData)
    }
}

impl<E: OAuthErrors> From<ServiceError> for OAuthFailed<E> {
    fn from(failure: ServiceError) -> Self {
        Self(ProblemError::from(failure).into(), PhantomData)
    }
}

impl<E: OAuthErrors> From<AuthenticateClientError> for OAuthFailed<E> {
    fn from(error: AuthenticateClientError) -> Self {
        match error {
            AuthenticateClientError::Invalid => {
                OAuthError::invalid_client("There is no such client, it is disabled, or its credentials are wrong.")
                    .into()
            }
            AuthenticateClientError::Service(failure) => failure.into(),
        }
    }
}

impl<E> From<OAuthFailed<E>> for poem::Error {
    fn from(failed: OAuthFailed<E>) -> Self {
        failed.0
    }
}

impl<E: OAuthErrors> ApiResponse for OAuthFailed<E> {
    fn meta() -> MetaResponses {
        // `openapi.rs` makes sentences and examples of the codes
        let response = |status: StatusCode| {
            let of_status = E::CODES.iter().filter(|code| code.status() == status).map(|code| code.as_str());
            let codes: Vec<_> = of_status.collect();
            let schema = MetaSchemaRef::Reference(OAuthErrorBody::name().into_owned());
            (!codes.is_empty()).then(|| MetaResponse {
                description: codes.join(" ").leak(),
                status: Some(status.as_u16()),
                status_range: None,
                content: vec![MetaMediaType { content_type: "application/json", schema }],
                headers: vec![],
            })
        };
        let responses = [StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED].into_iter().filter_map(response);
        let mut responses: Vec<_> = responses.collect();
        if E::LIMITED {
            responses.extend(problem::responses(&[Code::TooManyRequests]));
        }
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        <OAuthErrorBody as Type>::register(registry);
    }
}
