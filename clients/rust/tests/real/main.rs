//! The verifier with the real service: sign-ins, sign-outs, keys that change, and connections that are cut or freeze.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod building;
mod forged;
mod harness;
mod keys;
mod losing;
mod measure;
mod middleware;
mod place;
mod proxy;
mod seeing;
