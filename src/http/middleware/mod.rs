//! The layers around every endpoint, and the limits and the request id that they use.

pub mod body;
pub mod concurrency_limit;
pub mod cors;
pub mod pending_bodies;
pub mod problem_mapping;
pub mod request_context;
pub mod request_id;
pub mod timeout;
