//! Tests the verifier against a running node: sign-ins, sign-outs, key rotation, and connections that are cut or freeze.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod build;
mod fixture;
mod forged;
mod harness;
mod keys;
mod lost_feed;
mod measure;
mod middleware;
mod on_end;
mod revocation;
mod shared_cases;
mod tower_websocket;
mod websocket;
