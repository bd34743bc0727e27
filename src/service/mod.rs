//! The use cases, one per file: `async fn(&AppState, Input) -> Result<Output, Error>`.
//!
//! A use case decides. The stores act, each in one atomic step; `http` and `cli` translate.

mod account_mail;
pub mod accounts;
pub mod authenticate;
pub mod authorize;
mod background;
pub mod browser_session;
pub mod change_email;
pub mod change_password;
pub mod client_token;
pub mod clients;
mod decode_refresh_token;
pub mod delete_account;
pub mod email_login;
pub mod error;
pub mod export_account;
pub mod feed;
pub mod forgot_password;
pub mod import_accounts;
pub mod introspect;
pub mod invite_account;
pub mod keys;
pub mod limits;
pub mod login;
pub mod logout;
pub mod mail_delivery;
pub mod metrics;
mod notices;
pub mod one_time_tokens;
pub mod readiness;
pub mod recent_authentication;
pub mod refresh;
pub mod register;
pub mod request_origin;
pub mod reset_password;
pub mod revoke_token;
pub mod secure_account;
pub mod session_mark;
pub mod sessions;
pub mod set_up;
pub mod sign_in;
pub mod token_issuer;
pub mod update_account;
pub mod verify;
pub mod verify_email;
