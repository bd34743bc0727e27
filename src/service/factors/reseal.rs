//! Reseals the secrets of factors: decrypts them, and encrypts them under the current secret of the service. Then a previous secret of
//! the service can be removed from the configuration.

use zeroize::Zeroizing;

use super::{log_undecryptable, recovery_codes, totp};
use crate::{service::error::ServiceError, state::AppState, store::sql::SealedFactor};

/// Number of secrets per query.
const BATCH: u32 = 200;

/// Result of [`reseal`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// The number of secrets that are now sealed under the current secret of the service.
    pub count: u64,
    /// The number of secrets that can't be decrypted.
    pub undecryptable: u64,
}

/// Reseals the secrets that are sealed under a previous secret of the service. Logs each secret that can't be decrypted, and continues
/// with the next one.
///
/// # Errors
/// [`ServiceError`]
pub async fn reseal(state: &AppState) -> Result<Resealed, ServiceError> {
    // Secrets without this header are sealed under a previous secret of the service.
    let header = state.sealer.current_header();
    let mut resealed = Resealed::default();
    // A secret that can't be decrypted stays outdated, so each query continues after the last secret of the former query.
    let mut after_app = None;
    loop {
        let apps = state.sql.outdated_totp_secrets(&header, after_app, BATCH).await?;
        let Some(last) = apps.last() else { break };
        after_app = last.factor;
        reseal_all(state, &apps, &mut resealed).await?;
    }
    let mut after_account = None;
    loop {
        let keys = state.sql.outdated_recovery_keys(&header, after_account, BATCH).await?;
        let Some(last) = keys.last() else { break };
        after_account = Some(last.account);
        reseal_all(state, &keys, &mut resealed).await?;
    }
    Ok(resealed)
}

/// Reseals the secrets that can be decrypted. Adds to both counts of `resealed`.
async fn reseal_all(state: &AppState, secrets: &[SealedFactor], resealed: &mut Resealed) -> Result<(), ServiceError> {
    for old in secrets {
        // The associated data (AAD) bind a sealed secret to its factor. Only authenticator apps have an id: an account has one key of
        // recovery codes.
        let aad = old.factor.map_or_else(|| recovery_codes::aad(old.account), |id| totp::aad(old.account, id));
        match state.sealer.open(&old.sealed, &aad) {
            Ok(opened) => {
                let bytes = Zeroizing::new(opened.bytes.to_vec());
                let sealed = state.sealer.seal(&bytes, &aad, &state.entropy);
                state.sql.reseal_factor_secret(old, &sealed).await?;
                resealed.count += 1;
            }
            Err(error) => {
                resealed.undecryptable += 1;
                log_undecryptable(old.account, error);
            }
        }
    }
    Ok(())
}

/// Reseals once, in the background, when a node starts.
pub async fn run(state: &AppState) {
    match reseal(state).await {
        // no secret is being rotated: nothing to report
        Ok(Resealed { count: 0, undecryptable: 0 }) if state.config.secrets.previous.is_empty() => {}
        Ok(Resealed { count, undecryptable: 0 }) => {
            tracing::info!(
                newly_encrypted = count,
                "all secrets of second factors are encrypted under the current secret: none needs a former secret any more"
            );
        }
        Ok(Resealed { count, undecryptable }) => tracing::error!(
            newly_encrypted = count,
            undecryptable,
            "not all secrets of second factors are encrypted under the current secret: keep the former secrets configured until the factors \
             that the earlier errors name can be decrypted or are reset"
        ),
        Err(error) => tracing::warn!(
            %error,
            "encrypting the secrets of second factors under the current secret failed: keep the former secrets configured. The next start of \
             a node tries again"
        ),
    }
}
