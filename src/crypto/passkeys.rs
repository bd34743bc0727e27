//! The ceremonies of WebAuthn level 3: options for browsers, and the checks of authenticators' responses.
//!
//! `webauthn-rs-core` does the checks. Its high-level crate, `webauthn-rs`, always requires user verification and never discoverable
//! credentials, so this module uses the core and decides both itself. A passkey may be registered without user verification, as a
//! second factor, and [`Assertion::user_verified`] decides the level (`acr`) of an authentication.

mod response;

use serde_json::{Map, Value};
use url::Url;
use webauthn_rs_core::{
    WebauthnCore,
    error::WebauthnError,
    proto::{
        AttestationConveyancePreference, AttestationFormat, AuthenticationState, AuthenticatorTransport, COSEKey,
        Credential, ParsedAttestation, RegisteredExtensions, RegistrationState, RequestRegistrationExtensions,
        ResidentKeyRequirement, UserVerificationPolicy,
    },
};

pub use self::response::{PresentedAssertion, PresentedRegistration};
use crate::{
    config::{PasskeySettings, RelyingParty, UserVerification},
    domain::{
        ids::AccountId,
        passkey::{Aaguid, CredentialId, Passkey},
    },
};

/// The length of a challenge in bytes.
pub const CHALLENGE_LENGTH: usize = 32;

/// Why the response of an authenticator was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasskeyRefusal {
    /// The response can't be parsed, or fails a check that has no reason of its own here.
    #[error("the response can't be read")]
    Malformed,
    /// The response belongs to another challenge.
    #[error("the challenge does not match")]
    Challenge,
    /// The response was requested by a page or app whose origin is not allowed, or by a page that is framed by another origin.
    #[error("the origin is not allowed")]
    Origin,
    /// The authenticator signed for another relying party.
    #[error("the relying party does not match")]
    RelyingParty,
    /// The user was not present, or was not verified where this is required.
    #[error("the user was not verified")]
    UserVerification,
    /// The signature is wrong, or another key made it.
    #[error("the signature is wrong")]
    Signature,
    /// The signature counter did not grow: there may be a copy of the authenticator.
    #[error("the signature counter did not grow")]
    Counter,
    /// The authenticator contradicts what it said at the registration about whether its key can be copied.
    #[error("the backup flags contradict the registration")]
    BackupFlags,
    /// The model of the authenticator is not among the allowed ones.
    #[error("the model is not allowed")]
    Model,
    /// The kind of key or attestation is not supported.
    #[error("the kind of key or attestation is not supported")]
    Unsupported,
}

impl PasskeyRefusal {
    /// The text in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Challenge => "wrong_challenge",
            Self::Origin => "wrong_origin",
            Self::RelyingParty => "wrong_relying_party",
            Self::UserVerification => "user_not_verified",
            Self::Signature => "wrong_signature",
            Self::Counter => "counter_went_backwards",
            Self::BackupFlags => "backup_flags_changed",
            Self::Model => "model_not_allowed",
            Self::Unsupported => "unsupported",
        }
    }
}

impl From<WebauthnError> for PasskeyRefusal {
    fn from(error: WebauthnError) -> Self {
        match error {
            WebauthnError::MismatchedChallenge => Self::Challenge,
            WebauthnError::InvalidRPOrigin | WebauthnError::CredentialCrossOrigin => Self::Origin,
            WebauthnError::InvalidRPIDHash => Self::RelyingParty,
            WebauthnError::UserNotPresent | WebauthnError::UserNotVerified => Self::UserVerification,
            WebauthnError::AuthenticationFailure | WebauthnError::CredentialNotFound => Self::Signature,
            WebauthnError::CredentialPossibleCompromise => Self::Counter,
            WebauthnError::CredentialBackupEligibilityInconsistent | WebauthnError::CredentialMayNotBeHardwareBound => {
                Self::BackupFlags
            }
            WebauthnError::AttestationNotSupported | WebauthnError::CredentialAlteredAlgFromRequest => {
                Self::Unsupported
            }
            _ => Self::Malformed,
        }
    }
}

