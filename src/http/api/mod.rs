//! The REST API, one file per endpoint group. Handlers translate between HTTP and the use cases of `service`. In the doc comments of
//! operations, which are their descriptions in the API document, `{session.recent}` stands for the value of this setting (`http/openapi`).

pub mod account;
pub mod app_metadata;
pub mod consents;
pub mod devices;
pub mod email_login;
pub mod emails;
pub mod enrolment;
pub mod export;
pub mod factors;
pub mod health;
pub mod invitation;
pub mod keys;
pub mod login;
pub mod me;
pub mod metadata;
pub mod passkey_login;
pub mod passkey_objects;
pub mod passkeys;
pub mod reauthentication;
pub mod recovery;
pub mod revocations;
pub mod second_factor;
pub mod session;
pub mod support;
pub mod totp;
pub mod verify;

use poem_openapi::Tags;

/// The sections of the OpenAPI document.
#[derive(Tags)]
pub enum Tag {
    /// Sign in, refresh tokens, sign out.
    #[oai(rename = "Sign-in")]
    SignIn,
    /// Register, verify addresses, recover, change and delete the account.
    Account,
    /// List, add and remove the account's second factors.
    #[oai(rename = "Second factors")]
    Factors,
    /// Register and manage passkeys.
    Passkeys,
    /// List and end the account's sessions.
    Sessions,
    /// Standard endpoints for service clients and OAuth client libraries.
    OAuth,
    /// Verify access tokens for proxies, and find the endpoints.
    Services,
    /// Keys and revocations, for services that verify access tokens themselves.
    Keys,
    /// Liveness and readiness probes.
    Health,
}

impl Tag {
    /// The names of the sections in the order in which the document lists them, with `rename` applied.
    pub(super) const ORDER: [&str; 9] =
        ["Sign-in", "Account", "Second factors", "Passkeys", "Sessions", "OAuth", "Services", "Keys", "Health"];
}
