//! The session mark: a time that nodes write to Redis and to the database. A Redis that was restored from an old copy has an older mark
//! than the database. If so, a node ends all sessions: it scans Redis for accounts with sessions, and for one-time tokens.

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fred::{
    clients::Client,
    interfaces::{ClientLike, KeysInterface},
    types::{Key, Value, scan::ScanType},
};
use futures_util::{StreamExt, stream::BoxStream};

use super::{RedisError, SessionStore, script::unexpected};
use crate::domain::{clock::Timestamp, ids::AccountId};

/// The number of keys per step of a scan.
const SCAN_COUNT: u32 = 1000;

impl SessionStore {
    /// The session mark in Redis, if there is one.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn mark(&self) -> Result<Option<Timestamp>, RedisError> {
        let answer: Value = self.connection.client().get(self.connection.keys.session_mark()).await?;
        if answer.is_null() {
            return Ok(None);
        }
        let millis = answer.as_i64().ok_or_else(|| unexpected("GET of the session mark", &answer))?;
        Ok(Some(Timestamp::from_millis(millis)))
    }

    /// Stores the session mark, without a TTL.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn set_mark(&self, mark: Timestamp) -> Result<(), RedisError> {
        let key = self.connection.keys.session_mark();
        let client = self.connection.client();
        let (ttl, condition, return_former) = (None, None, false);
        Ok(client.set::<(), _, _>(key, mark.as_millis(), ttl, condition, return_former).await?)
    }

    /// The accounts that have sessions in Redis, expired ones included. Scans all keys.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn accounts(&self) -> Result<BTreeSet<AccountId>, RedisError> {
        let mut accounts = BTreeSet::new();
        let mut keys = self.scan(&self.connection.keys.sessions_prefix(), ScanType::Hash);
        while let Some(key) = keys.next().await {
            let key = key?.into_string().unwrap_or_default();
            accounts.extend(account_of(&key));
        }
        Ok(accounts)
    }

    /// Deletes the one-time tokens of all accounts. Scans all keys.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn delete_one_time_tokens(&self) -> Result<(), RedisError> {
        let mut keys = self.scan(&self.connection.keys.one_time_tokens_prefix(), ScanType::Hash);
        // One command for each key: in a cluster, the keys have different hash slots.
        while let Some(key) = keys.next().await {
            let _: i64 = self.connection.client().del(key?).await?;
        }
        Ok(())
    }

    /// Iterates over the keys that begin with `prefix` and have the type `kind`.
    fn scan(&self, prefix: &str, kind: ScanType) -> BoxStream<'static, Result<Key, RedisError>> {
        let mut pattern = String::new();
        for character in prefix.chars() {
            // Escapes the special characters of Redis' glob patterns.
            if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern.push('*');
        let client: &Client = self.connection.client();
        if client.is_clustered() {
            client.scan_cluster_buffered(pattern, Some(SCAN_COUNT), Some(kind)).map(|key| Ok(key?)).boxed()
        } else {
            client.scan_buffered(pattern, Some(SCAN_COUNT), Some(kind)).map(|key| Ok(key?)).boxed()
        }
    }
}

/// The account of a session hash, by the hash's key `lk:s{HASH TAG}ID`; none for any other key.
fn account_of(key: &str) -> Option<AccountId> {
    let (_, id) = key.rsplit_once('}')?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(id).ok()?;
    let bytes = <[u8; 16]>::try_from(bytes).ok()?;
    Some(AccountId::from_bytes(bytes))
}
