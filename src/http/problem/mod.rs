//! Error responses: RFC 9457 problems, each with a stable code.

pub mod cause;
mod code;
mod failed;
pub mod groups;

use std::{fmt::Display, time::Duration};

use poem::{
    Response,
    error::ResponseError,
    http::{StatusCode, header},
};
use poem_openapi::{Object, types::ToJSON};

use self::cause::FailureCause;
pub use code::{Code, FieldCode};
pub(super) use failed::responses;
pub use failed::{ALWAYS, Failed, Problems};

use crate::{
    domain::limit::LimitExceeded,
    logging::with_causes,
    service::{error::ServiceError, recent_authentication::InsufficientAuthentication, sign_in::IssuedChallenge},
};

/// The media type of problems (RFC 9457, section 3).
pub const CONTENT_TYPE: &str = "application/problem+json";

/// How long a client waits before it repeats a request during which another request changed the account.
const RETRY_CONFLICT_AFTER: Duration = Duration::from_secs(1);

/// An error response, except for the request's id, which [`RequestContext`](super::middleware::request_context) adds.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .code.as_str())]
pub struct ProblemError {
    /// The kind of problem.
    pub code: Code,
    /// A description of this occurrence.
    pub detail: String,
    /// The fields that are missing or invalid.
    pub fields: Vec<FieldError>,
    /// The value of `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The value of `Allow`.
    pub allow: Option<String>,
    /// The rate limit that was reached.
    pub limit: Option<Box<LimitExceeded>>,
    /// How recent and how strong the authentication must be (RFC 9470).
    pub step_up: Option<Box<InsufficientAuthentication>>,
    /// The challenge with which a sign-in continues.
    pub challenge: Option<Box<IssuedChallenge>>,
    /// Whether to delete the refresh cookie.
    pub clear_cookie: bool,
}

impl ProblemError {
    /// An error with a detail.
    #[cold]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            fields: Vec::new(),
            retry_after: None,
            allow: None,
            limit: None,
            step_up: None,
            challenge: None,
            clear_cookie: false,
        }
    }

    /// An internal error, whose cause is in the log under the id of the request.
    pub fn internal() -> Self {
        Self::new(Code::InternalError, "The log has the cause under this request id.")
    }

    /// An internal error with this cause, which is logged and not sent to the client.
    pub(in crate::http) fn internal_because(cause: impl Into<String>) -> Self {
        cause::record(FailureCause::Internal(cause.into()));
        Self::internal()
    }

    /// A page of another site has made a call whose response would replace the cookie of a session.
    pub fn cookie_not_accepted() -> Self {
        Self::new(Code::CrossSiteRequest, "A page of another site must not replace the cookie of the session.")
    }

    /// A sign-in that continues with a second factor.
    pub fn second_factor_required(challenge: IssuedChallenge) -> Self {
        let detail = "Send the challenge with a second factor to POST /v1/login/second-factor.";
        Self { challenge: Some(Box::new(challenge)), ..Self::new(Code::SecondFactorRequired, detail) }
    }

    /// A sign-in that continues once a second factor has been set up.
    pub fn enrolment_required(challenge: IssuedChallenge) -> Self {
        let detail = "The account must have a second factor. Set one of the methods up with the challenge: \
                      POST /v1/login/enrolment/totp or POST /v1/login/enrolment/passkey/options.";
        Self { challenge: Some(Box::new(challenge)), ..Self::new(Code::FactorEnrolmentRequired, detail) }
    }

    /// An error that lists fields. Its detail names them all.
    pub fn fields(code: Code, fields: Vec<FieldError>) -> Self {
        let details: Vec<_> = fields.iter().map(|error| format!("{}: {}", error.field, error.detail)).collect();
        Self { fields, ..Self::new(code, details.join(" ")) }
    }

    /// The response body: JSON.
    pub fn body(&self, request_id: &str) -> String {
        let issued = self.challenge.as_ref();
        let problem = Problem {
            r#type: format!("urn:latchkey:problem:{}", self.code.as_str()),
            title: self.code.title().to_owned(),
            status: self.code.status().as_u16(),
            detail: self.detail.clone(),
            code: self.code.as_str().to_owned(),
            request_id: request_id.to_owned(),
            challenge: issued.map(|issued| issued.challenge.expose().to_owned()),
            methods: issued.map(|issued| issued.methods.iter().map(|method| method.as_str().to_owned()).collect()),
            expires_in: issued.map(|issued| issued.expires_in),
            remember_device_for: issued.and_then(|issued| issued.remember_for).map(|lifetime| lifetime.as_secs()),
            errors: (!self.fields.is_empty()).then(|| self.fields.clone()),
        };
        problem.to_json_string()
    }

    /// The response.
    pub fn into_response(self, request_id: &str) -> Response {
        let body = self.body(request_id);
        let status = self.code.status();
        let mut response = Response::builder().status(status).content_type(CONTENT_TYPE);
        if let Some(needed) = self.step_up {
            response = response.header(header::WWW_AUTHENTICATE, www_authenticate_for_step_up(*needed));
        } else if let Some(value) = www_authenticate(self.code) {
            response = response.header(header::WWW_AUTHENTICATE, value);
        }
        if let Some(limit) = self.limit {
            // draft-ietf-httpapi-ratelimit-headers-10: both are lists of strings with parameters (RFC 9651). q is the quota, w its
            // window in seconds, r the remaining requests (none), and t the seconds until there are more.
            let LimitExceeded { policy, quota, retry_after } = *limit;
            let count = quota.count;
            let window = whole_seconds(quota.window);
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
            response = response.header(header::SET_COOKIE, super::cookie::clear_refresh());
        }
        response.body(body)
    }
}