/// A ceremony that has begun.
#[derive(Clone, Debug)]
pub struct Ceremony {
    /// The options for `navigator.credentials`, in the JSON form of WebAuthn level 3.
    pub options: Map<String, Value>,
    /// The challenge: 32 random bytes.
    pub challenge: Vec<u8>,
    /// The state, as JSON, to pass to the method that finishes the ceremony.
    pub state: Vec<u8>,
}

/// The owner of a new passkey, as authenticators show the owner.
#[derive(Clone, Copy, Debug)]
pub struct PasskeyOwner<'a> {
    /// The account: the user handle of the passkey.
    pub account: AccountId,
    /// The identifier to sign in with.
    pub name: &'a str,
    /// The display name.
    pub display_name: &'a str,
}

/// A credential that an authenticator has created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCredential {
    /// The credential's id.
    pub credential: CredentialId,
    /// The public key: a COSE key as CBOR.
    pub public_key: Vec<u8>,
    /// The model that the authenticator claims to be.
    pub aaguid: Aaguid,
    /// Transport hints, separated by spaces.
    pub transports: String,
    /// Whether the browser says that the credential is discoverable. None if the browser does not say.
    pub discoverable: Option<bool>,
    /// Whether the key can be copied.
    pub backup_eligible: bool,
    /// Whether there is a copy of the key.
    pub backed_up: bool,
    /// The signature counter.
    pub counter: u32,
    /// Whether the authenticator has verified its user.
    pub user_verified: bool,
}

/// The signed statements of a valid assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// Whether the authenticator has verified its user, by a PIN or biometrics.
    pub user_verified: bool,
    /// Whether there is a copy of the key.
    pub backed_up: bool,
    /// The signature counter.
    pub counter: u32,
}

/// Begins and ends ceremonies for one relying party.
pub struct PasskeyCeremonies {
    core: WebauthnCore,
    origins: Vec<String>,
    /// The user verification of sign-ins without a username: required or preferred.
    sign_in_policy: UserVerificationPolicy,
    /// The models of authenticators that can be registered. If empty, all models can.
    allowed_aaguids: Vec<Aaguid>,
}

impl PasskeyCeremonies {
    /// Ceremonies for this relying party. Authenticators show `name` as the name of the service.
    pub fn new(relying_party: &RelyingParty, settings: &PasskeySettings, name: &str) -> Self {
        let RelyingParty { id, origins } = relying_party;
        // The list of origins is exact: no subdomains and no other ports are allowed.
        let (allow_subdomains, allow_any_port) = (Some(false), Some(false));
        Self {
            core: WebauthnCore::new_unsafe_experts_only(
                name,
                id,
                origins.iter().filter_map(|origin| Url::parse(origin).ok()).collect(),
                settings.timeout,
                allow_subdomains,
                allow_any_port,
            ),
            origins: origins.clone(),
            sign_in_policy: match settings.user_verification {
                UserVerification::Required => UserVerificationPolicy::Required,
                UserVerification::Preferred => UserVerificationPolicy::Preferred,
            },
            allowed_aaguids: settings.allowed_aaguids.clone(),
        }
    }

    /// The origins of web pages that can use the passkeys (WebAuthn, section 5.11). The other origins belong to Android apps.
    pub fn related_origins(&self) -> Vec<String> {
        self.origins.iter().filter(|origin| origin.starts_with("http")).cloned().collect()
    }

