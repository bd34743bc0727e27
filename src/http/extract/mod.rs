//! Handler arguments: who may call, request bodies, and the client of a request.

pub mod auth;
pub mod client_address;
pub mod client_auth;
pub mod client_info;
pub mod json;
