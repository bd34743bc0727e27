//! The challenge of a ceremony, which registers a passkey or authenticates with one. The first well-formed response of its
//! session consumes the challenge, even if the response is refused (I11: a challenge works once).

use webauthn_rs_core::error::WebauthnError;

use super::{PasskeyError, PasskeyOptions};
use crate::{
    crypto::passkeys::Ceremony, service::error::ServiceError, state::AppState, store::redis::ChallengeBinding,
};

/// Stores the challenge of a ceremony, and returns the options for the authenticator. An error in `begun`, the result of beginning the
/// ceremony, becomes an internal error.
pub(super) async fn issue(
    state: &AppState,
    binding: &ChallengeBinding,
    begun: Result<Ceremony, WebauthnError>,
) -> Result<PasskeyOptions, PasskeyError> {
    let ceremony = begun.map_err(|error| ServiceError::Internal(error.into()))?;
    let ttl = state.config.passkeys.timeout;
    state.redis.passkey_challenges.issue(&ceremony.challenge, binding, &ceremony.state, ttl).await?;
    Ok(PasskeyOptions { public_key: ceremony.options, expires_in: ttl.as_secs() })
}
