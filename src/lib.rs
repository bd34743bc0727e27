//! Latchkey: sessions and authentication. (The architecture page comes with the whole.)

pub mod cli;
pub mod config;
pub mod domain;
pub mod logging;
