//! Access tokens whose signatures have been verified lately, so that a token that is presented again and again is verified
//! once. What can change (the time, the keys that are believed) is checked every time all the same.

use std::sync::Arc;

use super::digest_cache::DigestCache;
use crate::{domain::entropy::Entropy, metrics::CacheMetrics};

/// Tokens that were verified, and what was found in them.
#[derive(Debug)]
pub struct VerifiedTokens<T> {
    remembered: DigestCache<T>,
    cache: CacheMetrics,
}

impl<T> VerifiedTokens<T> {
    /// Remembers up to `most` tokens.
    pub fn new(most: usize, entropy: &Entropy) -> Self {
        Self { remembered: DigestCache::new(most, entropy), cache: CacheMetrics::new("tokens") }
    }

    /// What is known of a token, or what `verify` finds out, which is then remembered.
    ///
    /// # Errors
    /// Those of `verify`; nothing is remembered of a token that isn't valid.
    pub fn get_or_verify<E>(&self, token: &str, verify: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let words = self.remembered.fingerprint(&[token.as_bytes()]);
        if let Some(known) = self.remembered.get(words) {
            self.cache.hits.inc();
            return Ok(known);
        }
        self.cache.misses.inc();
        let verified = Arc::new(verify()?);
        self.remembered.insert(words, Arc::clone(&verified));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_verified_once_and_a_bad_one_every_time() {
        let tokens = VerifiedTokens::new(1000, &Entropy::system());
        for _ in 0..3 {
            assert_eq!(tokens.get_or_verify("good", || Ok::<_, ()>(7)).map(|said| *said), Ok(7));
        }
        assert_eq!(tokens.misses(), 1);
        for _ in 0..3 {
            assert_eq!(tokens.get_or_verify("bad", || Err("bad")), Err("bad"));
        }
        assert_eq!(tokens.misses(), 4);
    }
}
