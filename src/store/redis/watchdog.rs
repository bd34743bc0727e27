//! Notices a Redis that accepts but doesn't answer: under traffic fred never does, since every write resets its timer.
//! Says in the log when Redis goes, why, and when it is back.

use std::time::Duration;

use fred::{
    clients::Client,
    interfaces::{ClientLike, EventInterface},
    types::{ClientState, config::Options},
};
use tokio::{sync::broadcast::error::TryRecvError, task::AbortHandle, time::MissedTickBehavior};

const EVERY: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_millis(500);
const MISSES: u32 = 2;

/// Watches one connection until aborted; connects anew after two signs of life in a row were missing. `speaks`: one
/// connection of a pool tells the log for all.
pub(super) fn watch(client: Client, speaks: bool) -> AbortHandle {
    let watch = async move {
        let options = Options { timeout: Some(PATIENCE), max_attempts: Some(1), ..Options::default() };
        let mut errors = client.error_rx();
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut missed = 0;
        let mut told = String::new();
        loop {
            ticks.tick().await;
            match client.with_options(&options).ping::<()>(None).await {
                Ok(()) => {
                    if speaks && !told.is_empty() {
                        tracing::info!("Redis answers again");
                    }
                    told.clear();
                    missed = 0;
                }
                Err(error) => {
                    missed += 1;
                    if missed < MISSES {
                        continue;
                    }
                    // what broke the connection says more than that a command wasn't answered
                    let reason = latest(&mut errors).unwrap_or_else(|| error.to_string());
                    if speaks && (told.is_empty() || (told != reason && missed == MISSES)) {
                        tracing::error!(%reason, "Redis doesn't answer; trying again until it does");
                        told = reason;
                    }
                    if client.state() == ClientState::Connected {
                        let _ = tokio::time::timeout(PATIENCE, client.force_reconnection()).await;
                        missed = 0;
                    }
                }
            }
        }
    };
    tokio::spawn(watch).abort_handle()
}

fn latest(
    errors: &mut tokio::sync::broadcast::Receiver<(fred::error::Error, Option<fred::types::config::Server>)>,
) -> Option<String> {
    let mut latest = None;
    loop {
        match errors.try_recv() {
            Ok((error, _)) => latest = Some(error.to_string()),
            Err(TryRecvError::Lagged(_)) => {}
            Err(_) => return latest,
        }
    }
}
