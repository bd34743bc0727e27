//! Real servers for tests, started when first needed and stopped with the test process.
#![allow(dead_code, reason = "benchmarks include this module too, and each uses only a part of it")]

pub mod certificates;
pub mod client;
pub mod database;
pub mod document_server;
pub mod events;
pub mod fault_proxy;
pub mod guard;
pub mod log;
pub mod mail;
pub mod monitor;
pub mod pgbouncer;
pub mod postgres;
pub mod redis;
pub mod smtp;
pub mod sse;
pub mod test_cluster;
pub mod wait;
pub mod wire;
