//! The harness of the service's own tests: a real Redis, a real database, and nodes on them.
//! The paths lead out of this crate, to tests/it/harness.
#![allow(dead_code, reason = "these tests use a part of the harness")]

#[path = "../../../../tests/it/harness/client.rs"]
pub mod client;
#[path = "../../../../tests/it/harness/fault_proxy.rs"]
pub mod fault_proxy;
#[path = "../../../../tests/it/harness/guard.rs"]
pub mod guard;
#[path = "../../../../tests/it/harness/redis.rs"]
pub mod redis;
#[path = "../../../../tests/it/harness/test_cluster.rs"]
pub mod test_cluster;
#[path = "../../../../tests/it/harness/wait.rs"]
pub mod wait;
