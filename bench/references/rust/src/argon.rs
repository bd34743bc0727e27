//! Measures how many argon2id hashes per second a number of threads compute, each thread with one reused buffer.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::anyhow;
use argon2::{Algorithm, Argon2, Block, Params, Version};

// The minimum that OWASP recommends, and Latchkey's default.
const MEMORY_KIB: u32 = 19_456;
const ITERATIONS: u32 = 2;
const LANES: u32 = 1;
const HASH_BYTES: usize = 32;

const PASSWORD: &[u8] = b"correct horse";
/// 16 bytes, like Latchkey's salts.
const SALT: &[u8] = b"a salt of 16 b..";

/// Measures for `seconds`, and prints the hashes per second of all threads together.
pub(crate) fn run(threads: u64, seconds: u64) -> anyhow::Result<()> {
    let (stop, hashed) = (AtomicBool::new(false), AtomicU64::new(0));
    let params = Params::new(MEMORY_KIB, ITERATIONS, LANES, Some(HASH_BYTES)).map_err(|error| anyhow!("{error}"))?;
    let (hashes, elapsed_s) = std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut memory = vec![Block::default(); params.block_count()];
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
                let mut output = [0; HASH_BYTES];
                while !stop.load(Ordering::Relaxed) {
                    let result = argon2.hash_password_into_with_memory(PASSWORD, SALT, &mut output, &mut memory);
                    if result.is_ok() {
                        hashed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        // by the start of the measured time, all threads are hashing
        std::thread::sleep(Duration::from_millis(300));
        let started = Instant::now();
        let hashed_before = hashed.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_secs(seconds));
        let elapsed_s = started.elapsed().as_secs_f64();
        let hashed_after = hashed.load(Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        (hashed_after - hashed_before, elapsed_s)
    });
    #[expect(clippy::cast_precision_loss, reason = "a few thousand hashes")]
    let rate = hashes as f64 / elapsed_s;
    println!("{rate:.2}");
    Ok(())
}
