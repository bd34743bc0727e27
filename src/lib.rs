//! Latchkey: sessions and authentication. (The architecture page comes with the whole.)

pub mod app;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod flow;
pub mod http;
pub mod logging;
pub mod server;
pub mod store;
