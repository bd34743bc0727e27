//! Notices a Redis that accepts but doesn't answer: under traffic fred never does, since every write resets its timer.
//! Says in the log when Redis goes, why, and when it is back.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fred::{
    clients::Client,
    interfaces::{ClientLike, EventInterface},
    types::{ClientState, config::Options},
};
use tokio::{sync::broadcast::error::TryRecvError, task::AbortHandle, time::MissedTickBehavior};

const EVERY: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_millis(500);
const MISSES: u32 = 2;

/// Why the connection is down, as far as is known; none while it works.
pub(super) type LastFailure = Arc<Mutex<Option<String>>>;

/// Watches one connection until aborted; connects anew after two signs of life in a row were missing. `speaks`: one
/// connection of a pool tells the log for all, and notes the last_failure.
pub(super) fn watch(client: Client, speaks: bool, last_failure: LastFailure) -> AbortHandle {
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
                    latest(&mut errors);
                    if speaks {
                        *last_failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    }
                }
                Err(error) => {
                    // what broke the connection says more than that a command wasn't answered
                    let broken = latest(&mut errors);
                    if speaks && broken.is_some() {
                        last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&broken);
                    }
                    missed += 1;
                    if missed < MISSES {
                        continue;
                    }
                    let known = || last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let reason = broken.or_else(known).unwrap_or_else(|| error.to_string());
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
