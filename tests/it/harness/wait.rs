//! Polls for a condition: the only place where tests let time pass.

use std::{future::Future, time::Duration};

/// How long to poll before the test fails. Generous, for busy machines.
const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until the condition holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let trying = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, trying).await.is_ok(), "timed out waiting until {what}");
}
