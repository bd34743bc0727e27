//! One-time tokens: the links and codes of mails. A token is issued for a purpose, an account and the current state of the
//! account. It works once, and stops working when that state changes (I11).

use std::time::Duration;

use super::{clock::Timestamp, ids::AccountId};

/// The number of wrong codes after which the code of a mail stops working. The link of the mail still works, so that attackers
/// who guess codes do not lock the owner out.
pub const CODE_ATTEMPTS: u8 = 5;

/// The purpose of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenPurpose {
    /// Verifies the account's primary address.
    VerifyEmail,
    /// Makes a new address the primary one.
    ChangeEmail,
    /// Verifies a secondary address of the account.
    AddEmail,
    /// Sets a new password.
    ResetPassword,
    /// Sets the first password of an invited account.
    Invitation,
    /// Signs in.
    Login,
    /// Makes a former address the primary one again.
    UndoEmailChange,
    /// Ends all sessions and starts a password reset: "this wasn't me".
    SecureAccount,
    /// Continues a sign-in as its second factor: a code, without a link.
    SecondFactor,
}

impl TokenPurpose {
    /// All purposes.
    pub const ALL: [Self; 9] = [
        Self::VerifyEmail,
        Self::ChangeEmail,
        Self::AddEmail,
        Self::ResetPassword,
        Self::Invitation,
        Self::Login,
        Self::UndoEmailChange,
        Self::SecureAccount,
        Self::SecondFactor,
    ];

    /// The name in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ChangeEmail => "change_email",
            Self::AddEmail => "add_email",
            Self::ResetPassword => "reset_password",
            Self::Invitation => "invitation",
            Self::Login => "login",
            Self::UndoEmailChange => "undo_email_change",
            Self::SecureAccount => "secure_account",
            Self::SecondFactor => "second_factor",
        }
    }

    /// The byte that stands for the purpose in tokens and in Redis.
    pub const fn byte(self) -> u8 {
        match self {
            Self::VerifyEmail => b'v',
            Self::ChangeEmail => b'c',
            Self::AddEmail => b'a',
            Self::ResetPassword => b'r',
            Self::Invitation => b'i',
            Self::Login => b'l',
            Self::UndoEmailChange => b'u',
            Self::SecureAccount => b's',
            Self::SecondFactor => b'f',
        }
    }

    /// Reads the byte of [`Self::byte`]; `None` for any other byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.byte() == byte)
    }

    /// How long a token works. For [`Self::UndoEmailChange`] this is the default of `account.undo_window`, which the configuration
    /// may replace.
    pub const fn ttl(self) -> Duration {
        match self {
            Self::VerifyEmail | Self::AddEmail => Duration::from_hours(24),
            Self::ChangeEmail | Self::ResetPassword => Duration::from_hours(1),
            Self::Invitation => Duration::from_hours(7 * 24),
            Self::Login | Self::SecondFactor => Duration::from_mins(10),
            Self::UndoEmailChange | Self::SecureAccount => Duration::from_hours(72),
        }
    }

    /// The maximum number of live tokens of an account for this purpose. A further token replaces the oldest.
    pub const fn max_live(self) -> u32 {
        match self {
            // Each token belongs to a mail about a different event or address.
            Self::UndoEmailChange | Self::SecureAccount | Self::AddEmail => 8,
            // One for each pending sign-in, so that an attacker who knows the password does not replace the owner's token. The
            // mails are limited (`limits.factor_mail_per_account`).
            Self::SecondFactor => 64,
            _ => 3,
        }
    }
}

/// A digest of the account's state for which a token was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding(pub [u8; 16]);

/// A token as the store holds it: digests only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// The account.
    pub account: AccountId,
    /// The purpose.
    pub purpose: TokenPurpose,
    /// The keyed digest of the link's token.
    pub link: [u8; 32],
    /// The keyed digest of the code.
    pub code: [u8; 32],
    /// The account's state that the token was issued for.
    pub binding: Binding,
    /// When the token was issued.
    pub issued_at: Timestamp,
    /// When the token stops working.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_have_distinct_bytes() {
        for purpose in TokenPurpose::ALL {
            assert_eq!(TokenPurpose::from_byte(purpose.byte()), Some(purpose));
        }
        let unused = b'x';
        assert_eq!(TokenPurpose::from_byte(unused), None);
    }
}
