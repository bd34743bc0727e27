//! Mails to account owners: templates with their data, recipients, and rows of the outbox.
//!
//! Mails contain no text that another person chose, such as a display name, because anyone can cause a mail to any address. The only
//! exception: notices of changed addresses name an address, because they go to verified addresses of the account only.

mod device;
mod recipient;

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

pub use self::{
    device::Device,
    recipient::{Recipient, RecipientError},
};
use super::{clock::Timestamp, ids::AccountId, locale::Locale, secret::SecretText};

/// Declares the templates with their stable names.
macro_rules! templates {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A template, by its stable name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Template { $($(#[$doc])* $variant,)* }

        impl Template {
            /// All templates.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name, which files of templates, commands, metrics and the outbox use.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

templates! {
    /// Asks the owner of an address to verify it. [`MailData::VerifyAddress`]
    VerifyAddress = "verify_address",
    /// A registration with an address that has an account. [`MailData::AddressTaken`]
    AddressTaken = "address_taken",
    /// A link and a code that set a new password. [`MailData::PasswordReset`]
    PasswordReset = "password_reset",
    /// The password was changed. [`MailData::PasswordChanged`]
    PasswordChanged = "password_changed",
    /// The primary address was changed; sent to the old address. [`MailData::AddressChanged`]
    AddressChanged = "address_changed",
    /// A secondary address was added, removed or made the primary one. [`MailData::SecondaryAddressChanged`]
    SecondaryAddressChanged = "secondary_address_changed",
    /// Asks the owner of a new address to confirm the change. [`MailData::ConfirmAddress`]
    ConfirmAddress = "confirm_address",
    /// A link and a code that sign in. [`MailData::SignInCode`]
    SignInCode = "sign_in_code",
    /// A code that continues a sign-in as its second factor. [`MailData::SecondFactorCode`]
    SecondFactorCode = "second_factor_code",
    /// The account will be deleted. [`MailData::DeletionScheduled`]
    DeletionScheduled = "deletion_scheduled",
    /// An account was created for the owner of the address, who sets its password. [`MailData::Invitation`]
    Invitation = "invitation",
    /// A sign-in from a device that the account didn't know. [`MailData::NewDevice`]
    NewDevice = "new_device",
    /// A session ended because a superseded refresh token was used (I2). [`MailData::SessionReuse`]
    SessionReuse = "session_reuse",
    /// The account was disabled. [`MailData::AccountDisabled`]
    AccountDisabled = "account_disabled",
    /// A second factor was added or removed. [`MailData::FactorChanged`]
    FactorChanged = "factor_changed",
    /// A recovery code was used. [`MailData::RecoveryCodeUsed`]
    RecoveryCodeUsed = "recovery_code_used",
    /// A passkey was refused because there may be a copy of its authenticator. [`MailData::PasskeyCopied`]
    PasskeyCopied = "passkey_copied",
    /// Few recovery codes are left. [`MailData::RecoveryCodesLow`]
    RecoveryCodesLow = "recovery_codes_low",
    /// A test, sent by `latchkey doctor --test-mail`. [`MailData::Test`]
    Test = "test",
}

impl Template {
    /// Whether the mail is a notice: the recipient did not ask for it, and `mail.notices_off` can switch it off. Other mails
    /// are part of a use case, which would not work without them.
    pub const fn is_notice(self) -> bool {
        match self {
            Self::PasswordChanged
            | Self::AddressChanged
            | Self::SecondaryAddressChanged
            | Self::NewDevice
            | Self::SessionReuse
            | Self::AccountDisabled
            | Self::FactorChanged
            | Self::RecoveryCodeUsed
            | Self::PasskeyCopied
            | Self::RecoveryCodesLow => true,
            Self::VerifyAddress
            | Self::AddressTaken
            | Self::PasswordReset
            | Self::ConfirmAddress
            | Self::SignInCode
            | Self::SecondFactorCode
            | Self::DeletionScheduled
            | Self::Invitation
            | Self::Test => false,
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// There is no template of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such template")]
pub struct UnknownTemplate;

impl FromStr for Template {
    type Err = UnknownTemplate;

    fn from_str(text: &str) -> Result<Self, UnknownTemplate> {
        Self::ALL.iter().copied().find(|template| template.as_str() == text).ok_or(UnknownTemplate)
    }
}

/// The id of a mail. A version 7 UUID: ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailId(pub Uuid);

impl fmt::Display for MailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for MailId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// A link, and perhaps a code, that can be used once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkAndCode {
    /// The URL with its token. The settings `mail.links` have its template.
    #[serde(serialize_with = "expose")]
    pub link: SecretText,
    /// The code to type instead of following the link. None for mails that have only a link.
    #[serde(serialize_with = "expose_optional")]
    pub code: Option<SecretText>,
    /// The time at which link and code stop working. The mail is not sent after that time.
    pub expires_at: Timestamp,
}

/// When and from where an action was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionOrigin {
    /// The time of the action.
    pub at: Timestamp,
    /// The client's IP address, if it is known.
    pub address: Option<IpAddr>,
    /// The client's device, if it is recognized.
    pub device: Option<Device>,
}

/// The origin of the action that a notice reports, and the "this wasn't me" link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// When and from where the action was done.
    pub origin: ActionOrigin,
    /// The "this wasn't me" link, which ends all sessions and starts a password reset. None for an action by an admin.
    #[serde(serialize_with = "expose_optional")]
    pub not_me: Option<SecretText>,
}

/// A change of second factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactorChange {
    /// A factor was added.
    Added,
    /// A factor was removed.
    Removed,
}

/// A change of a secondary address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressChange {
    /// The address was added and verified.
    Added,
    /// The address was removed.
    Removed,
    /// The address became the primary one.
    MadePrimary,
}

/// A kind of second factor, as notices name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeFactor {
    /// A passkey.
    Passkey,
    /// An authenticator app.
    Totp,
    /// Recovery codes.
    RecoveryCodes,
    /// Codes by mail.
    EmailCode,
}

/// A mail's template with its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailData {
    /// [`Template::VerifyAddress`]
    VerifyAddress {
        /// The link and the code that verify the address.
        challenge: LinkAndCode,
    },
    /// [`Template::AddressTaken`]
    AddressTaken {
        /// Where the registration came from.
        origin: ActionOrigin,
        /// The URL of a page where the owner can sign in, without a token (`mail.links.sign_in`).
        sign_in: String,
    },
    /// [`Template::PasswordReset`]
    PasswordReset {
        /// The link and the code that set a new password.
        challenge: LinkAndCode,
        /// Where the request came from.
        origin: ActionOrigin,
    },
    /// [`Template::PasswordChanged`]
    PasswordChanged {
        /// The origin of the action, and the "this wasn't me" link.
        notice: Notice,
    },
    /// [`Template::AddressChanged`], to the old address.
    AddressChanged {
        /// The new address.
        new_address: String,
        /// The link that undoes the change, without a code.
        undo: LinkAndCode,
        /// When and from where the address was changed.
        origin: ActionOrigin,
    },
    /// [`Template::SecondaryAddressChanged`]
    SecondaryAddressChanged {
        /// The change.
        change: AddressChange,
        /// The secondary address.
        secondary: String,
        /// The origin of the action, and the "this wasn't me" link.
        notice: Notice,
    },
    /// [`Template::ConfirmAddress`], to the new address.
    ConfirmAddress {
        /// The link and the code that confirm the change.
        challenge: LinkAndCode,
    },
    /// [`Template::SignInCode`]
    SignInCode {
        /// The link and the code that sign in.
        challenge: LinkAndCode,
        /// Where the request came from.
        origin: ActionOrigin,
    },
    /// [`Template::SecondFactorCode`]
    SecondFactorCode {
        /// The code. There is no link: the code is typed where the sign-in began.
        #[serde(serialize_with = "expose")]
        code: SecretText,
        /// The time at which the code stops working. The mail is not sent after that time.
        expires_at: Timestamp,
        /// Where the sign-in came from.
        origin: ActionOrigin,
    },
    /// [`Template::DeletionScheduled`]
    DeletionScheduled {
        /// The time at which the account is deleted, unless its owner signs in before.
        deletes_at: Timestamp,
        /// The URL of a page where the owner can sign in, without a token (`mail.links.sign_in`).
        sign_in: String,
    },
    /// [`Template::Invitation`]
    Invitation {
        /// The link and the code that set the account's first password.
        challenge: LinkAndCode,
    },
    /// [`Template::NewDevice`]
    NewDevice {
        /// The origin of the action, and the "this wasn't me" link.
        notice: Notice,
    },
    /// [`Template::SessionReuse`]
    SessionReuse {
        /// The origin of the action, and the "this wasn't me" link.
        notice: Notice,
    },
    /// [`Template::AccountDisabled`]
    AccountDisabled {
        /// The time at which the account was disabled.
        at: Timestamp,
    },
    /// [`Template::FactorChanged`]
    FactorChanged {
        /// Whether the factor was added or removed.
        change: FactorChange,
        /// The factor.
        factor: NoticeFactor,
        /// The origin of the action, and the "this wasn't me" link.
        notice: Notice,
    },
    /// [`Template::RecoveryCodeUsed`]
    RecoveryCodeUsed {
        /// The number of unused recovery codes.
        remaining: u32,
        /// The origin of the action, and the "this wasn't me" link.
        notice: Notice,
    },
    /// [`Template::PasskeyCopied`]
    PasskeyCopied {
        /// The origin of the action, and the "this wasn't me" link.
        notice: Notice,
    },
    /// [`Template::RecoveryCodesLow`]
    RecoveryCodesLow {
        /// The number of unused recovery codes.
        remaining: u32,
    },
    /// [`Template::Test`]
    Test {
        /// The time at which the test was started.
        at: Timestamp,
    },
}

impl MailData {
    /// The template that this data is for.
    pub const fn template(&self) -> Template {
        match self {
            Self::VerifyAddress { .. } => Template::VerifyAddress,
            Self::AddressTaken { .. } => Template::AddressTaken,
            Self::PasswordReset { .. } => Template::PasswordReset,
            Self::PasswordChanged { .. } => Template::PasswordChanged,
            Self::AddressChanged { .. } => Template::AddressChanged,
            Self::SecondaryAddressChanged { .. } => Template::SecondaryAddressChanged,
            Self::ConfirmAddress { .. } => Template::ConfirmAddress,
            Self::SignInCode { .. } => Template::SignInCode,
            Self::SecondFactorCode { .. } => Template::SecondFactorCode,
            Self::DeletionScheduled { .. } => Template::DeletionScheduled,
            Self::Invitation { .. } => Template::Invitation,
            Self::NewDevice { .. } => Template::NewDevice,
            Self::SessionReuse { .. } => Template::SessionReuse,
            Self::AccountDisabled { .. } => Template::AccountDisabled,
            Self::FactorChanged { .. } => Template::FactorChanged,
            Self::RecoveryCodeUsed { .. } => Template::RecoveryCodeUsed,
            Self::PasskeyCopied { .. } => Template::PasskeyCopied,
            Self::RecoveryCodesLow { .. } => Template::RecoveryCodesLow,
            Self::Test { .. } => Template::Test,
        }
    }

    /// The mail's link and its code, if any. None for a mail with a code only.
    pub const fn challenge(&self) -> Option<&LinkAndCode> {
        match self {
            Self::VerifyAddress { challenge }
            | Self::PasswordReset { challenge, .. }
            | Self::ConfirmAddress { challenge }
            | Self::SignInCode { challenge, .. }
            | Self::Invitation { challenge } => Some(challenge),
            Self::AddressChanged { undo, .. } => Some(undo),
            _ => None,
        }
    }

    /// When the link and the code of the mail stop working. None for a mail with neither. The mail is not sent after that time.
    pub const fn expires_at(&self) -> Option<Timestamp> {
        match (self, self.challenge()) {
            (Self::SecondFactorCode { expires_at, .. }, _) => Some(*expires_at),
            (_, Some(challenge)) => Some(challenge.expires_at),
            _ => None,
        }
    }
}

/// A mail to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The recipient.
    pub to: Recipient,
    /// The language: see [`Locale::choose`].
    pub locale: Locale,
    /// The recipient's IANA time zone, in which the mail shows times. UTC if it is none or unknown.
    pub time_zone: Option<String>,
    /// The account that the mail is about, if there is one.
    pub account: Option<AccountId>,
    /// The template with its data.
    pub data: MailData,
}

