//! Maps every error, the framework's own included, to a problem (RFC 9457).

use std::time::Duration;

use poem::{
    error::{MethodNotAllowedError, NotFoundError, ResponseError},
    http::StatusCode,
};
use poem_openapi::error::ParsePathError;

use super::{body::BodyError, timeout::TimedOut};
use crate::http::{
    oauth::OAuthError,
    paths::Paths,
    problem::{Code, ProblemError, cause::FailureCause, sentence},
};

/// The `Retry-After` of a request whose body was evicted to make room for newer bodies.
const RETRY_AFTER_EVICTION: Duration = Duration::from_secs(1);

/// The problem that a request for `path` gets if it fails with this error. `serves_docs` says whether the node serves `/docs`.
pub(super) fn problem_of(error: poem::Error, paths: &Paths, serves_docs: bool, path: &str) -> ProblemError {
    if let Some(problem) = error.downcast_ref::<ProblemError>() {
        return problem.clone();
    }
    if let Some(body_error) = error.downcast_ref::<BodyError>() {
        let retry_after = matches!(body_error, BodyError::Evicted(_)).then_some(RETRY_AFTER_EVICTION);
        return ProblemError { retry_after, ..ProblemError::new(code_of(body_error.status()), sentence(body_error)) };
    }
    if let Some(timed_out) = error.downcast_ref::<TimedOut>() {
        let retry_after = Some(Duration::from_secs(TimedOut::RETRY_AFTER_SECONDS.into()));
        return ProblemError { retry_after, ..ProblemError::new(Code::Unavailable, sentence(timed_out)) };
    }
    if error.is::<NotFoundError>() {
        let hint = if serves_docs { " The API documentation is at /docs." } else { "" };
        return ProblemError::new(Code::NotFound, format!("No such endpoint.{hint}"));
    }
    if error.is::<MethodNotAllowedError>() {
        let methods = paths.methods(path);
        let allow = (!methods.is_empty()).then_some(methods);
        let detail = "The `Allow` header lists the methods of this path.";
        return ProblemError { allow, ..ProblemError::new(Code::MethodNotAllowed, detail) };
    }
    if error.is::<ParsePathError>() {
        return ProblemError::new(Code::MalformedRequest, "A path parameter is not of the documented type.");
    }
    let status = error.status();
    if status.is_client_error() {
        // Only the framework's own errors, about parameters, are left. Their texts reveal no secrets, so a client may see them.
        return ProblemError::new(code_of(status), sentence(&error));
    }
    ProblemError::internal()
}

/// The cause to log for a server error of the framework, which [`problem_of`] maps to an internal error. `None` for all other errors: their
/// causes are recorded where they arise, or they are errors of the client.
pub(super) fn unrecorded_cause(error: &poem::Error) -> Option<FailureCause> {
    let is_own =
        error.is::<ProblemError>() || error.is::<OAuthError>() || error.is::<BodyError>() || error.is::<TimedOut>();
    (!is_own && error.status().is_server_error()).then(|| FailureCause::Internal(error.to_string()))
}

/// The general code of a status. Other codes name a cause that an error of the framework does not have, such as an e-mail address that
/// is taken: a client error whose status has no general code is a malformed request.
fn code_of(status: StatusCode) -> Code {
    match status {
        StatusCode::UNAUTHORIZED => Code::AuthenticationRequired,
        StatusCode::FORBIDDEN => Code::Forbidden,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::REQUEST_TIMEOUT => Code::RequestTimeout,
        StatusCode::PAYLOAD_TOO_LARGE => Code::PayloadTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
        StatusCode::UNPROCESSABLE_ENTITY => Code::InvalidFields,
        StatusCode::TOO_MANY_REQUESTS => Code::TooManyRequests,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Code::HeadersTooLarge,
        _ => Code::MalformedRequest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_of_a_framework_error_has_its_general_code() {
        for (status, code) in [
            (400, Code::MalformedRequest),
            (401, Code::AuthenticationRequired),
            (403, Code::Forbidden),
            (404, Code::NotFound),
            (405, Code::MethodNotAllowed),
            (408, Code::RequestTimeout),
            (413, Code::PayloadTooLarge),
            (415, Code::UnsupportedMediaType),
            (422, Code::InvalidFields),
            (429, Code::TooManyRequests),
            (431, Code::HeadersTooLarge),
            // the codes with this status are special
            (409, Code::MalformedRequest),
            // no code has this status
            (418, Code::MalformedRequest),
        ] {
            assert_eq!(code_of(StatusCode::from_u16(status).unwrap()), code, "{status}");
        }
    }

    #[test]
    fn server_error_of_the_framework_has_its_text_as_cause_and_other_errors_have_none() {
        let broken = poem::Error::from_string("broken", StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(unrecorded_cause(&broken), Some(FailureCause::Internal("broken".to_owned())));
        // an error of the client, and two errors whose causes are recorded where they arise
        let others: [poem::Error; 3] = [NotFoundError.into(), ProblemError::internal().into(), TimedOut.into()];
        for error in others {
            assert_eq!(unrecorded_cause(&error), None, "{error}");
        }
    }
}
