//! Every Redis key: name, type, slot and TTL.
//!
//! | key | type | holds | ends |
//! | --- | --- | --- | --- |
//! | `lk:s{T}A` | hash | the sessions of account `A` | with the last session |
//! | `lk:e{T}` | stream | the revocations of the bucket's accounts, newest last; bucket 0 also has those of signing keys | an entry: when another is appended `redis.event_retention` (and up to ten seconds) later; the key: `redis.event_retention` after its last entry |
//! | `lk:n{T}` | string | the id of the last entry of `lk:e{T}` | with the stream |
//! | `lk:o{T}A` | hash | the one-time tokens of account `A`: links and codes of mails, as keyed digests | with the last token |
//! | `lk:wC` | string | the challenge `C` of a passkey ceremony: what it was issued for, and its state | after `passkeys.timeout`, or on its use |
//! | `lk:c{T}AH` | string | an authorization code of account `A`; `H` is its SHA-256 | after a minute, or ten minutes after its use |
//! | `lk:aH` | string | an authorization request that waits for its user; `H` is the SHA-256 of its handle | after ten minutes |
//! | `lk:m` | string | the session mark: the time that nodes write here and to the database once a minute, to detect a restored Redis (`service/session_mark.rs`) | never |
//! | `lk:h{T}N` | string | a challenge of a sign-in; `N` is a digest of its secret | when it expires |
//! | `lk:jH` | string | marks an assertion of a service client (`private_key_jwt`) as used; `H` is a hash of the client and the `jti` | when the assertion expires |
//! | `lk:lH` | string | the time at which a rate limit has its full quota again; `H` is a keyed hash of the limit and its subject | at that time |
//! | `lk:gH` | hash | the login throttle of an account, a field per throttle bucket; `H` is a keyed hash of the account's id, or of a typed name that no account has | at the latest of these: an hour after a failure without a delay, a day after a failure with a delay, and `limits.known_for` after a sign-in |
//! | `lk:fH` | hash | the throttle of a kind of second factor of an account, a field per throttle bucket; `H` is a keyed hash of the account and the kind | a day, or twice `limits.factor_backoff_max`, after the last failure |
//!
//! Revocations and heartbeats are published on the channel `lk:r`, or `lk:r@N` for database `N`, since the databases
//! of a server share its channels. On `lk:r:NODE` a node receives acknowledgements (`revocation_log/ack_tracker.rs`).
//!
//! `lk:` is `redis.prefix`, `A` the account's id (base64url without padding), `T` the tag of the account's bucket.
//! There are 256 buckets. The last byte of an account's id is the number of its bucket. Redis Cluster hashes the tag, so all keys of one
//! operation share a slot (I8: an operation takes one round trip). The tags spread the buckets evenly over the cluster's 16,384 slots.
//!
//! The fields of a session hash are described in [`super::record`].

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fred::util::redis_keyslot;

use crate::domain::ids::AccountId;

/// The number of buckets of accounts, each with a stream of revocations. Part of the layout: never changes.
pub const BUCKETS: usize = 256;

/// The number of hash slots of a Redis Cluster.
const SLOTS: usize = 16_384;

/// The number of hash slots of a bucket.
const SLOTS_PER_BUCKET: usize = SLOTS / BUCKETS;

/// The length of an account's id in base64url without padding.
const ACCOUNT_CHARS: usize = 22;

/// The length of a SHA-256 in base64url without padding.
const DIGEST_CHARS: usize = 43;

/// The tags of the buckets. Tag `i` hashes into the `i`-th of 256 equal ranges of slots. The tag of a range is the first number in base 36
/// that hashes into it.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut tags = vec![None; BUCKETS];
    let mut missing = BUCKETS;
    for candidate in 0_u32.. {
        let tag = base36(candidate);
        let bucket = usize::from(redis_keyslot(tag.as_bytes())) / SLOTS_PER_BUCKET;
        if tags[bucket].is_none() {
            tags[bucket] = Some(tag);
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    tags.into_iter().flatten().collect()
});

fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        // a number below 36 always has a digit
        digits.push(char::from_digit(number % 36, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

/// Names keys under one prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// `prefix` is `redis.prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The prefix of every session hash.
    pub fn sessions_prefix(&self) -> String {
        format!("{}s{{", self.prefix)
    }

    /// The hash of an account's sessions.
    pub fn sessions(&self, account: AccountId) -> String {
        let mut key = self.bucket_key("s", bucket(account), ACCOUNT_CHARS);
        BASE64_URL_SAFE_NO_PAD.encode_string(account.as_bytes(), &mut key);
        key
    }

    /// The hash of an account's one-time tokens.
    pub fn one_time_tokens(&self, account: AccountId) -> String {
        let mut key = self.bucket_key("o", bucket(account), ACCOUNT_CHARS);
        BASE64_URL_SAFE_NO_PAD.encode_string(account.as_bytes(), &mut key);
        key
    }

    /// An authorization code. `digest` is the code's SHA-256.
    pub fn authorization_code(&self, account: AccountId, digest: [u8; 32]) -> String {
        let mut key = self.bucket_key("c", bucket(account), ACCOUNT_CHARS + DIGEST_CHARS);
        BASE64_URL_SAFE_NO_PAD.encode_string(account.as_bytes(), &mut key);
        BASE64_URL_SAFE_NO_PAD.encode_string(digest, &mut key);
        key
    }

    /// An authorization request. `digest` is the SHA-256 of the request's handle.
    pub fn authorization_request(&self, digest: [u8; 32]) -> String {
        format!("{}a{}", self.prefix, BASE64_URL_SAFE_NO_PAD.encode(digest))
    }

    /// The prefix of every hash of one-time tokens.
    pub fn one_time_tokens_prefix(&self) -> String {
        format!("{}o{{", self.prefix)
    }

    /// The session mark, by which nodes detect a restored Redis.
    pub fn session_mark(&self) -> String {
        format!("{}m", self.prefix)
    }

    /// A challenge of an account's sign-in. `name` is a digest of the challenge's secret.
    pub fn challenge(&self, account: AccountId, name: &str) -> String {
        let mut key = self.bucket_key("h", bucket(account), name.len());
        key.push_str(name);
        key
    }

    /// The stream of the revocations of an account's bucket.
    pub fn events(&self, account: AccountId) -> String {
        self.events_of_bucket(bucket(account))
    }

    /// The stream of the revocations of a bucket. `bucket` is a number below [`BUCKETS`].
    pub fn events_of_bucket(&self, bucket: usize) -> String {
        self.bucket_key("e", bucket, 0)
    }

    /// The id of the last entry of a bucket's stream.
    pub fn position_of_bucket(&self, bucket: usize) -> String {
        self.bucket_key("n", bucket, 0)
    }

    /// A key up to and including the tag of its bucket in braces, with capacity for `suffix_len` more characters.
    fn bucket_key(&self, kind: &str, bucket: usize, suffix_len: usize) -> String {
        let tag = &TAGS[bucket];
        let braces = 2;
        let mut key = String::with_capacity(self.prefix.len() + kind.len() + braces + tag.len() + suffix_len);
        for part in [&self.prefix, kind, "{", tag, "}"] {
            key.push_str(part);
        }
        key
    }

    /// The mark of a used assertion of a service client.
    pub fn assertion(&self, client: &str, jti: &str) -> String {
        // A client's name contains no NUL.
        let hash = digest(&SHA256, format!("{client}\0{jti}").as_bytes());
        format!("{}j{}", self.prefix, BASE64_URL_SAFE_NO_PAD.encode(hash))
    }

    /// The challenge of a passkey ceremony.
    pub fn passkey_challenge(&self, challenge: &[u8]) -> String {
        format!("{}w{}", self.prefix, BASE64_URL_SAFE_NO_PAD.encode(challenge))
    }

    /// The state of a rate limit. `hash` is a keyed hash of the limit and its subject.
    pub fn limit(&self, hash: &str) -> String {
        format!("{}l{hash}", self.prefix)
    }

    /// The login throttle of an account. `hash` is a keyed hash of the account's id, or of a typed name that no account has.
    pub fn login_throttle(&self, hash: &str) -> String {
        format!("{}g{hash}", self.prefix)
    }

    /// The throttle of a kind of second factor of an account. `hash` is a keyed hash of the account and the kind.
    pub fn factor_throttle(&self, hash: &str) -> String {
        format!("{}f{hash}", self.prefix)
    }

    /// The channel on which the revocations in the Redis database with this number are published.
    pub fn channel(&self, database: u8) -> String {
        if database == 0 { format!("{}r", self.prefix) } else { format!("{}r@{database}", self.prefix) }
    }
}

/// The bucket of an account: the last byte of its id, which is random in every UUID version in use.
pub fn bucket(account: AccountId) -> usize {
    usize::from(account.as_bytes()[15])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_short_and_spread_evenly_over_the_slots() {
        assert_eq!(TAGS.len(), BUCKETS);
        for (bucket, tag) in TAGS.iter().enumerate() {
            assert!(tag.len() <= 3, "{tag}");
            let key = format!("x{{{tag}}}y");
            assert_eq!(usize::from(redis_keyslot(key.as_bytes())) / SLOTS_PER_BUCKET, bucket);
        }
    }

    #[test]
    fn keys_of_an_account_are_stable_and_share_a_slot() {
        let keys = Keys::new("lk:");
        // The last byte, 0xab, is the number of the account's bucket. `1g` is the tag of that bucket.
        let account: AccountId = "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap();
        assert_eq!(keys.sessions(account), "lk:s{1g}AZLwwSNFeryN7wEjRWeJqw");
        assert_eq!(keys.one_time_tokens(account), "lk:o{1g}AZLwwSNFeryN7wEjRWeJqw");
        assert_eq!(keys.events(account), "lk:e{1g}");
        assert_eq!(keys.position_of_bucket(bucket(account)), "lk:n{1g}");
        assert_eq!(keys.channel(0), "lk:r");
        assert_eq!(keys.channel(3), "lk:r@3");
        let slot = |key: String| redis_keyslot(key.as_bytes());
        assert_eq!(slot(keys.sessions(account)), slot(keys.events(account)));
    }
}