/// A [`Mail`] for the outbox, with its data encrypted. `state.mailer` prepares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxMail {
    /// The id.
    pub id: MailId,
    /// The template.
    pub template: Template,
    /// The account that the mail is about.
    pub account: Option<AccountId>,
    /// The recipient.
    pub recipient: Recipient,
    /// The language.
    pub locale: Locale,
    /// The encrypted data.
    pub sealed: Vec<u8>,
    /// The time of the change that the mail reports.
    pub created_at: Timestamp,
    /// The time after which the mail is not sent.
    pub expires_at: Timestamp,
}

/// Serializes a secret in clear text: the outbox stores the data encrypted.
fn expose<S: Serializer>(secret: &SecretText, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// Serializes a secret like [`expose`], if there is one.
fn expose_optional<S: Serializer>(secret: &Option<SecretText>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => serializer.serialize_some(secret.expose()),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_names_are_unique_and_parse() {
        // of two templates with one name, the second would be parsed as the first
        for template in Template::ALL {
            assert_eq!(template.as_str().parse(), Ok(*template));
        }
        assert_eq!("no_such_template".parse::<Template>(), Err(UnknownTemplate));
    }

    #[test]
    fn debug_output_omits_links_and_codes() {
        let challenge = LinkAndCode {
            link: "https://a.example/#token=t0ken".into(),
            code: Some("C0DE".into()),
            expires_at: Timestamp::from_millis(0),
        };
        let text = format!("{:?}", MailData::VerifyAddress { challenge });
        assert!(!text.contains("t0ken") && !text.contains("C0DE"), "{text}");
    }
}
