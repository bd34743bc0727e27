//! The `Err` type of handlers, which also documents the errors of an operation.

use std::marker::PhantomData;

use poem::http::StatusCode;
use poem_openapi::{
    ApiResponse,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::Type,
};

use super::{CONTENT_TYPE, Code, Problem, ProblemError};

/// The errors of one operation, in addition to [`ALWAYS`].
pub trait Problems: Send + Sync + 'static {
    /// The codes of the operation's errors.
    const CODES: &'static [Code];
}

/// The errors of every operation.
pub const ALWAYS: &[Code] = &[Code::InternalError, Code::Unavailable];

/// An error of an operation that declares its errors as `P`.
pub struct Failed<P>(ProblemError, PhantomData<P>);

impl<P: Problems> Failed<P> {
    /// An error with a detail.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self::from(ProblemError::new(code, detail))
    }

    /// Also deletes the refresh cookie if `clear` is true.
    #[must_use]
    pub fn clear_cookie_if(mut self, clear: bool) -> Self {
        self.0.clear_cookie = clear;
        self
    }
}

impl<P> Failed<P> {
    /// Converts the error to its problem.
    pub(in crate::http) fn into_problem(self) -> ProblemError {
        self.0
    }
}

impl<P: Problems, E> From<E> for Failed<P>
where
    ProblemError: From<E>,
{
    fn from(error: E) -> Self {
        let error = ProblemError::from(error);
        debug_assert!(
            P::CODES.contains(&error.code) || ALWAYS.contains(&error.code),
            "{:?} is not among the operation's documented errors",
            error.code
        );
        Self(error, PhantomData)
    }
}

impl<P> From<Failed<P>> for poem::Error {
    fn from(failed: Failed<P>) -> Self {
        failed.0.into()
    }
}

impl<P: Problems> ApiResponse for Failed<P> {
    fn meta() -> MetaResponses {
        MetaResponses { responses: responses(P::CODES) }
    }

    fn register(registry: &mut Registry) {
        <Problem as Type>::register(registry);
    }
}

/// The responses for these codes, in poem-openapi's terms. The description lists the codes, from which `openapi/complete.rs`
/// makes a sentence and examples.
pub(in crate::http) fn responses(codes: &[Code]) -> Vec<MetaResponse> {
    // An operation has one response for each status, although several codes can have the same status.
    let mut statuses: Vec<StatusCode> = codes.iter().map(|code| code.status()).collect();
    statuses.sort();
    statuses.dedup();
    // poem-openapi requires static texts. Leaking them is harmless, because the document is built once.
    let codes_with = |status| -> &'static str {
        let names = codes.iter().filter(|code| code.status() == status).map(|code| code.as_str());
        names.collect::<Vec<_>>().join(" ").leak()
    };
    let response = |status: StatusCode| MetaResponse {
        description: codes_with(status),
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
