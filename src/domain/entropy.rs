//! Randomness is received, never fetched: everything that needs it is given an [`Entropy`].

use std::cell::RefCell;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use uuid::{Builder, Uuid};

use super::{
    clock::Timestamp,
    ids::{AccountId, SessionId},
};

/// Random bytes of which UUIDs are made, some hundred at a time: what a call of the generator costs is the same for a few.
const STOCK: usize = 512;

/// Those that a thread has left. Overwritten when they are used.
struct Stock {
    bytes: [u8; STOCK],
    left: usize,
}

thread_local! {
    static FOR_UUIDS: RefCell<Stock> = const { RefCell::new(Stock { bytes: [0; STOCK], left: 0 }) };
}

/// A cryptographically secure source of random bytes.
#[derive(Clone, Debug)]
pub struct Entropy(SystemRandom);

impl Entropy {
    /// The operating system's randomness, through aws-lc's CTR-DRBG.
    pub fn system() -> Self {
        Self(SystemRandom::new())
    }

    /// `N` random bytes.
    ///
    /// # Panics
    /// If the operating system has no randomness to give; nothing safe can be done then.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes).expect("the operating system gives randomness");
        bytes
    }

    /// `N` bytes of the stock, for a UUID.
    fn for_uuid<const N: usize>(&self) -> [u8; N] {
        FOR_UUIDS.with_borrow_mut(|stock| {
            if stock.left < N {
                *stock = Stock { bytes: self.bytes(), left: STOCK };
            }
            stock.left -= N;
            let mut bytes = [0; N];
            bytes.swap_with_slice(&mut stock.bytes[stock.left..stock.left + N]);
            bytes
        })
    }

    /// A random (version 4) UUID.
    pub fn uuid(&self) -> Uuid {
        Builder::from_random_bytes(self.for_uuid()).into_uuid()
    }

    /// A UUID (version 7) that comes after those made earlier: what is appended under it stays together.
    pub fn ordered_uuid(&self, now: Timestamp) -> Uuid {
        let millis = now.as_millis().max(0).unsigned_abs();
        Builder::from_unix_timestamp_millis(millis, &self.for_uuid()).into_uuid()
    }

    /// A new session's id.
    pub fn session_id(&self) -> SessionId {
        SessionId(self.uuid())
    }

    /// A new account's id, ordered by `now`.
    pub fn account_id(&self, now: Timestamp) -> AccountId {
        AccountId(self.ordered_uuid(now))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_uuid_is_given_twice_and_none_is_kept() {
        let one = |n: i64| match n % 2 {
            0 => Entropy::system().uuid(),
            _ => Entropy::system().ordered_uuid(Timestamp::from_millis(1_800_000_000_000)),
        };
        let made = move || (0..1000).map(one).collect::<Vec<_>>();
        let threads = [std::thread::spawn(made), std::thread::spawn(made)];
        let all: HashSet<Uuid> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).chain(made()).collect();
        assert_eq!(all.len(), 3000);
        for version in [4, 7] {
            assert_eq!(all.iter().filter(|uuid| uuid.get_version_num() == version).count(), 1500);
        }
        FOR_UUIDS.with_borrow(|stock| assert!(stock.bytes[stock.left..].iter().all(|byte| *byte == 0)));
    }
}
