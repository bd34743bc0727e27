//! Measures a verification: prints nanoseconds for a cached token (warm) and for one that is not cached (cold). Asserts nothing,
//! and is ignored by default.

use std::{hint::black_box, time::Instant};

use latchkey_verify::{SystemClock, Verifier};

use crate::fixture::Fixture;

const ROUNDS: usize = 9;

/// Measures the nanoseconds per verification: the median of [`ROUNDS`] rounds of `count` verifications each.
async fn median_nanos(verifier: &Verifier, token: &str, count: u32) -> u128 {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..count {
            black_box(verifier.verify(black_box(token)).await.unwrap());
        }
        times.push(begin.elapsed().as_nanos() / u128::from(count));
    }
    times.sort_unstable();
    times[ROUNDS / 2]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; see README.md"]
async fn measure() {
    let mut cluster = crate::harness::test_cluster::TestCluster::new();
    // production reads the system's clock at each verification, so the measurement reads it too
    cluster.clock = latchkey::domain::clock::Clock::System;
    let fixture = Fixture::with_cluster(cluster).await;
    fixture.node.register("ada").await;
    let token = fixture.node.login("ada").await.access;
    // each logout is one more revocation in the verifiers' memory
    for _ in 0..100 {
        let tokens = fixture.node.login("ada").await;
        fixture.node.logout(&tokens.refresh).await.expect(204);
    }
    let warm = fixture.verifier_with(|builder| builder.clock(SystemClock::new())).await;
    let cold = fixture.verifier_with(|builder| builder.clock(SystemClock::new()).max_cached_tokens(0)).await;
    println!("a token of {} bytes, {} revocations in memory", token.len(), warm.status().revocations);
    println!("warm: {} ns", median_nanos(&warm, &token, 100_000).await);
    // a cold verification is slower, so fewer suffice
    println!("cold: {} ns", median_nanos(&cold, &token, 5_000).await);
    // the verifiers' tasks use the node, which stops next
    drop((warm, cold));
    fixture.stop().await;
}
