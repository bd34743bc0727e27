//! Recovery: backups, restored data, and a Redis that is older than the database.

mod backup;
mod recorded_features;
mod releases;
mod session_mark;
