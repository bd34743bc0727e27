//! The signing keys of a node: loaded at start-up, looked for anew as others change them, rotated and retired.

use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    config::Config,
    crypto::{
        key_ring::{KeyRing, reseal, seal_key},
        key_rotation::{RetireError, Start, Timing, plan_retirement, plan_rotation},
        seal::Sealer,
        signing_key::SigningKey,
    },
    domain::{
        clock::Clock,
        entropy::Entropy,
        event::{FeedMessage, RevocationTarget},
        key::StoredKey,
    },
    service::error::ServiceError,
    state::AppState,
    store::{redis::Redis, sql::Sql},
};

/// Loads the keys, makes the first if there is none, and seals under the current secret what was sealed under another.
pub(crate) async fn load(
    config: &Config,
    clock: &Clock,
    entropy: &Entropy,
    sql: &Sql,
    sealer: &Sealer,
) -> Result<KeyRing, ServiceError> {
    let now = clock.now();
    let mut stored = sql.keys().await?;
    if stored.is_empty() {
        let key = generate(config).await?;
        // of nodes that start at once, one makes the key of all
        if sql.insert_first_key(&seal_key(&key, sealer, entropy, now)?).await? {
            tracing::info!(kid = key.kid(), algorithm = %key.algorithm(), "the first signing key was made");
        }
        stored = sql.keys().await?;
    }
    let ring = KeyRing::open(stored.clone(), sealer, now)?;
    for key in stored.iter().filter(|key| ring.outdated().contains(&key.kid)) {
        sql.reseal_key(&key.kid, &reseal(key, sealer, entropy)?.sealed_private).await?;
        tracing::info!(kid = key.kid, "a signing key was sealed again, under the current secret");
    }
    Ok(ring)
}

/// Takes over what changed since the keys were last looked at, and removes those that nobody needs any more.
///
/// # Errors
/// [`ServiceError`]; the keys in use stay as they are then.
pub async fn reload(state: &AppState) -> Result<(), ServiceError> {
    // A day late: what is deleted can't be believed again by a node whose clock lags.
    state.sql.delete_keys_before(state.clock.now() - Duration::from_hours(24)).await?;
    refresh_key_ring(state).await
}

/// How often at most a token that names an unknown key makes a node look for new ones.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Looks for keys that other nodes have just made, because a token names one that isn't known here; at most once a
/// second, so that made-up tokens don't reach the database. Whoever comes while it happens waits for it.
pub(crate) async fn reload_on_miss(state: &AppState) {
    let mut last = state.last_key_reload.lock().await;
    let now = state.clock.now();
    if last.is_some_and(|last| now.saturating_since(last) < LOOK_AGAIN) {
        return;
    }
    if let Err(error) = refresh_key_ring(state).await {
        tracing::warn!(%error, "a token names an unknown key, which could not be looked for");
    }
    *last = Some(state.clock.now());
}

async fn refresh_key_ring(state: &AppState) -> Result<(), ServiceError> {
    let now = state.clock.now();
    let stored = state.sql.keys().await?;
    if !state.keys.current().is_made_from(&stored) {
        state.keys.replace(KeyRing::open(stored, &state.sealer, now)?);
        tracing::info!("the signing keys have changed");
    }
    Ok(())
}

/// Looks for changed keys every so often (`keys.refresh_interval`), and at once when one is retired, for as long as the
/// service runs.
pub async fn run_reloader(state: &AppState) {
    let mut told = state.redis.subscribe();
    let mut ticks = tokio::time::interval(state.config.keys.refresh_interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = key_retired(&mut told) => {}
        }
        if let Err(error) = refresh_key_ring(state).await {
            tracing::warn!(%error, "the signing keys could not be looked for; those in use stay in use");
        }
    }
}

/// Completes when a signing key was retired, or may have been.
async fn key_retired(told: &mut broadcast::Receiver<FeedMessage>) {
    loop {
        match told.recv().await {
            Ok(FeedMessage::Revoked(revocation)) if !matches!(revocation.target, RevocationTarget::Key { .. }) => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// The keys as they are stored, oldest first.
///
/// # Errors
/// [`ServiceError`]
pub async fn list(sql: &Sql) -> Result<Vec<StoredKey>, ServiceError> {
    Ok(sql.keys().await?)
}

/// Makes a new key, which signs once it has been published for long enough (`keys.publish_before`), or at once in an
/// emergency; gives the new key's record.
///
/// # Errors
/// [`ServiceError`]
pub async fn rotate(
    config: &Config,
    clock: &Clock,
    entropy: &Entropy,
    sql: &Sql,
    start: Start,
) -> Result<StoredKey, ServiceError> {
    let key = generate(config).await?;
    let now = clock.now();
    let new = seal_key(&key, &Sealer::new(&config.secrets), entropy, now)?;
    let plan = plan_rotation(&sql.keys().await?, new, start, Timing::new(&config.keys, &config.token), now);
    let ends: Vec<_> = plan.ends.into_iter().map(|end| (end.kid, end.verifies_until)).collect();
    sql.rotate_keys(&plan.new, &ends).await?;
    tracing::info!(kid = plan.new.kid, signs_from = %plan.new.signs_from, "a signing key was made");
    Ok(plan.new)
}

/// Why a key wasn't retired.
#[derive(Debug, thiserror::Error)]
pub enum RetireKeyError {
    /// It can't be.
    #[error(transparent)]
    Refused(#[from] RetireError),
    /// It is retired, but those who check tokens by themselves weren't told.
    #[error("the key is retired, but the services that follow the revocations were not told: {0}. Run this again")]
    NotTold(ServiceError),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Refuses everything that a key signed, from now on: for a key that got into wrong hands. First it is written down, then
/// everybody is told; if that fails, it can be done again.
///
/// # Errors
/// [`RetireKeyError`]
pub async fn retire(clock: &Clock, sql: &Sql, redis: &Redis, kid: &str) -> Result<(), RetireKeyError> {
    let stored = sql.keys().await.map_err(ServiceError::from)?;
    let end = plan_retirement(&stored, kid, clock.now())?;
    sql.set_key_verifies_until(&end.kid, Some(end.verifies_until)).await.map_err(ServiceError::from)?;
    tracing::warn!(kid, "a signing key was retired");
    redis.append_key_retired(kid, clock.now()).await.map_err(|error| RetireKeyError::NotTold(error.into()))?;
    Ok(())
}

/// Makes a key; off the async threads, since an RSA key takes a while.
async fn generate(config: &Config) -> Result<SigningKey, ServiceError> {
    let algorithm = config.keys.algorithm;
    let made = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm)).await;
    made.map_err(|error| ServiceError::Internal(error.into()))?.map_err(|error| ServiceError::Internal(error.into()))
}
