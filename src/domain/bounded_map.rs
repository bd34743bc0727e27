//! A map with a bounded number of entries, for values that can be recomputed. A full map evicts entries that were not used
//! recently.

use std::{
    borrow::Borrow,
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hash, Hasher},
    mem,
};

/// A bounded map with two generations. Inserted and used entries go into the young generation. When an entry does not
/// fit, the old generation is dropped and the young one becomes the old one. So the operations on one entry take constant
/// time on average, and frequent use keeps an entry. At most one of the generations holds a key.
#[derive(Debug)]
pub struct BoundedMap<K, V, S = RandomState> {
    young: HashMap<K, V, S>,
    old: HashMap<K, V, S>,
    generation_capacity: usize,
}

impl<K: Hash + Eq, V, S: BuildHasher + Default> BoundedMap<K, V, S> {
    /// Creates a map for at most `capacity` entries, half of them in each generation. So a map of capacity 1 stores nothing.
    pub fn new(capacity: usize) -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), generation_capacity: capacity / 2 }
    }

    /// The value of a key. Marks the entry as used.
    pub fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.insert(key, value);
        }
        self.young.get(key)
    }

    /// Inserts an entry, replacing the entry of the same key.
    pub fn insert(&mut self, key: K, value: V) {
        if self.generation_capacity == 0 {
            return;
        }
        if self.young.len() >= self.generation_capacity && !self.young.contains_key(&key) {
            // The full generation becomes the old one. The new young generation reuses the memory of the former old one.
            mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Removes an entry.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// Keeps only the entries for which `keep` returns true.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.young.retain(|key, value| keep(key, value));
        self.old.retain(|key, value| keep(key, value));
    }

    /// Removes all entries and frees their memory.
    pub fn clear(&mut self) {
        self.young = HashMap::default();
        self.old = HashMap::default();
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether the map is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A hasher for version 4 UUIDs and digests. Keys must have at least 16 bytes, be uniformly distributed, and be out of the control
/// of clients, who could otherwise cause collisions: a digest of input that clients choose must be salted.
#[derive(Clone, Copy, Debug, Default)]
pub struct UniformHasher(u64);

impl BuildHasher for UniformHasher {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

impl Hasher for UniformHasher {
    fn write(&mut self, bytes: &[u8]) {
        // Combines the first and the last 8 bytes: a UUID has constant bits in both, the version and the variant.
        if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            self.0 ^= u64::from_ne_bytes(*first) ^ u64::from_ne_bytes(*last);
        }
    }

    /// Ignores the length prefix that arrays and slices write: it is the same for all keys of a map.
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
    fn full_map_evicts_unused_entries() {
        let mut map: BoundedMap<u32, u32> = BoundedMap::new(8);
        map.insert(0, 0);
        for key in 1..100 {
            map.insert(key, key);
            // this use keeps the entry
            let used = map.get(&0).copied();
            assert_eq!(used, Some(0), "after {key}");
            assert!(map.len() <= 8);
        }
        assert_eq!(map.get(&1), None);
        assert_eq!(map.get(&99), Some(&99));
        map.clear();
        assert!(map.is_empty());
    }

    #[test]
    fn uniform_hasher_spreads_uuids() {
        let entropy = crate::domain::entropy::Entropy::system();
        // How many hashes have each bit set: about half of them, if the bits are uniformly distributed.
        let mut set_counts = [0_u64; 64];
        for _ in 0..10_000 {
            let hash = UniformHasher::default().hash_one(entropy.session_id());
            for (bit, set_count) in set_counts.iter_mut().enumerate() {
                *set_count += (hash >> bit) & 1;
            }
        }
        // 5000 on average, with a standard deviation of 50
        assert!(set_counts.iter().all(|count| (4000..6000).contains(count)), "{set_counts:?}");
    }

    #[test]
    fn map_of_capacity_one_stores_nothing() {
        let mut map: BoundedMap<u32, u32> = BoundedMap::new(1);
        map.insert(1, 1);
        assert_eq!(map.get(&1), None);
    }

    proptest! {
        /// After any operations, a stored value is the latest of its key, and the capacity is never exceeded. There are twice as many
        /// keys as the capacity, so that entries are evicted.
        #[test]
        fn map_agrees_with_model_except_for_evictions(steps in prop::collection::vec((0..3, 0..12_u8, any::<u8>()), 0..200)) {
            let mut map: BoundedMap<u8, u8> = BoundedMap::new(6);
            let mut model = HashMap::new();
            for (operation, key, value) in steps {
                match operation {
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
