//! Sessions in Redis. All that knows of fred is in this folder.

mod census;
mod connection;
pub mod embedded;
mod following;
mod health;
pub mod key;
mod limits;
mod once;
pub mod record;
mod script;
mod sessions;
mod standing;
mod together;
mod user_agent;
mod watchdog;

pub use connection::{Redis, RedisError};
pub use health::{Description, Finding, Severity};
pub(crate) use limits::FEW_FORGOTTEN;
pub use limits::{Attempted, Lane};
pub use sessions::{Create, NewSession};
pub use standing::RefreshStanding;