    /// Begins a registration. The account's passkeys are excluded, so that no authenticator is registered twice.
    ///
    /// # Errors
    /// [`WebauthnError`] if a name is empty.
    pub fn begin_registration(&self, owner: PasskeyOwner<'_>, existing: &[Passkey]) -> Result<Ceremony, WebauthnError> {
        // Unless attestation is requested, browsers may replace the model of the authenticator by zeros.
        let attestation = if self.allowed_aaguids.is_empty() {
            AttestationConveyancePreference::None
        } else {
            AttestationConveyancePreference::Direct
        };
        let builder = self
            .core
            .new_challenge_register_builder(owner.account.as_bytes(), owner.name, owner.display_name)?
            .attestation(attestation)
            .user_verification_policy(UserVerificationPolicy::Preferred)
            .exclude_credentials(Some(existing.iter().map(|passkey| passkey.credential.as_bytes().to_vec()).collect()))
            .extensions(Some(RequestRegistrationExtensions {
                cred_protect: None,
                uvm: None,
                // The browser says whether the credential is discoverable.
                cred_props: Some(true),
                min_pin_length: None,
                hmac_create_secret: None,
            }));
        let (mut begun, state) = self.core.generate_challenge_register(builder)?;
        if let Some(selection) = &mut begun.public_key.authenticator_selection {
            // Not required: a security key without room for another discoverable credential still serves as a second factor.
            selection.resident_key = Some(ResidentKeyRequirement::Preferred);
        }
        let challenge: &[u8] = begun.public_key.challenge.as_ref();
        Ok(Ceremony { challenge: challenge.to_vec(), options: to_object(&begun.public_key), state: to_json(&state) })
    }

    /// Ends a registration.
    ///
    /// # Errors
    /// [`PasskeyRefusal`]
    pub fn finish_registration(
        &self,
        state: &[u8],
        presented: &PresentedRegistration,
    ) -> Result<NewCredential, PasskeyRefusal> {
        let state: RegistrationState = serde_json::from_slice(state).map_err(|_| PasskeyRefusal::Malformed)?;
        // No certificate authorities are trusted: the model is what the authenticator claims to be.
        let attestation_authorities = None;
        let registered = self.core.register_credential(&presented.response, &state, attestation_authorities)?;
        let (aaguid, public_key) = read_attested_data(&presented.response.response.attestation_object)?;
        if !self.allowed_aaguids.is_empty() && !self.allowed_aaguids.contains(&aaguid) {
            return Err(PasskeyRefusal::Model);
        }
        let all_hints = presented.response.response.transports.iter().flatten();
        let known_hints =
            all_hints.filter(|hint| !matches!(hint, AuthenticatorTransport::Unknown | AuthenticatorTransport::Test));
        let mut transports: Vec<&str> = known_hints.map(AsRef::as_ref).collect();
        transports.sort_unstable();
        transports.dedup();
        Ok(NewCredential {
            credential: CredentialId::new(registered.cred_id).ok_or(PasskeyRefusal::Malformed)?,
            public_key,
            aaguid,
            transports: transports.join(" "),
            discoverable: presented.response.extensions.cred_props.as_ref().and_then(|properties| properties.rk),
            backup_eligible: registered.backup_eligible,
            backed_up: registered.backup_state,
            counter: registered.counter,
            user_verified: registered.user_verified,
        })
    }

    /// Begins a sign-in without a username: any discoverable passkey of the relying party can respond. With
    /// `passkeys.user_verification = "required"`, the authenticator must verify its user.
    ///
    /// # Errors
    /// [`WebauthnError`]
    pub fn begin_sign_in(&self) -> Result<Ceremony, WebauthnError> {
        self.begin(&[], self.sign_in_policy)
    }

    /// Begins an authentication with one of these passkeys. The authenticator verifies its user if it can.
    ///
    /// # Errors
    /// [`WebauthnError`]
    pub fn begin_authentication(&self, passkeys: &[Passkey]) -> Result<Ceremony, WebauthnError> {
        self.begin(passkeys, UserVerificationPolicy::Preferred)
    }

    fn begin(&self, passkeys: &[Passkey], policy: UserVerificationPolicy) -> Result<Ceremony, WebauthnError> {
        let credentials = passkeys.iter().map(to_credential).collect::<Result<Vec<_>, _>>()?;
        let builder = self.core.new_challenge_authenticate_builder(credentials, Some(policy))?;
        let (begun, mut state) = self.core.generate_challenge_authenticate(builder)?;
        // The state names no passkeys, because a passkey may be removed before the response arrives: `finish_authentication` gets
        // the passkey as it is stored then.
        state.set_allowed_credentials(Vec::new());
        let challenge: &[u8] = begun.public_key.challenge.as_ref();
        Ok(Ceremony { challenge: challenge.to_vec(), options: to_object(&begun.public_key), state: to_json(&state) })
    }

