//! Polls for a condition, so that tests need no fixed delays.

use std::{future::Future, time::Duration};

/// How long to poll before the test fails. Long, for busy machines.
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
    let outcome = tokio::time::timeout(TIMEOUT, polling).await;
    assert!(outcome.is_ok(), "timed out waiting until {description}");
}
