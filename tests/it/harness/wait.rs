//! Waiting for what comes about by itself: the one place where tests let time pass.

use std::{future::Future, time::Duration};

/// Tries until it gives true; fails after a thousand tries (about 20 seconds).
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..1000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came about that {what}");
}
