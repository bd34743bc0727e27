//! Recovery and upgrades: backups, restored data, recorded data of earlier releases, and a Redis that is older than the database.

mod backup;
mod recorded_features;
mod releases;
mod session_mark;
