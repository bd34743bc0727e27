//! Access tokens whose signatures have been verified lately, so that a token that is presented again and again is verified
//! once. What can change (the time, the keys that are believed) is checked every time all the same.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};

use crate::{
    domain::bounded_map::{AsRandom, BoundedMap},
    metrics::CacheMetrics,
};

/// Into how many parts the tokens are dealt, each with a lock of its own.
const PARTS: usize = 16;

type Part<T> = BoundedMap<[u8; 32], Arc<T>, AsRandom>;

/// Tokens by their SHA-256: the tokens themselves aren't kept.
pub struct VerifiedTokens<T> {
    parts: Vec<Mutex<Part<T>>>,
    cache: CacheMetrics,
}

impl<T> VerifiedTokens<T> {
    /// Remembers up to `most` tokens.
    pub fn new(most: usize) -> Self {
        let part = || Mutex::new(BoundedMap::new(most / PARTS));
        Self { parts: std::iter::repeat_with(part).take(PARTS).collect(), cache: CacheMetrics::new("tokens") }
    }

    /// What is known of a token, or what `verify` finds out, which is then remembered.
    ///
    /// # Errors
    /// Those of `verify`; nothing is remembered of a token that isn't valid.
    pub fn get_or_verify<E>(&self, token: &str, verify: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let hash: [u8; 32] = digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap_or_default();
        let part = &self.parts[usize::from(hash[0]) % PARTS];
        if let Some(known) = part.lock().unwrap_or_else(PoisonError::into_inner).get(&hash) {
            self.cache.hits.inc();
            return Ok(Arc::clone(known));
        }
        self.cache.misses.inc();
        let verified = Arc::new(verify()?);
        part.lock().unwrap_or_else(PoisonError::into_inner).insert(hash, Arc::clone(&verified));
        Ok(verified)
    }

    /// How many tokens had to be verified so far.
    pub fn misses(&self) -> u64 {
        self.cache.misses.get()
    }

    /// What is counted of it.
    pub fn metrics(&self) -> &CacheMetrics {
        &self.cache
    }
}

impl<T> fmt::Debug for VerifiedTokens<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[verified tokens]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_verified_once_and_a_bad_one_every_time() {
        let tokens = VerifiedTokens::new(1000);
        for _ in 0..3 {
            assert_eq!(tokens.get_or_verify("good", || Ok::<_, ()>(7)).map(|said| *said), Ok(7));
        }
        assert_eq!(tokens.misses(), 1);
        for _ in 0..3 {
            assert_eq!(tokens.get_or_verify("bad", || Err("bad")), Err("bad"));
        }
        assert_eq!(tokens.misses(), 4);
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let tokens = VerifiedTokens::new(PARTS * 2);
        for round in 0..2 {
            for number in 0..1000 {
                tokens.get_or_verify(&number.to_string(), || Ok::<_, ()>(number)).unwrap();
            }
            assert!(tokens.misses() >= (round + 1) * 1000 - 32);
        }
    }
}
