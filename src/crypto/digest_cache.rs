//! A bounded cache keyed by a salted SHA-256 of secret input, such as a token or a client's secret. The input is never
//! stored.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};

use crate::domain::{
    bounded_map::{BoundedMap, UniformHasher},
    entropy::Entropy,
};

/// The number of shards, each with its own lock.
const SHARDS: usize = 16;

/// Digests are uniformly distributed, so they need no further hashing.
type Shard<T> = BoundedMap<Digest, Arc<T>, UniformHasher>;

/// A salted SHA-256, the key of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// The cache. A full shard evicts entries that were not used recently.
pub struct DigestCache<T> {
    shards: Vec<Mutex<Shard<T>>>,
    /// Random bytes that are hashed before every input, so that a client cannot choose inputs whose digests fill one shard.
    salt: [u8; 32],
}

impl<T> DigestCache<T> {
    /// Creates a cache for about `capacity` entries. A capacity below 32 caches nothing: a shard needs room for two entries.
    pub fn new(capacity: usize, entropy: &Entropy) -> Self {
        let shard = || Mutex::new(BoundedMap::new(capacity / SHARDS));
        Self { shards: std::iter::repeat_with(shard).take(SHARDS).collect(), salt: entropy.bytes() }
    }

    /// The digest of a sequence of inputs. Different sequences have different digests.
    pub fn digest(&self, inputs: &[&[u8]]) -> Digest {
        let mut context = Context::new(&SHA256);
        context.update(&self.salt);
        for input in inputs {
            // The length separates the inputs: ["ab", "c"] and ["a", "bc"] have different digests.
            context.update(&input.len().to_be_bytes());
            context.update(input);
        }
        // The conversion can't fail: a SHA-256 digest has 32 bytes.
        Digest(context.finish().as_ref().try_into().unwrap_or_default())
    }

    /// The value that is cached under a digest.
    pub fn get(&self, digest: Digest) -> Option<Arc<T>> {
        self.lock_shard(digest).get(&digest).map(Arc::clone)
    }

    /// Caches a value, replacing the value of the same digest.
    pub fn insert(&self, digest: Digest, value: Arc<T>) {
        self.lock_shard(digest).insert(digest, value);
    }

    /// Locks the shard of a digest. A poisoned lock is used like any other: at worst, an entry is missing.
    fn lock_shard(&self, digest: Digest) -> MutexGuard<'_, Shard<T>> {
        self.shards[usize::from(digest.0[0]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for DigestCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[digest cache]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_depends_on_input_boundaries_and_salt() {
        let no_entries = 0;
        let cache = DigestCache::<()>::new(no_entries, &Entropy::system());
        let digest = cache.digest(&[b"ab", b"c"]);
        assert_eq!(digest, cache.digest(&[b"ab", b"c"]));
        assert_ne!(digest, cache.digest(&[b"a", b"bc"]));
        assert_ne!(digest, cache.digest(&[b"abc"]));
        assert_ne!(digest, cache.digest(&[b"ab", b"c", b""]));
        let cache_with_other_salt = DigestCache::<()>::new(no_entries, &Entropy::system());
        assert_ne!(digest, cache_with_other_salt.digest(&[b"ab", b"c"]));
    }

    #[test]
    fn cache_holds_at_most_its_capacity() {
        let capacity = 2 * SHARDS;
        let cache = DigestCache::new(capacity, &Entropy::system());
        for number in 0..1000_u32 {
            let digest = cache.digest(&[&number.to_be_bytes()]);
            cache.insert(digest, Arc::new(number));
            assert_eq!(cache.get(digest).as_deref(), Some(&number));
        }
        let is_cached = |number: &u32| cache.get(cache.digest(&[&number.to_be_bytes()])).is_some();
        assert!((0..1000_u32).filter(is_cached).count() <= capacity);
    }
}
