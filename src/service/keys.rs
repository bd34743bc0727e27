//! Lists, rotates and retires signing keys, for operators.

use crate::{
    config::Config,
    crypto::{
        key_ring::seal_key,
        key_rotation::{RetireError, SigningStart, Timing, plan_retirement, plan_rotation},
        seal::Sealer,
    },
    domain::{clock::Clock, entropy::Entropy, key::StoredKey},
    service::error::ServiceError,
    state::keys::generate,
    store::{redis::RevocationLog, sql::Sql},
};

/// All stored keys, oldest first.
///
/// # Errors
/// [`ServiceError`]
pub async fn list(sql: &Sql) -> Result<Vec<StoredKey>, ServiceError> {
    Ok(sql.keys().await?)
}

/// Generates a signing key and returns it as stored. The key starts to sign once it has been published for `keys.publish_before`, or at
/// once with [`SigningStart::Now`].
///
/// # Errors
/// [`ServiceError`]
pub async fn rotate(
    config: &Config,
    clock: &Clock,
    entropy: &Entropy,
    sql: &Sql,
    start: SigningStart,
) -> Result<StoredKey, ServiceError> {
    let key = generate(config.keys.algorithm).await?;
    let now = clock.now();
    let new = seal_key(&key, &Sealer::new(&config.secrets), entropy, now)?;
    let stored = sql.keys().await?;
    let plan = plan_rotation(&stored, new, start, Timing::new(&config.keys, &config.token), now);
    // until when each superseded key verifies tokens
    let ends: Vec<_> = plan.ends.into_iter().map(|end| (end.kid, end.verifies_until)).collect();
    sql.rotate_keys(&plan.new, &ends).await?;
    tracing::info!(
        kid = plan.new.kid,
        signs_from = %plan.new.signs_from,
        "signing key generated: it signs access tokens from signs_from on"
    );
    Ok(plan.new)
}

/// Why a key was not retired.
#[derive(Debug, thiserror::Error)]
pub enum RetireKeyError {
    /// The key is unknown or must not be retired.
    #[error(transparent)]
    Refused(#[from] RetireError),
    /// The key is retired, but the event for the revocation feed could not be appended.
    #[error("the key is retired, but subscribers of the revocation feed were not notified: {0}. Run the command again")]
    NotPublished(ServiceError),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Retires a key at once, for example because it was stolen: every token that it signed is refused from now on. Stores the
/// retirement first, then publishes it; both steps can be repeated.
///
/// # Errors
/// [`RetireKeyError`]
pub async fn retire(clock: &Clock, sql: &Sql, revocation_log: &RevocationLog, kid: &str) -> Result<(), RetireKeyError> {
    let stored = sql.keys().await.map_err(ServiceError::from)?;
    let now = clock.now();
    let end = plan_retirement(&stored, kid, now)?;
    sql.set_key_verifies_until(&end.kid, Some(end.verifies_until), now).await.map_err(ServiceError::from)?;
    revocation_log.append_key_retired(kid, now).await.map_err(|error| RetireKeyError::NotPublished(error.into()))?;
    tracing::info!(kid, "signing key retired: the nodes refuse all access tokens that it signed");
    Ok(())
}
