//! Waiting for what comes about by itself: the one place where tests let time pass.

use std::{future::Future, time::Duration};

/// How long a test waits before it gives up. Generous: what is waited for may take long on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tries again and again until it gives true.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let trying = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, trying).await.is_ok(), "it never came about that {what}");
}
