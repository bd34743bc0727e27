//! Polls for a condition, so that tests need no fixed delays.

use std::{future::Future, time::Duration};

/// How long to wait before the test fails. Long, for busy machines.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The pause between two polls.
const INTERVAL: Duration = Duration::from_millis(20);

/// Polls until the condition `holds`. Otherwise fails the test with the condition's description.
pub async fn until<F: Future<Output = bool>>(description: &str, mut holds: impl FnMut() -> F) {
    let polling = async {
        while !holds().await {
            tokio::time::sleep(INTERVAL).await;
        }
    };
    within_timeout(description, polling).await;
}

/// Waits for a future. If it takes too long, fails the test with the description of the awaited condition.
pub async fn within_timeout<T>(description: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(TIMEOUT, future).await;
    outcome.unwrap_or_else(|_| panic!("timed out waiting until {description}"))
}
