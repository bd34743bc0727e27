//! The service over HTTP.

pub mod body;
pub mod timeout;
