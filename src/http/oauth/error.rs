//! Error responses of OAuth 2.0 (RFC 6749, section 5.2): `error`, a stable code, and `error_description`.

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

/// The name of the schema in the OpenAPI document.
pub(in crate::http) const SCHEMA: &str = "OAuthError";

/// The error codes (RFC 6749, section 5.2; RFC 7009, section 2.2.1; RFC 7591, section 3.2.2; RFC 8707, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum OAuthCode {
    /// A parameter is missing, repeated or malformed.
    InvalidRequest,
    /// The client is unknown or disabled, or its credentials are wrong.
    InvalidClient,
    /// The code or the refresh token is not valid, or was issued to another client.
    InvalidGrant,
    /// The client is not authorized for this request.
    UnauthorizedClient,
    /// The grant type is not supported.
    UnsupportedGrantType,
    /// The scope is invalid or exceeds what was granted.
    InvalidScope,
    /// A resource is malformed, or was not granted (RFC 8707, section 2).
    InvalidTarget,
    /// Tokens of this type can't be revoked.
    UnsupportedTokenType,
    /// The redirect URIs of an app that registers itself are refused (RFC 7591, section 3.2.2).
    InvalidRedirectUri,
    /// The metadata of an app that registers itself is refused (RFC 7591, section 3.2.2).
    InvalidClientMetadata,
}

impl OAuthCode {
    pub(in crate::http) const ALL: [Self; 10] = [
        Self::InvalidRequest,
        Self::InvalidClient,
        Self::InvalidGrant,
        Self::UnauthorizedClient,
        Self::UnsupportedGrantType,
        Self::InvalidScope,
        Self::InvalidTarget,
        Self::UnsupportedTokenType,
        Self::InvalidRedirectUri,
        Self::InvalidClientMetadata,
    ];

    pub(in crate::http) const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::UnsupportedTokenType => "unsupported_token_type",
            Self::InvalidRedirectUri => "invalid_redirect_uri",
            Self::InvalidClientMetadata => "invalid_client_metadata",
        }
    }

    pub(in crate::http) const fn status(self) -> StatusCode {
        match self {
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// A short summary.
    pub(in crate::http) const fn title(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The request is malformed",
            Self::InvalidClient => "Client authentication failed",
            Self::InvalidGrant => "The code or the refresh token is not valid",
            Self::UnauthorizedClient => "The client is not authorized for this request",
            Self::UnsupportedGrantType => "The grant type is not supported",
            Self::InvalidScope => "The scope is invalid or exceeds what was granted",
            Self::InvalidTarget => "The resource is malformed or was not granted",
            Self::UnsupportedTokenType => "Tokens of this type can't be revoked",
            Self::InvalidRedirectUri => "A redirect URI is refused",
            Self::InvalidClientMetadata => "The metadata is refused",
        }
    }
}

/// An error response. A handler returns it as an error, and the middleware `request_context` calls [`OAuthError::into_response`].
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

    /// The HTTP response.
    pub fn into_response(self) -> Response {
        let status = self.code.status();
        let body =
            OAuthErrorBody { error: self.code.as_str().to_owned(), error_description: self.description.to_owned() };
        let mut response =
            Response::builder().status(status).content_type("application/json").body(body.to_json_string());
        let headers = response.headers_mut();
        // RFC 6749, section 5.1. The request context adds `Cache-Control: no-store`.
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        if status == StatusCode::UNAUTHORIZED {
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
    /// The kind of error. Stable; later releases may add values.
    error: String,
    /// A human-readable description.
    error_description: String,
}

/// The errors of one endpoint.
pub(super) trait OAuthErrors: Send + Sync + 'static {
    /// The codes of the endpoint's errors.
    const CODES: &'static [OAuthCode];
    /// The endpoint's own problems (RFC 9457), in addition to those of every endpoint.
    const PROBLEMS: &'static [Code] = &[];
}

/// The `Err` type of handlers, which also documents the errors of an operation: an OAuth error or a problem
/// (RFC 9457). `E` lists the endpoint's errors.
pub(super) struct OAuthFailed<E>(poem::Error, PhantomData<E>);

impl<E: OAuthErrors> OAuthFailed<E> {
    /// A problem of the endpoint's own.
    pub(super) fn problem(problem: ProblemError) -> Self {
        debug_assert!(E::PROBLEMS.contains(&problem.code), "a problem is not among the endpoint's documented ones");
        Self(problem.into(), PhantomData)
    }
}

impl<E: OAuthErrors> From<OAuthError> for OAuthFailed<E> {
    fn from(error: OAuthError) -> Self {
        debug_assert!(E::CODES.contains(&error.code), "{error} is not among the endpoint's documented errors");
        Self(error.into(), PhantomData)
    }
}

impl<E: OAuthErrors> From<ServiceError> for OAuthFailed<E> {
    fn from(error: ServiceError) -> Self {
        Self(ProblemError::from(error).into(), PhantomData)
    }
}

impl<E: OAuthErrors> From<AuthenticateClientError> for OAuthFailed<E> {
    fn from(error: AuthenticateClientError) -> Self {
        match error {
            AuthenticateClientError::Invalid => {
                OAuthError::invalid_client("The client is unknown or disabled, or its credentials are wrong.").into()
            }
            AuthenticateClientError::Service(error) => error.into(),
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
        let mut responses = Vec::new();
        for status in [StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED] {
            let with_status = E::CODES.iter().filter(|code| code.status() == status);
            let codes: Vec<_> = with_status.map(|code| code.as_str()).collect();
            if codes.is_empty() {
                continue;
            }
            let schema = MetaSchemaRef::Reference(OAuthErrorBody::name().into_owned());
            responses.push(MetaResponse {
                // `openapi/complete.rs` replaces the codes with sentences and examples. Leaking the text, which poem-openapi
                // requires to be static, is harmless: the document is built once.
                description: codes.join(" ").leak(),
                status: Some(status.as_u16()),
                status_range: None,
                content: vec![MetaMediaType { content_type: "application/json", schema }],
                headers: vec![],
            });
        }
        responses.extend(problem::responses(E::PROBLEMS));
        responses.extend(problem::responses(&[Code::TooManyRequests]));
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        <OAuthErrorBody as Type>::register(registry);
    }
}
