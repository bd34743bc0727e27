//! Responses of browsers to `navigator.credentials.get` and `create`: parsed, but signatures and challenges not yet checked.

use serde_json::{Map, Value};
use webauthn_rs_core::proto::{CollectedClientData, PublicKeyCredential, RegisterPublicKeyCredential};

use super::{CHALLENGE_LENGTH, PasskeyRefusal};
use crate::domain::passkey::CredentialId;

/// The response to a request for an assertion, unchecked.
#[derive(Clone, Debug)]
pub struct PresentedAssertion {
    pub(super) response: PublicKeyCredential,
    pub(super) challenge: Vec<u8>,
    pub(super) credential: CredentialId,
    /// Whether the page that requested the assertion is embedded in a page of another origin.
    pub(super) is_framed: bool,
}

/// The response to a request for a registration, unchecked.
#[derive(Clone, Debug)]
pub struct PresentedRegistration {
    pub(super) response: RegisterPublicKeyCredential,
    pub(super) challenge: Vec<u8>,
}

impl PresentedAssertion {
    /// Reads the JSON form of `PublicKeyCredential` (WebAuthn, section 5.1).
    ///
    /// # Errors
    /// [`PasskeyRefusal::Malformed`]
    pub fn parse(json: Map<String, Value>) -> Result<Self, PasskeyRefusal> {
        let response: PublicKeyCredential =
            serde_json::from_value(Value::Object(json)).map_err(|_| PasskeyRefusal::Malformed)?;
        let (challenge, is_framed) = read_client_data(&response.response.client_data_json)?;
        let credential = CredentialId::new(response.raw_id.clone()).ok_or(PasskeyRefusal::Malformed)?;
        if response.type_ != "public-key" {
            return Err(PasskeyRefusal::Malformed);
        }
        Ok(Self { response, challenge, credential, is_framed })
    }

    /// The challenge that the response is for: [`CHALLENGE_LENGTH`] bytes.
    pub fn challenge(&self) -> &[u8] {
        &self.challenge
    }

    /// The id of the credential that signed the response.
    pub fn credential(&self) -> &CredentialId {
        &self.credential
    }

    /// The account that the authenticator stored with the credential; `None` if it stored no account.
    pub fn user_handle(&self) -> Option<&[u8]> {
        // Some clients send an empty handle for a credential without a handle.
        self.response.get_user_unique_id().filter(|handle| !handle.is_empty())
    }
}

impl PresentedRegistration {
    /// Reads the JSON form of `PublicKeyCredential` (WebAuthn, section 5.1).
    ///
    /// # Errors
    /// [`PasskeyRefusal::Malformed`]
    pub fn parse(json: Map<String, Value>) -> Result<Self, PasskeyRefusal> {
        let response: RegisterPublicKeyCredential =
            serde_json::from_value(Value::Object(json)).map_err(|_| PasskeyRefusal::Malformed)?;
        // At registrations, webauthn-rs-core checks that the page is not framed.
        let (challenge, _is_framed) = read_client_data(&response.response.client_data_json)?;
        if response.type_ != "public-key" {
            return Err(PasskeyRefusal::Malformed);
        }
        Ok(Self { response, challenge })
    }

    /// The challenge that the response is for: [`CHALLENGE_LENGTH`] bytes.
    pub fn challenge(&self) -> &[u8] {
        &self.challenge
    }
}

/// Reads the challenge, and whether the requesting page is embedded in a page of another origin.
fn read_client_data(client_data: &[u8]) -> Result<(Vec<u8>, bool), PasskeyRefusal> {
    let data: CollectedClientData = serde_json::from_slice(client_data).map_err(|_| PasskeyRefusal::Malformed)?;
    let challenge: &[u8] = data.challenge.as_ref();
    if challenge.len() != CHALLENGE_LENGTH {
        return Err(PasskeyRefusal::Malformed);
    }
    // webauthn-rs-core does not know `topOrigin`, a member of WebAuthn level 3. Browsers send it for embedded pages only.
    let is_framed = data.cross_origin.unwrap_or(false) || data.unknown_keys.contains_key("topOrigin");
    Ok((challenge.to_vec(), is_framed))
}
