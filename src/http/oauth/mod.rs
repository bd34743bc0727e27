//! The endpoints of OAuth 2.0, for other services and stock clients: form-encoded in, errors as RFC 6749 has them.
//!
//! What concerns the OAuth request itself, 400 and 401, is RFC 6749's JSON, since that is where stock clients look for
//! `error`. What is about HTTP or the service (405, 408, 413, 500, 503) is a problem, as everywhere else.

mod credentials;
mod error;
mod form;
mod introspect;
mod introspection_cache;
mod revoke;
mod token;

pub use error::OAuthError;
pub(super) use error::{OAuthCode, SCHEMA};
pub(super) use form::CONTENT_TYPE as FORM;
pub use introspect::IntrospectApi;
pub use introspection_cache::IntrospectionCache;
pub use revoke::RevokeApi;
pub use token::TokenApi;
