//! One binary for all tests that need a socket, a Redis or a database.

// clippy.toml allows it in tests, but doesn't see the functions beside them.
#![allow(clippy::unwrap_used)]

mod embedded;
mod server;
