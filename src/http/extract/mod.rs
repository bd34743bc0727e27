//! Handler arguments: who may call, queries, request bodies, and the client of a request.

pub mod auth;
pub mod browser_session;
pub mod client_address;
pub mod client_auth;
pub mod client_info;
pub mod cookie_refusal;
pub mod json;
pub mod query;
