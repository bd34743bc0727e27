//! The only source of randomness. Its users receive it as an [`Entropy`].

use std::cell::RefCell;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use uuid::{Builder, Uuid};

use super::{
    clock::Timestamp,
    ids::{AccountId, EmailId, FactorId, RememberedDeviceId, SessionId},
};

/// The size of a thread's buffer of random bytes for UUIDs. The buffer saves calls of the generator: a call takes nearly the same
/// time for 512 bytes as for the 16 of a UUID.
const BUFFER_BYTES: usize = 512;

/// A thread's buffer of random bytes.
struct Buffer {
    bytes: [u8; BUFFER_BYTES],
    /// The number of unused bytes, which are at the start. The used ones are overwritten with zeros, so that no one learns a used id
    /// from memory.
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
            // The swap returns the last unused bytes, and leaves zeros in their place.
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
        let millis = now.as_millis().max(0).unsigned_abs(); // a UUID's time is never before 1970
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
        // Generates 500 UUIDs of each version. All have the same time, so that only the random bytes distinguish them.
        let generate = || {
            let entropy = Entropy::system();
            let now = Timestamp::from_millis(1_800_000_000_000);
            (0..500).flat_map(|_| [entropy.uuid(), entropy.ordered_uuid(now)]).collect::<Vec<_>>()
        };
        let threads = [std::thread::spawn(generate), std::thread::spawn(generate)];
        let mut all: HashSet<Uuid> = generate().into_iter().collect();
        for thread in threads {
            all.extend(thread.join().unwrap());
        }
        for version in [4, 7] {
            let count = all.iter().filter(|uuid| uuid.get_version_num() == version).count();
            assert_eq!(count, 3 * 500, "version {version}");
        }
        // The buffer of this thread, which has generated UUIDs too.
        UUID_BYTES.with_borrow(|buffer| {
            let used = &buffer.bytes[buffer.unused..];
            assert!(used.iter().all(|byte| *byte == 0));
        });
    }
}
