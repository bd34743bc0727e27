//! Errors as they are told: RFC 9457 problems, each with a stable code. [`Code`] is the list of them all.

use std::{marker::PhantomData, time::Duration};

use poem::{
    Response,
    error::ResponseError,
    http::{StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::Type,
};

use crate::{domain::limit::TooMany, service::error::ServiceError};

/// The media type of problems (RFC 9457, section 3).
pub const CONTENT_TYPE: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $status:ident, $title:literal;)*) => {
        /// Every error there is. The texts are stable: programs may compare them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[doc = $doc])* $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The status that goes with it.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// What it means, in a few words that never change.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The request isn't what HTTP or JSON want it to be.
    MalformedRequest = "malformed_request", BAD_REQUEST, "The request can't be read";
    /// The call is for those who are signed in, and no access token came with it.
    AuthenticationRequired = "authentication_required", UNAUTHORIZED, "Sign in first";
    /// The identifier or the password is wrong.
    InvalidCredentials = "invalid_credentials", UNAUTHORIZED, "The identifier or the password is wrong";
    /// The access token isn't valid, or its session was ended (RFC 6750, section 3.1).
    InvalidToken = "invalid_token", UNAUTHORIZED, "The access token is not valid";
    /// The call is for service clients, and no valid credentials of one came with it (RFC 6749, section 5.2).
    InvalidClient = "invalid_client", UNAUTHORIZED, "The service client is not known or its secret is wrong";
    /// The refresh token isn't valid, or its session was ended.
    InvalidRefreshToken = "invalid_refresh_token", UNAUTHORIZED, "The refresh token is not valid";
    /// The refresh token was superseded longer ago than the grace window; its session has been ended.
    RefreshTokenReused = "refresh_token_reused", UNAUTHORIZED, "The refresh token was used before";
    /// The session lay idle for too long, or reached its end.
    SessionExpired = "session_expired", UNAUTHORIZED, "The session has expired";
    /// Only an admin may make accounts.
    RegistrationClosed = "registration_closed", FORBIDDEN, "Registration is closed";
    /// The current password that was given is not the account's.
    WrongPassword = "wrong_password", FORBIDDEN, "The current password is wrong";
    /// A page of another site tried to use the cookie.
    CrossSiteRequest = "cross_site_request", FORBIDDEN, "The request comes from another site";
    /// There is nothing at this path.
    NotFound = "not_found", NOT_FOUND, "There is nothing here";
    /// The account has no such session.
    UnknownSession = "unknown_session", NOT_FOUND, "There is no such session";
    /// The path is right and the method is not; `Allow` lists those that are.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
    /// The request's body didn't arrive in time.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, "The request took too long to arrive";
    /// Somebody has this e-mail address.
    EmailTaken = "email_taken", CONFLICT, "The e-mail address is taken";
    /// Somebody has this username.
    UsernameTaken = "username_taken", CONFLICT, "The username is taken";
    /// The request's body is larger than is accepted.
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, "The request is too large";
    /// The request's body isn't JSON, or doesn't say that it is.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The content type is not supported";
    /// The request's line or its headers are larger than is accepted.
    HeadersTooLarge = "headers_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's headers are too large";
    /// Some fields are missing or wrong; `errors` lists them.
    InvalidFields = "invalid_fields", UNPROCESSABLE_ENTITY, "Some fields are missing or wrong";
    /// The password can be guessed.
    WeakPassword = "weak_password", UNPROCESSABLE_ENTITY, "The password is too weak";
    /// It was asked for too often; try again after `Retry-After`.
    TooManyRequests = "too_many_requests", TOO_MANY_REQUESTS, "Too many requests";
    /// Something that should never happen did; the log has it under the request's id.
    InternalError = "internal_error", INTERNAL_SERVER_ERROR, "Something went wrong here";
    /// The service can't do this at the moment; try again after `Retry-After`.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "Not available at the moment";
}

