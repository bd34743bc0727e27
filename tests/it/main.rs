//! Everything that is tested against real servers: Redis, Postgres, PgBouncer, and Latchkey itself.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod abuse;
mod api;
mod audit;
mod binary;
mod clients;
mod corpora;
mod docs;
mod doctor;
mod edges;
mod embedded;
mod faults;
mod feed;
mod following;
mod forged;
mod harness;
mod history;
mod import;
mod invariants;
mod metrics;
mod oauth;
mod openapi;
mod openapi_external;
mod overload;
mod proxies;
mod server;
mod server_slow;
mod sql;
mod stock;
mod store;
mod telemetry;
mod wycheproof;
