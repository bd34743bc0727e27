//! Where things are kept: sessions in Redis, accounts and signing keys in SQL.

pub mod redis;
pub mod sql;
