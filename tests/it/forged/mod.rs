//! Endpoints that accept tokens refuse forged tokens of every publicly known kind.

mod endpoints;
pub mod tokens;
