//! What was found out from some words, remembered under their digest: words such as tokens and a client's secret are kept
//! nowhere.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};

use crate::domain::{
    bounded_map::{AsRandom, BoundedMap},
    entropy::Entropy,
};

/// Into how many parts it is dealt, each with a lock of its own.
const PARTS: usize = 16;

type Part<T> = BoundedMap<Fingerprint, Arc<T>, AsRandom>;

/// A salted SHA-256 of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// Holds no more than so much: what was not asked for lately goes.
pub struct DigestCache<T> {
    parts: Vec<Mutex<Part<T>>>,
    /// What every digest begins with, so that nobody can choose which words come to lie together.
    salt: [u8; 32],
}

impl<T> DigestCache<T> {
    /// Room for about `most`: each part holds at most its share, and with less than two nothing.
    pub fn new(most: usize, entropy: &Entropy) -> Self {
        let part = || Mutex::new(BoundedMap::new(most / PARTS));
        Self { parts: std::iter::repeat_with(part).take(PARTS).collect(), salt: entropy.bytes() }
    }

    /// That of some words, other than that of any other words.
    pub fn fingerprint(&self, words: &[&[u8]]) -> Fingerprint {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.salt);
        for word in words {
            digest.update(&word.len().to_be_bytes());
            digest.update(word);
        }
        // SHA-256 has 32 bytes
        Fingerprint(digest.finish().as_ref().try_into().unwrap_or_default())
    }

    /// What was found out from these words, if it is remembered.
    pub fn get(&self, words: Fingerprint) -> Option<Arc<T>> {
        self.part(words).lock().unwrap_or_else(PoisonError::into_inner).get(&words).map(Arc::clone)
    }

    /// Remembers it.
    pub fn insert(&self, words: Fingerprint, found: Arc<T>) {
        self.part(words).lock().unwrap_or_else(PoisonError::into_inner).insert(words, found);
    }

    fn part(&self, words: Fingerprint) -> &Mutex<Part<T>> {
        &self.parts[usize::from(words.0[0]) % PARTS]
    }
}

impl<T> fmt::Debug for DigestCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[remembered]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart_by_where_they_end_and_by_the_salt() {
        let one = DigestCache::<()>::new(0, &Entropy::system());
        assert_eq!(one.fingerprint(&[b"ab", b"c"]), one.fingerprint(&[b"ab", b"c"]));
        for other in [&[b"a".as_slice(), b"bc"][..], &[b"abc"], &[b"ab", b"c", b""]] {
            assert_ne!(one.fingerprint(&[b"ab", b"c"]), one.fingerprint(other));
        }
        let another = DigestCache::<()>::new(0, &Entropy::system());
        assert_ne!(one.fingerprint(&[b"ab"]), another.fingerprint(&[b"ab"]));
    }

    #[test]
    fn no_more_than_so_much_is_remembered() {
        let remembered = DigestCache::new(PARTS * 2, &Entropy::system());
        for number in 0..1000_u32 {
            let words = remembered.fingerprint(&[&number.to_be_bytes()]);
            remembered.insert(words, Arc::new(number));
            assert_eq!(remembered.get(words).as_deref(), Some(&number));
        }
        let still = (0..1000_u32).filter(|n| remembered.get(remembered.fingerprint(&[&n.to_be_bytes()])).is_some());
        assert!(still.count() <= PARTS * 2);
    }
}
