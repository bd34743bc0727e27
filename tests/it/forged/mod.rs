//! Forged tokens of every published kind are refused by every endpoint that accepts a token.

mod endpoints;
pub mod tokens;
