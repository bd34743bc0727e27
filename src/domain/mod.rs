//! The entities and values of the service, without I/O, async or a web framework: ids, secrets, time, accounts, sessions,
//! events.
//!
//! This module imports no other module of the crate, so every other module can use its types.

pub mod account;
pub mod additional_claims;
pub mod app_client;
pub mod audit;
pub mod authentication;
pub mod authorization;
pub mod bounded_map;
pub mod challenge;
pub mod client;
pub mod clock;
pub mod dynamic_client;
pub mod entropy;
pub mod event;
pub mod factor;
pub mod feed;
pub mod ids;
pub mod key;
pub mod limit;
pub mod locale;
pub mod mail;
pub mod one_time_token;
pub mod passkey;
pub mod profile;
pub mod remembered_device;
pub mod secret;
pub mod session;
pub mod text;
