//! The stores: sessions, rate limits and the revocation log in Redis; accounts, clients, keys and the audit log in SQL.

pub mod redis;
pub mod sql;
