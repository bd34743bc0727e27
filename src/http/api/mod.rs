//! The REST API, one file per noun. Handlers translate; flows decide.

pub mod account;
pub mod health;
pub mod keys;
pub mod login;
pub mod metadata;
pub mod revocations;
pub mod session;
pub mod verify;

use poem_openapi::Tags;

/// What belongs together in the documents.
#[derive(Tags)]
pub enum Tag {
    /// Sign in, stay signed in, sign out.
    #[oai(rename = "Signing in")]
    SigningIn,
    /// Register, read the account, change the password.
    Account,
    /// See the account's sessions and end them.
    Sessions,
    /// For services that check access tokens.
    Keys,
    /// For proxies and services that have access tokens checked.
    Services,
    /// Standard endpoints, for other services and stock OAuth clients.
    OAuth,
    /// For those who run the service.
    Health,
}