    /// Ends an authentication: checks challenge, origin, relying party, flags, signature and counter against the passkey.
    ///
    /// # Errors
    /// [`PasskeyRefusal`]
    pub fn finish_authentication(
        &self,
        state: &[u8],
        presented: &PresentedAssertion,
        passkey: &Passkey,
    ) -> Result<Assertion, PasskeyRefusal> {
        // The core checks this at registrations only (WebAuthn, section 7.2, step 12).
        if presented.is_framed {
            return Err(PasskeyRefusal::Origin);
        }
        let state: AuthenticationState = serde_json::from_slice(state).map_err(|_| PasskeyRefusal::Malformed)?;
        let credential = to_credential(passkey)?;
        let result = self.core.authenticate_single_credential(&presented.response, &state, &credential)?;
        Ok(Assertion {
            user_verified: result.user_verified(),
            backed_up: result.backup_state(),
            counter: result.counter(),
        })
    }
}

/// Converts a passkey to the form that webauthn-rs checks. User verification at the registration does not matter: the signed flags of
/// each authentication decide.
fn to_credential(passkey: &Passkey) -> Result<Credential, WebauthnError> {
    let key: serde_cbor_2::Value =
        serde_cbor_2::from_slice(&passkey.public_key).map_err(WebauthnError::ParseCBORFailure)?;
    let transports: Vec<_> = passkey.transports.split(' ').filter_map(|hint| hint.parse().ok()).collect();
    Ok(Credential {
        cred_id: passkey.credential.as_bytes().to_vec(),
        cred: COSEKey::try_from(&key)?,
        counter: passkey.counter,
        transports: Some(transports).filter(|hints| !hints.is_empty()),
        user_verified: false,
        backup_eligible: passkey.backup_eligible,
        backup_state: passkey.backed_up,
        registration_policy: UserVerificationPolicy::Preferred,
        extensions: RegisteredExtensions::none(),
        attestation: ParsedAttestation::default(),
        attestation_format: AttestationFormat::None,
    })
}

/// The model and the public key in an attestation object that the core has checked (WebAuthn, section 6.5.1).
fn read_attested_data(attestation_object: &[u8]) -> Result<(Aaguid, Vec<u8>), PasskeyRefusal> {
    /// The part of an attestation object that this module reads.
    #[derive(serde::Deserialize)]
    struct AttestationObject<'a> {
        #[serde(rename = "authData")]
        auth_data: &'a [u8],
    }

    /// The position of the AAGUID: after the hash of the relying party's id, the flags and the counter.
    const AAGUID_OFFSET: usize = 32 + 1 + 4;
    let object: AttestationObject<'_> =
        serde_cbor_2::from_slice(attestation_object).map_err(|_| PasskeyRefusal::Malformed)?;
    let parse_auth_data = || {
        let (aaguid, rest) = object.auth_data.get(AAGUID_OFFSET..)?.split_first_chunk::<16>()?;
        let (id_length, rest) = rest.split_first_chunk::<2>()?;
        let key = rest.get(usize::from(u16::from_be_bytes(*id_length))..)?;
        let key: serde_cbor_2::Value =
            serde::Deserialize::deserialize(&mut serde_cbor_2::Deserializer::from_slice(key)).ok()?;
        // Encoded again, because extensions may follow the key.
        let key = serde_cbor_2::to_vec(&key).ok()?;
        Some((Aaguid(uuid::Uuid::from_bytes(*aaguid)), key))
    };
    parse_auth_data().ok_or(PasskeyRefusal::Malformed)
}

/// Serializes options to a JSON object.
fn to_object(value: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(), // can't happen: options can be serialized, and are an object
    }
}

/// Serializes the state of a ceremony to JSON.
fn to_json(state: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(state).expect("the state of a ceremony can be serialized")
}
