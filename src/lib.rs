//! Latchkey: a session and authentication service. Other services verify access tokens without a lookup, and a sign-out still
//! ends the tokens at once.
//!
//! An access token is a JWT that any service checks with the public keys. A session is a small record in Redis; ending it is
//! one atomic step that also appends an event, which every node and every subscriber of the feed receives. A refresh token
//! is not stored: it contains its account, session and generation, and a MAC. Every node computes the same next token, so a
//! lost response, a retry or a second tab signs nobody out.
//!
//! `docs/architecture.md` describes the modules, the invariants, the path of a request and the revocation log. Imports follow
//! the arrows, in one direction: `main → cli → server → http → service → state → store, fetch, mail, pages, password → crypto
//! → config, metrics, logging, telemetry, runtime → domain`.

pub mod cli;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod fetch;
pub mod http;
pub mod logging;
pub mod mail;
pub mod metrics;
pub mod pages;
pub mod password;
pub mod runtime;
pub mod server;
pub mod service;
pub mod state;
pub mod store;
pub mod telemetry;