/// An error on its way to the caller: everything but the request's id, which is added at the door.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .code.as_str())]
pub struct ProblemError {
    /// Which error.
    pub code: Code,
    /// What happened this time, for people.
    pub detail: String,
    /// The fields that are missing or wrong.
    pub fields: Vec<FieldError>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// The methods allowed, with 405.
    pub allow: Option<String>,
    /// Which limit was reached, with 429.
    pub limit: Option<Box<TooMany>>,
    /// Whether the refresh cookie is of no more use and should be forgotten.
    pub clear_cookie: bool,
}

impl ProblemError {
    /// An error with nothing more to say than `detail`.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            fields: Vec::new(),
            retry_after: None,
            allow: None,
            limit: None,
            clear_cookie: false,
        }
    }

    /// One that lists fields.
    pub fn fields(code: Code, fields: Vec<FieldError>) -> Self {
        let detail = fields.iter().map(|error| error.detail.as_str()).collect::<Vec<_>>().join("; ");
        Self { fields, ..Self::new(code, detail) }
    }

    /// The answer's body: JSON.
    pub fn body(&self, request_id: &str) -> String {
        let problem = Problem {
            r#type: format!("urn:latchkey:problem:{}", self.code.as_str()),
            title: self.code.title().to_owned(),
            status: self.code.status().as_u16(),
            detail: self.detail.clone(),
            code: self.code.as_str().to_owned(),
            request_id: request_id.to_owned(),
            errors: (!self.fields.is_empty()).then(|| self.fields.clone()),
        };
        poem_openapi::types::ToJSON::to_json_string(&problem)
    }

    /// The answer.
    pub fn into_response(self, request_id: &str) -> Response {
        let body = self.body(request_id);
        let status = self.code.status();
        let mut response = Response::builder().status(status).content_type(CONTENT_TYPE);
        if let Some(challenge) = challenge(self.code) {
            response = response.header(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(limit) = self.limit {
            // draft-ietf-httpapi-ratelimit-headers-10: both are lists of strings with parameters (RFC 9651)
            let TooMany { policy, quota, retry_after } = *limit;
            let (count, window) = (quota.count, whole_seconds(quota.window));
            response = response
                .header("RateLimit-Policy", format!("\"{policy}\";q={count};w={window}"))
                .header("RateLimit", format!("\"{policy}\";r=0;t={}", whole_seconds(retry_after)));
        }
        if let Some(after) = self.retry_after {
            response = response.header(header::RETRY_AFTER, whole_seconds(after).to_string());
        }
        if let Some(allow) = self.allow {
            response = response.header(header::ALLOW, allow);
        }
        if self.clear_cookie {
            response = response.header(header::SET_COOKIE, super::cookie::clear());
        }
        response.body(body)
    }
}

/// Seconds, rounded up; at least one.
fn whole_seconds(duration: Duration) -> u128 {
    duration.as_millis().div_ceil(1000).max(1)
}

impl ResponseError for ProblemError {
    fn status(&self) -> StatusCode {
        self.code.status()
    }
}

/// What `WWW-Authenticate` says (RFC 6750, section 3; RFC 7617): every 401 has one.
fn challenge(code: Code) -> Option<&'static str> {
    match code {
        Code::InvalidClient => Some(super::extract::client_auth::CHALLENGE),
        Code::InvalidToken => Some("Bearer realm=\"latchkey\", error=\"invalid_token\""),
        _ if code.status() == StatusCode::UNAUTHORIZED => Some("Bearer realm=\"latchkey\""),
        _ => None,
    }
}

impl From<ServiceError> for ProblemError {
    fn from(failure: ServiceError) -> Self {
        match failure {
            ServiceError::Unavailable { what, retry_after, source } => {
                tracing::warn!(what, error = format!("{source:#}"), "not available");
                let detail = format!("The {what} is not available at the moment. Nothing is lost; try again.");
                let detail = detail.replace("The redis", "The session store");
                Self { retry_after: Some(retry_after), ..Self::new(Code::Unavailable, detail) }
            }
            ServiceError::Busy { retry_after } => {
                let detail = "Password hashing is not available at the moment. Nothing is lost; try again.";
                Self { retry_after: Some(retry_after), ..Self::new(Code::Unavailable, detail) }
            }
            ServiceError::Limited(limit) => {
                let detail = "This was asked for too often. Nothing was done; try again later.";
                let problem = Self::new(Code::TooManyRequests, detail);
                Self { retry_after: Some(limit.retry_after), limit: Some(Box::new(limit)), ..problem }
            }
            ServiceError::Internal(error) => {
                tracing::error!(error = format!("{error:#}"), "internal error");
                Self::new(Code::InternalError, "The log has more, under this request's id.")
            }
        }
    }
}

