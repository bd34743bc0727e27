//! The OAuth 2.0 and OpenID Connect endpoints. Requests are form-encoded, except the registration of an app, which is JSON.
//!
//! The endpoints that clients call, except userinfo, report errors of the OAuth request (400 and 401) as RFC 6749's JSON,
//! which OAuth client libraries parse. Other errors, such as 405, 413 and 503, are problems (RFC 9457), as everywhere else.

mod authorize;
mod browser;
mod credentials;
mod end_session;
mod error;
pub(in crate::http) mod form;
mod introspect;
mod introspection_cache;
mod register;
mod revoke;
mod token;
mod userinfo;

pub use authorize::AuthorizeApi;
pub use end_session::EndSessionApi;
pub use error::OAuthError;
pub(super) use error::{OAuthCode, SCHEMA as ERROR_SCHEMA};
pub(super) use form::CONTENT_TYPE as FORM;
pub use introspect::IntrospectApi;
pub use introspection_cache::IntrospectionCache;
pub use register::RegisterApi;
pub use revoke::RevokeApi;
pub use token::TokenApi;
pub use userinfo::UserInfoApi;

/// The paths that accept the parameters of their form also in the query of a GET request, each with the name of the form's schema.
pub(super) const QUERY_FORMS: [(&str, &str); 2] =
    [(authorize::PATH, "AuthorizationForm"), (end_session::PATH, "EndSessionForm")];
