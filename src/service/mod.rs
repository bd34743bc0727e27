//! The use cases, one per file: `async fn(&AppState, Input) -> Result<Output, Error>`.
//!
//! A use case decides. The stores act, each in one atomic step; `http` and `cli` translate.

pub mod accounts;
pub mod authenticate;
pub mod change_password;
pub mod client_token;
pub mod clients;
mod decode_refresh_token;
pub mod error;
pub mod feed;
pub mod import_accounts;
pub mod introspect;
pub mod keys;
pub mod limits;
pub mod login;
pub mod logout;
pub mod mail_delivery;
pub mod metrics;
pub mod readiness;
pub mod refresh;
pub mod register;
pub mod revoke_token;
pub mod sessions;
pub mod token_issuer;
pub mod verify;
