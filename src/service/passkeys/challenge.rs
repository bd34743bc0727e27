//! The challenge of a ceremony. It is issued with the options. The first response consumes it, even if the response is refused (I11: a
//! challenge works once).

use webauthn_rs_core::error::WebauthnError;

use super::{PasskeyError, PasskeyOptions};
use crate::{
    crypto::passkeys::Ceremony, service::error::ServiceError, state::AppState, store::redis::ChallengeBinding,
};

/// Stores the challenge of a ceremony that has begun, and returns the options for the authenticator. `ceremony` is the result of its begin;
/// its errors are internal.
pub(super) async fn issue(
    state: &AppState,
    binding: &ChallengeBinding,
    ceremony: Result<Ceremony, WebauthnError>,
) -> Result<PasskeyOptions, PasskeyError> {
    let ceremony = ceremony.map_err(|error| ServiceError::Internal(error.into()))?;
    let ttl = state.config.passkeys.timeout;
    state.redis.passkey_challenges.issue(&ceremony.challenge, binding, &ceremony.state, ttl).await?;
    Ok(PasskeyOptions { public_key: ceremony.options, expires_in: ttl.as_secs() })
}