/// An error (RFC 9457).
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct Problem {
    /// A URI that names the kind of error: `urn:latchkey:problem:` and the code.
    r#type: String,
    /// What this kind of error means, in a few words that never change.
    title: String,
    /// The status, again.
    status: u16,
    /// What happened this time.
    detail: String,
    /// The kind of error, for programs. Stable.
    code: String,
    /// The id of the request, as in the header `X-Request-Id` and in the service's log.
    request_id: String,
    /// The fields that are missing or wrong, if that is the error.
    errors: Option<Vec<FieldError>>,
}

/// A field that is missing or wrong.
#[derive(Object, Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Its name.
    pub field: String,
    /// What is wrong, for programs. Stable.
    pub code: String,
    /// What is wrong, for people.
    pub detail: String,
}

impl FieldError {
    /// One such error.
    pub fn new(field: &str, code: &str, detail: impl Into<String>) -> Self {
        Self { field: field.to_owned(), code: code.to_owned(), detail: detail.into() }
    }
}

/// The errors that one operation can answer with, beside those that every operation can.
pub trait Problems: Send + Sync + 'static {
    /// Their codes.
    const CODES: &'static [Code];
}

/// An error of an operation that declares its errors as `P`: the `Err` type of handlers, and so their documentation.
pub struct Failed<P>(ProblemError, PhantomData<P>);

impl<P: Problems> Failed<P> {
    /// An error with nothing more to say than `detail`.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self::from(ProblemError::new(code, detail))
    }

    /// The same, and the refresh cookie is of no more use.
    #[must_use]
    pub fn clearing_cookie(mut self, clear: bool) -> Self {
        self.0.clear_cookie = clear;
        self
    }
}

impl<P: Problems> From<ProblemError> for Failed<P> {
    fn from(error: ProblemError) -> Self {
        debug_assert!(
            P::CODES.contains(&error.code) || ALWAYS.contains(&error.code),
            "{:?} is not among the operation's documented errors",
            error.code
        );
        Self(error, PhantomData)
    }
}

impl<P: Problems> From<ServiceError> for Failed<P> {
    fn from(failure: ServiceError) -> Self {
        Self::from(ProblemError::from(failure))
    }
}

impl<P> From<Failed<P>> for poem::Error {
    fn from(failed: Failed<P>) -> Self {
        failed.0.into()
    }
}

/// What every operation can answer with.
pub const ALWAYS: &[Code] = &[Code::InternalError, Code::Unavailable];

impl<P: Problems> ApiResponse for Failed<P> {
    fn meta() -> MetaResponses {
        MetaResponses { responses: responses(P::CODES) }
    }

    fn register(registry: &mut Registry) {
        <Problem as Type>::register(registry);
    }
}

/// As the document's source has them: the codes where the description goes.
pub(super) fn responses(codes: &[Code]) -> Vec<MetaResponse> {
    let mut statuses: Vec<StatusCode> = codes.iter().map(|code| code.status()).collect();
    statuses.sort();
    statuses.dedup();
    // `openapi.rs` makes a sentence of the codes; the text lives as long as the document
    let list = |status| -> &'static str {
        let of_status = codes.iter().filter(|code| code.status() == status).map(|code| code.as_str());
        of_status.collect::<Vec<_>>().join(" ").leak()
    };
    let response = |status: StatusCode| MetaResponse {
        description: list(status),
        status: Some(status.as_u16()),
        status_range: None,
        content: vec![MetaMediaType {
            content_type: CONTENT_TYPE,
            schema: MetaSchemaRef::Reference(Problem::name().into_owned()),
        }],
        headers: vec![],
    };
    statuses.into_iter().map(response).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        let mut texts: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
    }
}
