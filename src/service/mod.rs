//! The use cases, one per file: `async fn(&AppState, Input) -> Result<Output, Error>`.
//!
//! A use case makes the decisions. It calls the stores, whose operations are one atomic step each. `http` and `cli` translate requests
//! and results.
//!
//! Comments cite the invariants I1 to I16 of docs/architecture.md. Terms that many use cases share:
//!
//! - The *epoch* of an account is a counter. Changes that end the account's sessions or change its claims increment it. Redis refuses a
//!   sign-in that read an older epoch, and most links and codes from an older epoch stop working.
//! - The *claims version* of an account is a counter. Changes of its roles and other claims increment it, and every node refuses access
//!   tokens with an older version (I16).
//! - A *change* (`AccountChange`) is a transaction that holds the lock on an account's row. If the change ends sessions (I5: credential
//!   changes do), they end in Redis before the transaction commits.
//! - App sessions are *beneath* the browser's session that signed them in, and end with it. A session with `offline_access` is beneath
//!   none.

mod account_mail;
pub mod accounts;
mod additional_claims;
pub mod app_metadata;
pub mod authenticate;
pub mod authorize;
mod background;
pub mod browser_session;
pub mod change_email;
pub mod change_password;
pub mod client_token;
pub mod clients;
pub mod consents;
mod decode_refresh_token;
pub mod delete_account;
pub mod dynamic_clients;
pub mod email_login;
pub mod emails;
pub mod end_session;
pub mod error;
pub mod exchange_code;
pub mod export_account;
pub mod factors;
pub mod feed;
pub mod forgot_password;
mod id_tokens;
pub mod import_accounts;
pub mod initiator;
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
pub mod passkeys;
mod peer_keys;
pub mod readiness;
pub mod reauthenticate;
pub mod recent_authentication;
pub mod refresh;
pub mod register;
pub mod register_client;
pub mod remembered_devices;
mod replace_sessions;
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
pub mod userinfo;
pub mod verify;
pub mod verify_email;
