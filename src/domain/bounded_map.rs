//! A map that holds no more than so many entries, for what can be had again: when it is full, what was not asked for
//! lately goes.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hash, Hasher},
    mem,
};

/// Two generations of entries: new ones and those that are asked for go into the young one; when that is full it becomes
/// the old one, and the old one goes. So every operation takes constant time, and no entry that is asked for again and
/// again is lost.
#[derive(Debug)]
pub struct BoundedMap<K, V, S = RandomState> {
    young: HashMap<K, V, S>,
    old: HashMap<K, V, S>,
    half: usize,
}

impl<K: Hash + Eq, V, S: BuildHasher + Default> BoundedMap<K, V, S> {
    /// Holds at most `most` entries; with less than two it holds none.
    pub fn new(most: usize) -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), half: most / 2 }
    }

    /// The entry of a key.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.insert(key, value);
        }
        self.young.get(key)
    }

    /// Puts an entry in, in the place of that of the same key.
    pub fn insert(&mut self, key: K, value: V) {
        if self.half == 0 {
            return;
        }
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            let full = mem::take(&mut self.young);
            self.young = mem::replace(&mut self.old, full);
            self.young.clear();
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// Keeps only the entries of which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.young.retain(|key, value| keep(key, value));
        self.old.retain(|key, value| keep(key, value));
    }

    /// Takes all out, and gives their memory back.
    pub fn clear(&mut self) {
        self.young = HashMap::default();
        self.old = HashMap::default();
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Hashes keys of 16 bytes or more that are random already, and that nobody but us chooses: cryptographic digests, salted
/// where others choose what is digested and it matters, and UUIDs of version 4.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsRandom(u64);

impl BuildHasher for AsRandom {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

impl Hasher for AsRandom {
    fn write(&mut self, bytes: &[u8]) {
        // both ends: of each some bits are always the same in a UUID
        if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
            self.0 ^= u64::from_ne_bytes(*first) ^ u64::from_ne_bytes(*last);
        }
    }

    // how long the key is, which is said first of arrays and slices
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let mut map = <BoundedMap<_, _>>::new(8);
        map.insert(0, 0);
        for key in 1..100 {
            map.insert(key, key);
            assert_eq!(map.get(&0), Some(&0), "after {key}");
            assert!(map.len() <= 8);
        }
        assert_eq!(map.get(&1), None);
        assert_eq!(map.get(&99), Some(&99));
        map.clear();
        assert!(map.is_empty());
    }

    #[test]
    fn random_keys_are_spread() {
        let entropy = crate::domain::entropy::Entropy::system();
        let mut set = [0; 64];
        for _ in 0..10_000 {
            let hash = AsRandom::default().hash_one(entropy.session_id());
            (0..64).for_each(|bit| set[bit] += hash >> bit & 1);
        }
        assert!(set.iter().all(|count| (4000..6000).contains(count)), "{set:?}");
    }

    #[test]
    fn one_without_room_holds_nothing() {
        let mut map = <BoundedMap<_, _>>::new(1);
        map.insert(1, 1);
        assert_eq!(map.get(&1), None);
    }

    proptest! {
        /// Whatever is done, an entry that is there is the latest of its key, and there are never too many.
        #[test]
        fn it_is_a_map_that_forgets(steps in prop::collection::vec((0..3, 0..12_u8, any::<u8>()), 0..200)) {
            let (mut map, mut model) = (<BoundedMap<_, _>>::new(6), HashMap::new());
            for (what, key, value) in steps {
                match what {
                    0 => {
                        map.insert(key, value);
                        model.insert(key, value);
                        prop_assert_eq!(map.get(&key), Some(&value));
                    }
                    1 => {
                        map.remove(&key);
                        model.remove(&key);
                    }
                    _ => {
                        if let Some(found) = map.get(&key) {
                            prop_assert_eq!(Some(found), model.get(&key));
                        }
                    }
                }
                prop_assert!(map.len() <= 6);
            }
        }
    }
}
