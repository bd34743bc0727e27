//! Second factors: proofs that an account's owner shows besides the first, such as the password.

use std::fmt;

use super::account::Roles;

/// A kind of second factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FactorKind {
    /// A code of an authenticator app (RFC 6238).
    Totp = 0,
    /// A passkey (WebAuthn).
    Passkey = 1,
    /// A code that the owner keeps for the loss of other factors.
    RecoveryCode = 2,
    /// A code of a mail.
    EmailCode = 3,
}

impl FactorKind {
    /// All kinds. The position of a kind is its bit in [`Factors`].
    pub const ALL: [Self; 4] = [Self::Totp, Self::Passkey, Self::RecoveryCode, Self::EmailCode];

    /// The name in the API and in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Passkey => "passkey",
            Self::RecoveryCode => "recovery_code",
            Self::EmailCode => "email_code",
        }
    }

    /// Parses the text of [`FactorKind::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The bit of the kind in [`Factors`].
    const fn bit(self) -> u32 {
        1 << (self as u8)
    }
}

/// The bit of [`Factors`] that suspends codes by mail.
const EMAIL_CODE_SUSPENDED: u32 = 1 << 31;

/// The kinds of factors that an account has, as a bit set: the column `accounts.factors`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Factors(u32);

impl Factors {
    /// No factor.
    pub const NONE: Self = Self(0);

    /// The set with the kind, or without it if it is not `present`.
    #[must_use]
    pub const fn set(self, kind: FactorKind, present: bool) -> Self {
        let bits = if present { self.0 | kind.bit() } else { self.0 & !kind.bit() };
        // Switching codes by mail on or off ends their suspension.
        Self(if matches!(kind, FactorKind::EmailCode) { bits & !EMAIL_CODE_SUSPENDED } else { bits })
    }

    /// The set with codes by mail suspended or resumed. Without codes by mail, the result is never suspended.
    ///
    /// A password that was set with a mail proves only the mailbox, as a code by mail does. Such a password and a code are one
    /// factor, so the codes are suspended until the owner shows another factor beside that password.
    #[must_use]
    pub const fn with_email_code_suspended(self, suspended: bool) -> Self {
        let suspends = suspended && self.contains(FactorKind::EmailCode);
        Self(if suspends { self.0 | EMAIL_CODE_SUSPENDED } else { self.0 & !EMAIL_CODE_SUSPENDED })
    }

    /// Whether codes by mail are suspended.
    pub const fn is_email_code_suspended(self) -> bool {
        self.0 & EMAIL_CODE_SUSPENDED != 0
    }

    /// Whether the account has a factor of the kind.
    pub const fn contains(self, kind: FactorKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Whether the account has a factor of the level `aal2`: an authenticator app or a passkey. Recovery codes only replace
    /// another factor, and codes by mail are weaker.
    pub const fn has_aal2_factor(self) -> bool {
        self.contains(FactorKind::Totp) || self.contains(FactorKind::Passkey)
    }

    /// Whether the account has a factor of any level. Recovery codes alone are none. Suspended codes by mail count: sign-ins
    /// still need a second factor.
    pub const fn has_any(self) -> bool {
        self.has_aal2_factor() || self.contains(FactorKind::EmailCode)
    }

    /// The kinds.
    pub fn kinds(self) -> impl Iterator<Item = FactorKind> {
        FactorKind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }

    /// The bits in the database.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Reads the bits of the database. Bits of kinds that this release does not know are kept.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for Factors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suspended = self.is_email_code_suspended().then_some("email_code suspended");
        f.debug_set().entries(self.kinds().map(FactorKind::as_str).chain(suspended)).finish()
    }
}

/// The accounts that must have a second factor (`factors.required`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FactorPolicy {
    /// No account.
    #[default]
    NoAccount,
    /// All accounts.
    AllAccounts,
    /// Accounts with one of these roles.
    Roles(Roles),
}

impl FactorPolicy {
    /// Whether an account with these roles must have a second factor.
    pub fn applies_to(&self, roles: &Roles) -> bool {
        match self {
            Self::NoAccount => false,
            Self::AllAccounts => true,
            Self::Roles(required) => required.names().iter().any(|role| roles.contains(role)),
        }
    }
}

/// The number of changes to the factors of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FactorsVersion(pub u32);

impl FactorsVersion {
    /// The next version.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_round_trip_through_bits_and_keep_unknown_ones() {
        let factors = Factors::NONE.set(FactorKind::Totp, true).set(FactorKind::RecoveryCode, true);
        assert_eq!(Factors::from_bits(factors.bits()), factors);
        assert_eq!(factors.kinds().map(FactorKind::as_str).collect::<Vec<_>>(), ["totp", "recovery_code"]);
        assert_eq!(factors.set(FactorKind::Totp, false), Factors::NONE.set(FactorKind::RecoveryCode, true));
        // 1 is the bit of TOTP, and 0x100 that of a kind that this release does not know.
        assert_eq!(Factors::from_bits(0x100 | 1).set(FactorKind::Totp, false).bits(), 0x100);
        for (position, kind) in FactorKind::ALL.into_iter().enumerate() {
            assert_eq!(Factors::NONE.set(kind, true).bits(), 1 << position);
            assert_eq!(FactorKind::parse(kind.as_str()), Some(kind));
        }
    }

    #[test]
    fn policy_by_role_applies_to_accounts_with_one_of_the_roles() {
        let roles = |names: &[&str]| Roles::parse(names).unwrap();
        let policy = FactorPolicy::Roles(roles(&["admin", "ops"]));
        assert!(policy.applies_to(&roles(&["support", "ops"])));
        assert!(!policy.applies_to(&roles(&["support"])));
        assert!(!policy.applies_to(&Roles::default()), "an account without roles");
        assert!(FactorPolicy::AllAccounts.applies_to(&Roles::default()));
        assert!(!FactorPolicy::NoAccount.applies_to(&roles(&["admin"])));
    }

    #[test]
    fn recovery_codes_alone_are_no_factor_and_codes_by_mail_are_below_aal2() {
        let only = |kind| Factors::NONE.set(kind, true);
        assert!(!only(FactorKind::RecoveryCode).set(FactorKind::EmailCode, true).has_aal2_factor());
        assert!(only(FactorKind::Totp).has_aal2_factor());
        assert!(only(FactorKind::Passkey).has_aal2_factor());
        assert!(only(FactorKind::EmailCode).has_any());
        assert!(!only(FactorKind::RecoveryCode).has_any());
    }

    #[test]
    fn suspension_of_codes_by_mail_is_stored_and_ends_when_they_are_switched_on_again() {
        let factors = Factors::NONE.set(FactorKind::RecoveryCode, true);
        assert_eq!(factors.with_email_code_suspended(true), factors, "there is nothing to suspend");
        let suspended = factors.set(FactorKind::EmailCode, true).with_email_code_suspended(true);
        let read = Factors::from_bits(suspended.bits());
        assert!(read.is_email_code_suspended());
        assert!(read.has_any(), "suspended codes by mail are still a factor of the account");
        assert_eq!(read.kinds().count(), 2, "the bit of the suspension is not a kind");
        assert!(read.set(FactorKind::Totp, true).is_email_code_suspended());
        assert!(!read.with_email_code_suspended(false).is_email_code_suspended());
        assert!(!read.set(FactorKind::EmailCode, true).is_email_code_suspended());
        assert!(!read.set(FactorKind::EmailCode, false).is_email_code_suspended());
    }
}
