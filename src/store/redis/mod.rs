//! Sessions in Redis. All that knows of fred is in this folder.

mod batch;
mod connection;
pub mod embedded;
mod health;
pub mod key;
mod rate_limits;
pub mod record;
mod refresh_status;
mod replay_guard;
mod revocation_log;
mod script;
mod session_estimate;
mod sessions;
mod user_agent;
mod watchdog;

pub use connection::{Redis, RedisError};
pub use health::{Description, Finding, Severity};
pub(crate) use rate_limits::FEW_FORGOTTEN;
pub use rate_limits::{ThrottleBucket, ThrottleDecision};
pub use refresh_status::RefreshStatus;
pub use sessions::{Create, NewSession};
