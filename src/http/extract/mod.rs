//! Handler arguments: authentication, queries, request bodies, and facts about the client of a request.

pub mod auth;
pub mod browser_session;
pub mod client_address;
pub mod client_auth;
pub mod client_info;
pub mod cookie_refusal;
pub mod json;
pub mod query;

use std::sync::Arc;

use poem::Request;

use super::problem::ProblemError;
use crate::state::AppState;

/// The state of the node that answers a request. The server adds it to every request.
pub(super) fn state(request: &Request) -> Result<&Arc<AppState>, ProblemError> {
    request.data().ok_or_else(|| ProblemError::internal_because("the request has no application state"))
}
