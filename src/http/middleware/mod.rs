//! The layers around every endpoint, one per file.

pub mod body;
pub mod concurrency_limit;
pub mod cors;
pub mod request_context;
pub mod timeout;
