//! Passkeys: registration, sign-in without a username, second factor and step-up.

mod challenge;
pub mod manage;
pub mod register;
pub mod sign_in;
pub mod verify;

use serde_json::{Map, Value};

use crate::{
    crypto::passkeys::PasskeyCeremonies,
    service::error::{ServiceError, from_store_errors},
    state::AppState,
};

/// The options of a ceremony, for the browser. A ceremony registers a passkey or authenticates with one.
#[derive(Clone, Debug)]
pub struct PasskeyOptions {
    /// `PublicKeyCredentialCreationOptionsJSON` or `PublicKeyCredentialRequestOptionsJSON` (WebAuthn, section 5.1).
    pub public_key: Map<String, Value>,
    /// The lifetime of the challenge in the options, in seconds.
    pub expires_in: u64,
}

/// Why a passkey was refused.
#[derive(Debug, thiserror::Error)]
pub enum PasskeyError {
    /// Passkeys are off, or the issuer has no domain that they could belong to.
    #[error("passkeys are off")]
    Off,
    /// The response of the authenticator is not valid, responds to no live challenge, or is from a passkey that the account can't use
    /// for this purpose. The error does not tell which (I12: no account oracle).
    #[error("the passkey was not accepted")]
    Refused,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(PasskeyError);

/// The origins whose pages can use the passkeys, for `/.well-known/webauthn`. `None` if passkeys are off.
pub fn related_origins(state: &AppState) -> Option<Vec<String>> {
    state.passkeys.as_ref().map(PasskeyCeremonies::related_origins)
}

fn ceremonies(state: &AppState) -> Result<&PasskeyCeremonies, PasskeyError> {
    state.passkeys.as_ref().ok_or(PasskeyError::Off)
}
