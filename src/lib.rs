//! Latchkey: sessions and authentication. Stateless speed with stateful revocation.
//!
//! # The idea
//!
//! An access token is a JWT that anyone can check in microseconds with the public keys. A session is a small record in
//! Redis, and ending it is one atomic step that also appends an event, which every node and every service that follows the
//! feed hears of within milliseconds. A refresh token is neither stored nor looked up: it names its account, session and
//! generation and carries a MAC, and the next generation's token is the same string on whatever node it is computed.
//! So a lost answer, a retry and a third tab all get the same successor, and nobody is signed out by accident.
//!
//! # The house
//!
//! Imports point one way: `main → cli → server → http → service → state → store, password → crypto → config, metrics → domain`.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`domain`] | the vocabulary: ids, secrets, clock, accounts, sessions, events. Pure: no I/O, no async |
//! | [`crypto`] | CPU only: the password threads, signing keys and access tokens, refresh tokens, encryption at rest |
//! | [`store::redis`] | sessions: [`store::redis::key`] names every key, `lua/` holds every script, [`store::redis::record`] every byte |
//! | [`store::sql`] | accounts, signing keys, service clients and the audit log, in SQLite or Postgres |
//! | [`state`] | the parts of a running node, built once: caches, registries, the audit queue |
//! | [`service`] | what the service does, one file per use case |
//! | [`http`] | every route on one page; handlers translate, flows decide |
//! | [`server`] | accepts connections, with limits and time-outs, until told to stop |
//! | [`config`] | from files, variables and flags to what they mean, once, at start-up |
//! | [`cli`] | the commands |
//!
//! # One refresh, walked through
//!
//! 1. [`server`] accepted the connection; [`http::door`] gives the request an id, [`http::body`] reads its body within a size
//!    and a time.
//! 2. The handler in [`http::api::login`] takes the token from the body or, if no other site's page sent it, from the
//!    cookie, and calls [`service::refresh`].
//! 3. The flow has [`crypto::refresh_token`] check the MAC: what is forged or damaged ends here, without Redis.
//! 4. [`store::redis::SessionStore::rotate`] runs `rotate.lua` in one round trip. Redis runs scripts one at a time, so of however
//!    many requests one moves the session on and the others are told what it became; a token superseded longer ago than
//!    the grace window ends the session, and the event of that is appended in the same script.
//! 5. [`service::token_issuer`] signs the access token with a key that was parsed once and computes the refresh token.
//! 6. The handler makes JSON of them or sets the cookie; the door writes one line in the log.
//!
//! # One sign-out, followed to the end
//!
//! 1. `revoke.lua` removes the session, appends the event to the stream of the account's bucket, notes the event's id as the
//!    bucket's position, and publishes the event with its id and the one before: all in one step.
//! 2. Every node hears it ([`store::redis::RevocationLog::start_replication`]): if the id before is the last one it knows, it forgets the
//!    session. If not, it has missed something, and reads the stream.
//! 3. Several times a second each node compares its positions with those in Redis. What it remembers of sessions counts only
//!    for so long after such a look (`cache.max_staleness`), so that nothing has to notice that a connection has died.
//! 4. [`service::feed`] tells those who follow `GET /v1/revocations`. Its heartbeats say up to when all has been told, and are
//!    not sent while the node isn't in step with Redis; the verifier libraries in `clients/` go by that.
//!
//! # What is kept where
//!
//! - Redis holds, for each account, one hash with a record of 36 bytes and some details for each session, and for each of
//!   256 buckets of accounts a stream of revocations and the id of the last of them. All keys of an operation share a hash
//!   tag, so all of it works on Redis Cluster. Nothing in it can be presented as a token.
//! - A node remembers, within bounds, which sessions live, which tokens' signatures it has verified, and which service client
//!   was told of which token, so that the same question is answered without being taken apart ([`http::oauth`]). All of that
//!   can be had again.
//! - SQL holds accounts with their password hashes, signing keys encrypted under the service's secret, and
//!   service clients with the hashes of their secrets; every node keeps the clients in memory.
//! - An account that changes (password, disabled, deleted) is changed while its row is locked: its sessions end in Redis
//!   first, then the transaction commits, so that neither happens without the other. A fence left in Redis keeps sign-ins
//!   that were checked before the change from making a session after it.

pub mod cli;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod password;
pub mod runtime;
pub mod server;
pub mod service;
pub mod state;
pub mod store;
pub mod telemetry;
