//! Forged tokens of every known kind, refused in every place where a token is taken.

mod places;
pub mod tokens;