/// The text of an error, such as `must be …`, as a sentence.
pub(super) fn sentence(error: &impl Display) -> String {
    let text = error.to_string();
    let mut rest = text.chars();
    let first = rest.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", rest.as_str())
}

/// Seconds, rounded up, so that a client does not retry too early; at least one.
fn whole_seconds(duration: Duration) -> u128 {
    duration.as_millis().div_ceil(1000).max(1)
}

// Lets handlers return this error with `?`. `middleware/problem_mapping.rs` makes the response.
impl ResponseError for ProblemError {
    fn status(&self) -> StatusCode {
        self.code.status()
    }
}

/// The value of `WWW-Authenticate` (RFC 6750, section 3; RFC 7617). Every 401 has one.
fn www_authenticate(code: Code) -> Option<&'static str> {
    match code {
        Code::InvalidClient => Some(super::extract::client_auth::CHALLENGE),
        Code::InvalidToken => Some("Bearer realm=\"latchkey\", error=\"invalid_token\""),
        Code::ClaimsChanged => Some(
            "Bearer realm=\"latchkey\", error=\"invalid_token\", \
             error_description=\"The claims of the account have changed\", reason=\"claims_changed\"",
        ),
        _ if code.status() == StatusCode::UNAUTHORIZED => Some("Bearer realm=\"latchkey\""),
        _ => None,
    }
}

/// The value of `WWW-Authenticate` for a call that needs a more recent or a stronger authentication (RFC 9470, section 3).
fn www_authenticate_for_step_up(needed: InsufficientAuthentication) -> String {
    let mut value = "Bearer realm=\"latchkey\", error=\"insufficient_user_authentication\"".to_owned();
    if let Some(acr) = needed.acr {
        value.push_str(&format!(", acr_values=\"{}\"", acr.as_str()));
    }
    if let Some(max_age) = needed.max_age {
        value.push_str(&format!(", max_age=\"{}\"", max_age.as_secs()));
    }
    value
}

impl From<InsufficientAuthentication> for ProblemError {
    fn from(needed: InsufficientAuthentication) -> Self {
        let recent = needed.max_age.map(|max_age| format!(" within the last {} seconds", max_age.as_secs()));
        let level = needed.acr.map(|acr| format!(" with the level {}", acr.as_str()));
        let detail = format!(
            "The call needs an authentication{}{}. Authenticate again with POST /v1/me/reauthenticate, then repeat the call \
             with the new access token.",
            recent.unwrap_or_default(),
            level.unwrap_or_default()
        );
        Self { step_up: Some(Box::new(needed)), ..Self::new(Code::InsufficientUserAuthentication, detail) }
    }
}

impl From<ServiceError> for ProblemError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Unavailable { dependency, retry_after, source } => {
                cause::record(FailureCause::Dependency { name: dependency, error: with_causes(&source) });
                let public_name = if dependency == "redis" { "session store" } else { dependency };
                let detail = format!("The {public_name} is temporarily unavailable. Nothing was changed; try again.");
                Self { retry_after: Some(retry_after), ..Self::new(Code::Unavailable, detail) }
            }
            ServiceError::AccountChanged(_) => {
                cause::record(FailureCause::Conflict(error.to_string()));
                let detail = "The account changed at the same time. This request changed nothing; try again.";
                Self { retry_after: Some(RETRY_CONFLICT_AFTER), ..Self::new(Code::Unavailable, detail) }
            }
            ServiceError::Busy { retry_after } => {
                cause::record(FailureCause::Limit { setting: "password.queue", error: error.to_string() });
                let detail = "Too many passwords are waiting to be checked. Nothing was changed; try again.";
                Self { retry_after: Some(retry_after), ..Self::new(Code::Unavailable, detail) }
            }
            ServiceError::InsufficientAuthentication(needed) => needed.into(),
            ServiceError::Limited(limit) => {
                let detail = "A rate limit was reached. Nothing was changed; try again later.";
                let problem = Self::new(Code::TooManyRequests, detail);
                Self { retry_after: Some(limit.retry_after), limit: Some(Box::new(limit)), ..problem }
            }
            ServiceError::Internal(error) => Self::internal_because(with_causes(&error)),
        }
    }
}

/// An error response (RFC 9457).
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct Problem {
    /// A URI that identifies the kind of problem: `urn:latchkey:problem:` and the code.
    r#type: String,
    /// A short summary of the kind of problem.
    title: String,
    /// The HTTP status code.
    status: u16,
    /// A human-readable description of this occurrence.
    detail: String,
    /// The kind of problem. Stable; later releases may add values.
    code: String,
    /// The id of the request, as in the header `X-Request-Id` and in the service's log.
    request_id: String,
    /// With `second_factor_required` and `factor_enrolment_required`: the challenge with which the sign-in continues.
    challenge: Option<String>,
    /// With a challenge: the factors with which the sign-in can continue, such as `totp`. Later releases may add values.
    methods: Option<Vec<String>>,
    /// With a challenge: its lifetime in seconds.
    expires_in: Option<u64>,
    /// With `second_factor_required`: for how many seconds the device can skip the second factor afterwards, with
    /// `remember_device`. Absent if it can't.
    remember_device_for: Option<u64>,
    /// The fields that are missing or invalid.
    errors: Option<Vec<FieldError>>,
}

/// A field that is missing or invalid.
#[derive(Object, Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The name of the field.
    pub field: String,
    /// The kind of error. Stable; later releases may add values.
    pub code: String,
    /// A human-readable description.
    pub detail: String,
}

impl FieldError {
    /// An error of a field.
    pub fn new(field: &str, code: FieldCode, detail: impl Into<String>) -> Self {
        Self { field: field.to_owned(), code: code.as_str().to_owned(), detail: detail.into() }
    }
}
