//! The OAuth 2.0 endpoints: form-encoded requests, errors as in RFC 6749.
//!
//! Errors of the OAuth request itself (400 and 401) are RFC 6749's JSON, which OAuth client libraries parse. Errors of
//! HTTP or the service (405, 408, 413, 500, 503) are problems, as everywhere else.

mod credentials;
mod error;
pub(in crate::http) mod form;
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
