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
const RETRY_EVICTED: Duration = Duration::from_secs(1);

/// The problem of an error in a request for `path`.
pub(super) fn problem(error: poem::Error, paths: &Paths, serves_docs: bool, path: &str) -> ProblemError {
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
    ProblemError::internal()
}

/// The cause of an error of the framework that [`problem`] maps to an internal error. Errors of handlers have recorded their causes.
pub(super) fn unrecorded_cause(error: &poem::Error) -> Option<FailureCause> {
    let is_known =
        error.is::<ProblemError>() || error.is::<OAuthError>() || error.is::<BodyError>() || error.is::<TimedOut>();
    (!is_known && error.status().is_server_error()).then(|| FailureCause::Internal(error.to_string()))
}

/// The first code with this status.
fn code_of(status: StatusCode) -> Code {
    Code::ALL.iter().copied().find(|code| code.status() == status).unwrap_or(Code::MalformedRequest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_error_of_the_framework_has_its_text_as_cause_and_other_errors_have_none() {
        let broken = poem::Error::from_string("broken", StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(unrecorded_cause(&broken), Some(FailureCause::Internal("broken".to_owned())));
        let others: [poem::Error; 3] = [NotFoundError.into(), ProblemError::internal().into(), TimedOut.into()];
        for error in others {
            assert_eq!(unrecorded_cause(&error), None, "{error}");
        }
    }
}
