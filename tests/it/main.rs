//! Everything that is tested against real servers: Redis, Postgres, PgBouncer, and Latchkey itself.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod abuse;
mod api;
mod architecture;
mod audit;
mod binary;
mod clients;
mod commands;
mod corpora;
mod degradation;
mod docs;
mod doctor;
mod embedded;
mod faults;
mod feed;
mod forged;
mod harness;
mod history;
mod import;
mod interop;
mod invariants;
mod metrics;
mod oauth;
mod openapi;
mod openapi_external;
mod overload;
mod proxies;
mod revocation_log;
mod secret_rotation;
mod server;
mod server_slow;
mod sql;
mod store;
mod telemetry;
mod use_cases;
mod wycheproof;
