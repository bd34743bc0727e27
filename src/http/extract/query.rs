//! Checks of query strings. A repeated parameter is refused, since parsers disagree about which one counts.

use poem::Request;

use crate::http::problem::{Code, ProblemError};

/// Refuses a query in which `name` occurs more than once.
pub(in crate::http) fn require_at_most_once(request: &Request, name: &str) -> Result<(), ProblemError> {
    let Some(query) = request.uri().query() else { return Ok(()) };
    let count = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name).count();
    if count <= 1 {
        return Ok(());
    }
    Err(ProblemError::new(Code::MalformedRequest, format!("Send the query parameter `{name}` at most once.")))
}

/// Refuses a query that has `name` more than once, or any other parameter.
pub(in crate::http) fn require_only(request: &Request, name: &str) -> Result<(), ProblemError> {
    let query = request.uri().query().unwrap_or_default();
    let keys: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).map(|(key, _)| key).collect();
    if keys.len() <= 1 && keys.iter().all(|key| key == name) {
        return Ok(());
    }
    Err(ProblemError::new(Code::MalformedRequest, format!("The only query parameter is `{name}`, at most once.")))
}
