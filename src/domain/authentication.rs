//! How and when the user of a session authenticated.

use std::{fmt, time::Duration};

use super::clock::Timestamp;

/// An authentication method, by its name in RFC 8176, section 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AuthenticationMethod {
    /// A password.
    Password = 0,
    /// A one-time code.
    OneTimePassword = 1,
    /// Possession of a key in hardware.
    HardwareKey = 2,
    /// Possession of a key in software.
    SoftwareKey = 3,
    /// The device has verified that the user is present.
    UserPresence = 4,
    /// A PIN or a pattern that the device has verified.
    Pin = 5,
    /// Several factors.
    MultipleFactors = 6,
    /// Several channels, such as a browser and a mailbox.
    MultipleChannels = 7,
}

impl AuthenticationMethod {
    /// All methods. The position of a method is its bit in a session record.
    pub const ALL: [Self; 8] = [
        Self::Password,
        Self::OneTimePassword,
        Self::HardwareKey,
        Self::SoftwareKey,
        Self::UserPresence,
        Self::Pin,
        Self::MultipleFactors,
        Self::MultipleChannels,
    ];

    /// The value in the claim `amr` (RFC 8176, section 2).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "pwd",
            Self::OneTimePassword => "otp",
            Self::HardwareKey => "hwk",
            Self::SoftwareKey => "swk",
            Self::UserPresence => "user",
            Self::Pin => "pin",
            Self::MultipleFactors => "mfa",
            Self::MultipleChannels => "mca",
        }
    }
}

/// A set of authentication methods.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct AuthenticationMethods(u16);

impl AuthenticationMethods {
    /// A password alone.
    pub const PASSWORD: Self = Self::only(AuthenticationMethod::Password);

    /// A set of one method.
    pub const fn only(method: AuthenticationMethod) -> Self {
        Self(1 << method as u8)
    }

    /// The set with one more method.
    #[must_use]
    pub const fn with(self, method: AuthenticationMethod) -> Self {
        Self(self.0 | Self::only(method).0)
    }

    /// Whether the set has the method.
    pub const fn contains(self, method: AuthenticationMethod) -> bool {
        self.0 & Self::only(method).0 != 0
    }

    /// The bits of a session record.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Reads the bits of a session record. Bits of methods that this release does not know are kept.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The methods, in the order of [`AuthenticationMethod::ALL`].
    pub fn iter(self) -> impl Iterator<Item = AuthenticationMethod> {
        AuthenticationMethod::ALL.into_iter().filter(move |method| self.contains(*method))
    }

    /// The claim `amr` (RFC 8176).
    pub fn amr(self) -> Vec<String> {
        self.iter().map(|method| method.as_str().to_owned()).collect()
    }
}

impl fmt::Debug for AuthenticationMethods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(AuthenticationMethod::as_str)).finish()
    }
}

/// An authentication context class: the assurance level of NIST SP 800-63B. A higher level is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Acr {
    /// One factor.
    #[default]
    Aal1 = 1,
    /// Two factors.
    Aal2 = 2,
    /// A key in hardware and a second factor.
    Aal3 = 3,
}

impl Acr {
    /// All levels, the lowest first.
    pub const ALL: [Self; 3] = [Self::Aal1, Self::Aal2, Self::Aal3];

    /// The value of the claim `acr`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aal1 => "aal1",
            Self::Aal2 => "aal2",
            Self::Aal3 => "aal3",
        }
    }

    /// Parses the text of [`Acr::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|acr| acr.as_str() == text)
    }

    /// The byte of a session record.
    pub const fn level(self) -> u8 {
        self as u8
    }

    /// Reads the byte of a session record. An unknown level counts as the lowest, because a level must not be overstated.
    pub fn from_level(level: u8) -> Self {
        Self::ALL.into_iter().find(|acr| acr.level() == level).unwrap_or_default()
    }
}

/// The last authentication of a session's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// The time of the authentication: the claim `auth_time`.
    pub at: Timestamp,
    /// The methods: the claim `amr`.
    pub methods: AuthenticationMethods,
    /// The level that they reach: the claim `acr`.
    pub acr: Acr,
}

impl Authentication {
    /// The effective authentication of a session at `now`: combines the authentication at sign-in (`self`) with the last step-up.
    ///
    /// Until `ttl` after the step-up, the result is the step-up. Later, the result has the time of the step-up, but the methods and
    /// the level of the authentication with the lower level, or of the sign-in if the levels are equal. So a strong sign-in long ago
    /// and a weak step-up do not add up to a strong and recent authentication.
    #[must_use]
    pub fn with_step_up(self, step_up: Option<Self>, ttl: Duration, now: Timestamp) -> Self {
        let Some(step_up) = step_up else { return self };
        let counts_in_full = now < step_up.at + ttl;
        if counts_in_full || step_up.acr < self.acr { step_up } else { Self { at: step_up.at, ..self } }
    }

    /// A sign-in by password alone.
    pub const fn by_password(at: Timestamp) -> Self {
        Self { at, methods: AuthenticationMethods::PASSWORD, acr: Acr::Aal1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_round_trip_through_bits_and_keep_unknown_ones() {
        let methods = AuthenticationMethods::PASSWORD.with(AuthenticationMethod::OneTimePassword);
        assert_eq!(methods.amr(), ["pwd", "otp"]);
        assert_eq!(AuthenticationMethods::from_bits(methods.bits()), methods);
        // No method has the highest bit.
        let password_and_unknown = 0x8001;
        assert_eq!(AuthenticationMethods::from_bits(password_and_unknown).bits(), password_and_unknown);
        for (position, method) in AuthenticationMethod::ALL.into_iter().enumerate() {
            assert_eq!(AuthenticationMethods::only(method).bits(), 1 << position);
        }
    }

    #[test]
    fn step_up_counts_for_its_ttl_and_its_end_never_raises_the_level() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let ttl = Duration::from_secs(100);
        let password = Authentication::by_password(at(0));
        let two_factors = |seconds| Authentication {
            at: at(seconds),
            methods: AuthenticationMethods::PASSWORD.with(AuthenticationMethod::OneTimePassword),
            acr: Acr::Aal2,
        };
        assert_eq!(password.with_step_up(None, ttl, at(500)), password);
        // A step-up at 50 s counts for 100 s: until 150 s.
        let strong_step_up = Some(two_factors(50));
        assert_eq!(password.with_step_up(strong_step_up, ttl, at(149)), two_factors(50));
        assert_eq!(password.with_step_up(strong_step_up, ttl, at(150)), Authentication::by_password(at(50)));
        let weak_step_up = Authentication::by_password(at(50));
        // within the TTL, and after it
        for now in [60, 200] {
            assert_eq!(two_factors(0).with_step_up(Some(weak_step_up), ttl, at(now)), weak_step_up);
        }
        assert_eq!(two_factors(0).with_step_up(strong_step_up, ttl, at(200)), two_factors(50));
    }

    #[test]
    fn unknown_acr_level_is_read_as_the_lowest() {
        for acr in Acr::ALL {
            assert_eq!(Acr::from_level(acr.level()), acr);
            assert_eq!(Acr::parse(acr.as_str()), Some(acr));
        }
        assert_eq!(Acr::from_level(0), Acr::Aal1);
        assert_eq!(Acr::from_level(9), Acr::Aal1);
        assert_eq!(Acr::parse("aal4"), None);
    }
}
