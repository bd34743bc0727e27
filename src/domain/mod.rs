//! What Latchkey talks about, with no I/O, no async and no web framework: ids, secrets, time, accounts, sessions, events.
//!
//! Nothing here imports anything else of ours, so every other module can speak in these types.

pub mod account;
pub mod audit;
pub mod bounded_map;
pub mod client;
pub mod clock;
pub mod entropy;
pub mod event;
pub mod ids;
pub mod key;
pub mod limit;
pub mod secret;
pub mod session;
pub mod text;
