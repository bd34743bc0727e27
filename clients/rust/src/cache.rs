//! Bounded cache of verified tokens, keyed by their SHA-256, so that a repeated token needs no second signature check. Times,
//! keys and revocations are checked on every hit.

use std::{
    collections::HashMap,
    fmt, mem,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};

use crate::token::Signed;

/// The number of shards, each with its own lock.
const SHARDS: usize = 16;

/// The SHA-256 of a token. Tokens themselves are not stored.
pub(crate) type Hash = [u8; 32];

/// Verified tokens by their hash, with approximate least-recently-used eviction.
pub(crate) struct Cache {
    shards: Vec<Mutex<Shard>>,
}

/// Two generations of tokens. Insertions go to the young generation, and a hit in the old one moves the token there. When the
/// young generation is full, it becomes the old one, and the tokens of the previous old generation are evicted.
struct Shard {
    young: HashMap<Hash, Arc<Signed>>,
    old: HashMap<Hash, Arc<Signed>>,
    generation_capacity: usize,
}

impl Cache {
    /// A cache of at most `capacity` tokens. A capacity below 32 disables the cache: no generation has room for a token.
    pub(crate) fn new(capacity: usize) -> Self {
        // a shard has two generations
        let generation_capacity = capacity / SHARDS / 2;
        let shard = || Mutex::new(Shard { young: HashMap::new(), old: HashMap::new(), generation_capacity });
        Self { shards: std::iter::repeat_with(shard).take(SHARDS).collect() }
    }

    pub(crate) fn hash(token: &str) -> Hash {
        // the conversion can't fail: a SHA-256 has 32 bytes.
        digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap_or_default()
    }

    pub(crate) fn get(&self, hash: &Hash) -> Option<Arc<Signed>> {
        let mut shard = self.shard(hash)?.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signed) = shard.young.get(hash) {
            return Some(Arc::clone(signed));
        }
        let signed = shard.old.remove(hash)?;
        shard.insert(*hash, Arc::clone(&signed));
        Some(signed)
    }

    pub(crate) fn insert(&self, hash: Hash, signed: Arc<Signed>) {
        if let Some(shard) = self.shard(&hash) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).insert(hash, signed);
        }
    }

    fn shard(&self, hash: &Hash) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::from(hash[0]) % SHARDS)
    }
}

impl Shard {
    fn insert(&mut self, hash: Hash, signed: Arc<Signed>) {
        if self.generation_capacity == 0 {
            return; // the cache is disabled
        }
        if self.young.len() >= self.generation_capacity {
            mem::swap(&mut self.young, &mut self.old);
            // evicts the previous old generation; its map keeps its allocation for the new young one
            self.young.clear();
        }
        // a token is in one generation only
        self.old.remove(&hash);
        self.young.insert(hash, signed);
    }
}

/// Leaves out the tokens, whose claims may be personal data.
impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[tokens]")
    }
}
