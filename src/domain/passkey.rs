//! Passkeys: public key credentials of WebAuthn level 3. These types hold only public data; the private key stays in the
//! authenticator.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use uuid::Uuid;

use super::{
    authentication::{AuthenticationMethod, AuthenticationMethods},
    clock::Timestamp,
    ids::{AccountId, PasskeyId},
    text::is_deceptive,
};

/// The id that an authenticator gave to a credential: 1 to 1023 bytes (WebAuthn, section 5.8.3).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CredentialId(Vec<u8>);

impl CredentialId {
    /// The longest id in bytes.
    pub const MAX_LENGTH: usize = 1023;

    /// Wraps an id. Returns `None` if it is empty or longer than [`Self::MAX_LENGTH`].
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (1..=Self::MAX_LENGTH).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialId({self})")
    }
}

/// An AAGUID (Authenticator Attestation GUID, WebAuthn, section 6.5.1): the model of an authenticator, as the authenticator claims it. All
/// zeros if it claims none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aaguid(pub Uuid);

impl fmt::Display for Aaguid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for Aaguid {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// The name that the owner gave to a passkey: 1 to 64 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasskeyName(String);

/// The name of a passkey is empty, too long, or has a character that [`is_deceptive`] finds, such as an invisible one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 characters, none of them invisible")]
pub struct InvalidPasskeyName;

impl PasskeyName {
    /// The longest name in characters.
    pub const MAX_LENGTH: usize = 64;

    /// Parses a name. Blanks at its ends are removed.
    ///
    /// # Errors
    /// [`InvalidPasskeyName`]
    pub fn parse(text: &str) -> Result<Self, InvalidPasskeyName> {
        let text = text.trim();
        let has_valid_length = (1..=Self::MAX_LENGTH).contains(&text.chars().count());
        if has_valid_length && !text.contains(is_deceptive) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPasskeyName)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A registered passkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passkey {
    /// The id in the API.
    pub id: PasskeyId,
    /// The account.
    pub account: AccountId,
    /// The id that the authenticator gave to the credential.
    pub credential: CredentialId,
    /// The public key: a COSE key as CBOR (RFC 9052, section 7).
    pub public_key: Vec<u8>,
    /// The name that the owner gave to the passkey.
    pub name: PasskeyName,
    /// The model of the authenticator.
    pub aaguid: Aaguid,
    /// How the browser may reach the authenticator, separated by spaces: hints such as `internal` and `usb`.
    pub transports: String,
    /// Whether the browser says that the credential can be found without its id, and so used without a username. None if the
    /// browser does not say.
    pub discoverable: Option<bool>,
    /// Whether the private key can leave the authenticator, for a backup or another device. Never changes.
    pub backup_eligible: bool,
    /// Whether there was a copy of the private key at the last use.
    pub backed_up: bool,
    /// The highest signature counter so far; 0 if the authenticator has none. If it does not grow, the key may have been copied.
    pub counter: u32,
    /// The time of the registration.
    pub created_at: Timestamp,
    /// The time of the last sign-in; none before the first.
    pub last_used_at: Option<Timestamp>,
}

impl Passkey {
    /// The methods of an authentication with this passkey (RFC 8176). A key that can be copied counts as a software key.
    /// `user_verified`: whether the authenticator verified the user, for example by a PIN.
    pub const fn methods(&self, user_verified: bool) -> AuthenticationMethods {
        let key =
            if self.backup_eligible { AuthenticationMethod::SoftwareKey } else { AuthenticationMethod::HardwareKey };
        let methods = AuthenticationMethods::only(key).with(AuthenticationMethod::UserPresence);
        // the key and the PIN (or fingerprint) are two factors
        if user_verified { methods.with(AuthenticationMethod::MultipleFactors) } else { methods }
    }
}

/// The changes to a passkey when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasskeyUse {
    /// The signature counter of the response.
    pub counter: u32,
    /// Whether there is a copy of the private key.
    pub backed_up: bool,
    /// The time of the sign-in; none if the sign-in still needs another factor.
    pub used_at: Option<Timestamp>,
}

/// The purpose of a passkey challenge. A response to the challenge works for nothing else (I11, single use).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PasskeyPurpose {
    /// To register a passkey.
    Registration,
    /// To register a passkey during a sign-in, because the account needs a second factor and has none.
    Enrolment,
    /// To sign in without a username.
    SignIn,
    /// To complete a sign-in, as its second factor.
    SecondFactor,
    /// To authenticate a session again.
    StepUp,
}

impl PasskeyPurpose {
    /// All purposes.
    pub const ALL: [Self; 5] = [Self::Registration, Self::Enrolment, Self::SignIn, Self::SecondFactor, Self::StepUp];

    /// The byte that stands for the purpose in Redis.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Registration => b'r',
            Self::Enrolment => b'e',
            Self::SignIn => b's',
            Self::SecondFactor => b'f',
            Self::StepUp => b'u',
        }
    }

    /// The name of the purpose in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registration => "registration",
            Self::Enrolment => "enrolment",
            Self::SignIn => "sign_in",
            Self::SecondFactor => "second_factor",
            Self::StepUp => "step_up",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passkey_name_is_trimmed_and_bounded() {
        assert_eq!(PasskeyName::parse("  Ada's phone ").unwrap().as_str(), "Ada's phone");
        assert!(PasskeyName::parse(&"é".repeat(PasskeyName::MAX_LENGTH)).is_ok());
        let too_long = "x".repeat(PasskeyName::MAX_LENGTH + 1);
        // U+202E reverses the text that follows it
        for invalid in ["", "  ", "a\u{202e}b", "a\nb", &too_long] {
            assert_eq!(PasskeyName::parse(invalid), Err(InvalidPasskeyName), "{invalid:?}");
        }
    }

    #[test]
    fn credential_id_is_bounded() {
        assert!(CredentialId::new(vec![0; CredentialId::MAX_LENGTH]).is_some());
        assert!(CredentialId::new(vec![0; CredentialId::MAX_LENGTH + 1]).is_none());
        assert!(CredentialId::new(vec![]).is_none());
    }

    #[test]
    fn credential_id_is_displayed_in_base64url() {
        // the standard alphabet of base64 would give `+/8=`
        assert_eq!(CredentialId::new(vec![251, 255]).unwrap().to_string(), "-_8");
    }

    #[test]
    fn purposes_have_distinct_bytes() {
        let bytes: std::collections::BTreeSet<_> = PasskeyPurpose::ALL.iter().map(|purpose| purpose.byte()).collect();
        assert_eq!(bytes.len(), PasskeyPurpose::ALL.len());
    }
}
