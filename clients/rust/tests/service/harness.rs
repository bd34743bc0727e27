//! The service's own test cluster: a real Redis, a real database, and the service on them.
#![allow(dead_code)]

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
