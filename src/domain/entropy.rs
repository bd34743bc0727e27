//! The source of randomness. It is passed in as an [`Entropy`], never obtained elsewhere.

use std::cell::RefCell;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use uuid::{Builder, Uuid};

use super::{
    clock::Timestamp,
    ids::{AccountId, EmailId, FactorId, RememberedDeviceId, SessionId},
};

/// The size of a thread's buffer of random bytes for UUIDs. A call of the generator takes nearly the same time for 16 bytes as
/// for 512.
const BUFFER_BYTES: usize = 512;

/// A thread's buffer of random bytes.
struct Buffer {
    bytes: [u8; BUFFER_BYTES],
    /// The number of bytes at the start that were not used yet. The others are zeros, so that no one learns a used id from memory.
    unused: usize,
}

thread_local! {
    static UUID_BYTES: RefCell<Buffer> = const { RefCell::new(Buffer { bytes: [0; BUFFER_BYTES], unused: 0 }) };
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
    /// If the operating system provides no randomness, since nothing could then be done safely.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes).expect("the operating system provides randomness");
        bytes
    }

    /// Takes `N` random bytes from this thread's buffer, and refills the buffer if it has fewer.
    fn take_buffered<const N: usize>(&self) -> [u8; N] {
        UUID_BYTES.with_borrow_mut(|buffer| {
            if buffer.unused < N {
                *buffer = Buffer { bytes: self.bytes(), unused: BUFFER_BYTES };
            }
            buffer.unused -= N;
            let mut bytes = [0; N];
            bytes.swap_with_slice(&mut buffer.bytes[buffer.unused..buffer.unused + N]);
            bytes
        })
    }

    /// A random (version 4) UUID.
    pub fn uuid(&self) -> Uuid {
        Builder::from_random_bytes(self.take_buffered()).into_uuid()
    }

    /// A version 7 UUID, ordered by `now`, so that rows inserted together are stored together.
    pub fn ordered_uuid(&self, now: Timestamp) -> Uuid {
        let millis = now.as_millis().max(0).unsigned_abs();
        Builder::from_unix_timestamp_millis(millis, &self.take_buffered()).into_uuid()
    }

    /// The id of a new session.
    pub fn session_id(&self) -> SessionId {
        SessionId(self.uuid())
    }

    /// The id of a new second factor, ordered by `now`.
    pub fn factor_id(&self, now: Timestamp) -> FactorId {
        FactorId(self.ordered_uuid(now))
    }

    /// The id of a new e-mail address of an account, ordered by `now`.
    pub fn email_id(&self, now: Timestamp) -> EmailId {
        EmailId(self.ordered_uuid(now))
    }

    /// The id of a device to remember, ordered by `now`.
    pub fn remembered_device_id(&self, now: Timestamp) -> RememberedDeviceId {
        RememberedDeviceId(self.ordered_uuid(now))
    }

    /// The id of a new account, ordered by `now`.
    pub fn account_id(&self, now: Timestamp) -> AccountId {
        AccountId(self.ordered_uuid(now))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn uuids_are_unique_and_used_bytes_are_erased() {
        let generate_alternately = |n: i64| match n % 2 {
            0 => Entropy::system().uuid(),
            _ => Entropy::system().ordered_uuid(Timestamp::from_millis(1_800_000_000_000)),
        };
        let generate = move || (0..1000).map(generate_alternately).collect::<Vec<_>>();
        let threads = [std::thread::spawn(generate), std::thread::spawn(generate)];
        let of_threads = threads.into_iter().flat_map(|thread| thread.join().unwrap());
        let all: HashSet<Uuid> = of_threads.chain(generate()).collect();
        assert_eq!(all.len(), 3000);
        for version in [4, 7] {
            assert_eq!(all.iter().filter(|uuid| uuid.get_version_num() == version).count(), 1500);
        }
        UUID_BYTES.with_borrow(|buffer| assert!(buffer.bytes[buffer.unused..].iter().all(|byte| *byte == 0)));
    }
}
