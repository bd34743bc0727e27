//! Maps every error, the framework's own included, to a problem (RFC 9457).

use std::time::Duration;

use poem::{
    error::{MethodNotAllowedError, NotFoundError, ResponseError},
    http::StatusCode,
};
use poem_openapi::error::ParsePathError;

use super::{body::BodyError, timeout::TimedOut};
use crate::http::{
    paths::Paths,
    problem::{Code, ProblemError, sentence},
};

/// The `Retry-After` of a request whose body was evicted to make room for newer bodies.
const RETRY_EVICTED: Duration = Duration::from_secs(1);

/// The problem of an error in a request for `path` with this id.
pub(super) fn problem(error: poem::Error, paths: &Paths, serves_docs: bool, path: &str, id: &str) -> ProblemError {
    if let Some(problem) = error.downcast_ref::<ProblemError>() {
        return problem.clone();
    }
    if let Some(body) = error.downcast_ref::<BodyError>() {
        let retry_after = matches!(body, BodyError::Evicted(_)).then_some(RETRY_EVICTED);
        return ProblemError { retry_after, ..ProblemError::new(code_of(body.status()), sentence(body)) };
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
        let allow = Some(paths.methods(path)).filter(|methods| !methods.is_empty());
        let detail = "The `Allow` header lists the methods of this path.";
        return ProblemError { allow, ..ProblemError::new(Code::MethodNotAllowed, detail) };
    }
    if error.is::<ParsePathError>() {
        return ProblemError::new(Code::MalformedRequest, "A path parameter is not of the documented type.");
    }
    let status = error.status();
    if status.is_client_error() {
        // the text may be shown: the framework's own errors are about parameters, which hold no secrets
        return ProblemError::new(code_of(status), sentence(&error));
    }
    tracing::error!(request_id = id, %error, "internal error");
    ProblemError::internal()
}

/// The first code with this status.
fn code_of(status: StatusCode) -> Code {
    Code::ALL.iter().copied().find(|code| code.status() == status).unwrap_or(Code::MalformedRequest)
}
