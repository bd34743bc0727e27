//! Handler arguments: who may call, request bodies, and where a request comes from.

pub mod auth;
pub mod client_auth;
pub mod client_info;
pub mod json;
