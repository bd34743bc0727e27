//! Tokens that were found good lately, so that one that is presented again and again is checked once. What can change
//! (the time, the keys, what was revoked) isn't kept here.

use std::{
    collections::HashMap,
    fmt, mem,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};

use crate::token::Signed;

/// Into how many parts the tokens are dealt, each with a lock of its own.
const PARTS: usize = 16;

/// The SHA-256 of a token: the tokens themselves aren't kept.
pub(crate) type Hash = [u8; 32];

/// Tokens by their hash, no more than so many: those that are asked for stay.
pub(crate) struct Cache {
    parts: Vec<Mutex<Part>>,
}

/// Two generations. What is new or asked for goes into the young one; when that is full, it becomes the old one, and the
/// old one goes.
struct Part {
    young: HashMap<Hash, Arc<Signed>>,
    old: HashMap<Hash, Arc<Signed>>,
    half: usize,
}

impl Cache {
    /// Keeps at most `most` tokens.
    pub(crate) fn new(most: usize) -> Self {
        let part = || Mutex::new(Part { young: HashMap::new(), old: HashMap::new(), half: most / PARTS / 2 });
        Self { parts: std::iter::repeat_with(part).take(PARTS).collect() }
    }

    pub(crate) fn hash(token: &str) -> Hash {
        digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap_or_default()
    }

    pub(crate) fn get(&self, hash: &Hash) -> Option<Arc<Signed>> {
        let mut part = self.part(hash)?.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = part.young.get(hash) {
            return Some(Arc::clone(known));
        }
        let known = part.old.remove(hash)?;
        part.insert(*hash, Arc::clone(&known));
        Some(known)
    }

    pub(crate) fn insert(&self, hash: Hash, signed: Arc<Signed>) {
        if let Some(part) = self.part(&hash) {
            part.lock().unwrap_or_else(PoisonError::into_inner).insert(hash, signed);
        }
    }

    fn part(&self, hash: &Hash) -> Option<&Mutex<Part>> {
        self.parts.get(usize::from(hash[0]) % PARTS)
    }
}

impl Part {
    fn insert(&mut self, hash: Hash, signed: Arc<Signed>) {
        if self.half == 0 {
            return;
        }
        if self.young.len() >= self.half {
            let full = mem::take(&mut self.young);
            self.young = mem::replace(&mut self.old, full);
            self.young.clear();
        }
        self.old.remove(&hash);
        self.young.insert(hash, signed);
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[tokens]")
    }
}
