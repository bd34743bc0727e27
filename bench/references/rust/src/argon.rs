//! Measures how many argon2id hashes per second a number of threads compute, each thread with one reused buffer.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{anyhow, ensure};
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
    let hash_until_stopped = || -> Result<(), argon2::Error> {
        let mut memory = vec![Block::default(); params.block_count()];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        let mut output = [0; HASH_BYTES];
        while !stop.load(Ordering::Relaxed) {
            argon2.hash_password_into_with_memory(PASSWORD, SALT, &mut output, &mut memory)?;
            hashed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let (hashes, elapsed_s) = std::thread::scope(|scope| {
        let hashing: Vec<_> = (0..threads).map(|_| scope.spawn(hash_until_stopped)).collect();
        // by the start of the measured time, all threads are hashing
        std::thread::sleep(Duration::from_millis(300));
        let started = Instant::now();
        let hashed_before = hashed.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_secs(seconds));
        let elapsed_s = started.elapsed().as_secs_f64();
        let hashed_after = hashed.load(Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        for thread in hashing {
            let result = thread.join().map_err(|_| anyhow!("a hashing thread panicked"))?;
            result.map_err(|error| anyhow!("{error}"))?;
        }
        anyhow::Ok((hashed_after - hashed_before, elapsed_s))
    })?;
    ensure!(hashes > 0, "no hash was computed in {elapsed_s:.1} s");
    #[expect(clippy::cast_precision_loss, reason = "a few thousand hashes")]
    let rate = hashes as f64 / elapsed_s;
    println!("{rate:.2}");
    Ok(())
}
