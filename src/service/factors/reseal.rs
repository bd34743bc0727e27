//! Reseals the secrets of factors under the current secret of the service, so that a previous secret can be removed.

use zeroize::Zeroizing;

use super::{recovery_codes, totp};
use crate::{service::error::ServiceError, state::AppState, store::sql::SealedFactor};

/// Number of secrets per read.
const BATCH: u32 = 200;

/// Reseals the secrets that are sealed under a previous secret of the service. Returns their number. Logs each secret that can't be opened,
/// and continues with the next one.
///
/// # Errors
/// [`ServiceError`]
pub async fn reseal(state: &AppState) -> Result<u64, ServiceError> {
    let header = state.sealer.current_header();
    let mut resealed = 0;
    let mut after = None;
    loop {
        let apps = state.sql.outdated_totp_secrets(&header, after, BATCH).await?;
        let Some(last) = apps.last() else { break };
        after = last.factor;
        resealed += reseal_all(state, &apps).await?;
    }
    let mut after = None;
    loop {
        let keys = state.sql.outdated_recovery_keys(&header, after, BATCH).await?;
        let Some(last) = keys.last() else { break };
        after = Some(last.account);
        resealed += reseal_all(state, &keys).await?;
    }
    Ok(resealed)
}

/// Reseals the secrets that can be opened. Returns their number.
async fn reseal_all(state: &AppState, secrets: &[SealedFactor]) -> Result<u64, ServiceError> {
    let mut resealed = 0;
    for old in secrets {
        let aad = old.factor.map_or_else(|| recovery_codes::aad(old.account), |id| totp::aad(old.account, id));
        match state.sealer.open(&old.sealed, &aad) {
            Ok(opened) => {
                let bytes = Zeroizing::new(opened.bytes.to_vec());
                let sealed = state.sealer.seal(&bytes, &aad, &state.entropy);
                state.sql.reseal_factor_secret(old, &sealed).await?;
                resealed += 1;
            }
            Err(error) => {
                tracing::error!(
                    account = %old.account,
                    %error,
                    "the secret of a second factor can't be decrypted: add the former secret to secret_previous and restart, or reset \
                     the account's factors (`latchkey user factors ACCOUNT reset`)"
                );
            }
        }
    }
    Ok(resealed)
}

/// Reseals once, in the background, when a node starts.
pub async fn run(state: &AppState) {
    match reseal(state).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "secrets of second factors resealed under the current secret"),
        Err(error) => {
            tracing::warn!(%error, "secrets of second factors could not be resealed; the next start of a node tries again")
        }
    }
}
