//! The values of the labels `method` and `outcome` of the metrics of sign-ins and refreshes. Each enum lists all its values, so that
//! every time series exists, with the value 0, before its first event.

use crate::domain::factor::FactorKind;

/// Defines an enum of outcomes, each with its text in the metrics, and the list of all outcomes.
macro_rules! outcomes {
    ($(#[$doc:meta])* $enum:ident { $($(#[$variant_doc:meta])* $name:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $enum {
            $($(#[$variant_doc])* $name,)*
        }

        impl $enum {
            /// All outcomes.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The value of the label.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

outcomes! {
    /// The outcome of a login.
    LoginOutcome {
        /// The user is signed in.
        Success => "success",
        /// The credentials are wrong, or passkeys are off.
        InvalidCredentials => "invalid_credentials",
        /// The account's address is not verified.
        EmailNotVerified => "email_not_verified",
        /// The first factor was right; a second factor must be presented.
        SecondFactorRequired => "second_factor_required",
        /// The first factor was right; a second factor must be set up.
        EnrolmentRequired => "enrolment_required",
        /// The passkey was right; the account also needs its password.
        PasswordRequired => "password_required",
        /// A rate limit was exceeded.
        Limited => "limited",
        /// A dependency did not answer, or the account changed in the meantime.
        Unavailable => "unavailable",
        /// An internal error.
        Failed => "failed",
    }
}

outcomes! {
    /// The outcome of a second factor of a sign-in.
    SecondFactorOutcome {
        /// The factor was right.
        Success => "success",
        /// The code was wrong, or the passkey was not accepted.
        WrongCode => "wrong_code",
        /// The challenge, which identifies the sign-in, was used before, has expired, or has another purpose.
        InvalidChallenge => "invalid_challenge",
        /// The sign-in does not accept this kind of factor. Or its session would use the refresh cookie, and the response must not set one,
        /// for example because a page of another site made the request.
        Refused => "refused",
        /// A rate limit was exceeded.
        Limited => "limited",
        /// A dependency did not answer, or the account changed in the meantime.
        Unavailable => "unavailable",
        /// An internal error.
        Failed => "failed",
    }
}

outcomes! {
    /// The outcome of a refresh.
    RotationOutcome {
        /// The session has new tokens.
        Rotated => "rotated",
        /// A superseded token, which a refresh has replaced, was answered with the current one.
        Repeated => "repeated",
        /// A superseded token from another network or user agent was answered with the current one, and was counted.
        Counted => "counted",
        /// A superseded token ended the session.
        Reused => "reused",
        /// The session had expired.
        Expired => "expired",
        /// The token was not valid.
        Invalid => "invalid",
        /// A rate limit was exceeded.
        Limited => "limited",
        /// A dependency did not answer, or the account changed in the meantime.
        Unavailable => "unavailable",
        /// An internal error.
        Failed => "failed",
    }
}

/// How a sign-in passed the step of the second factor: the label `method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondFactorMethod {
    /// The user has presented a factor.
    Factor(FactorKind),
    /// The device is remembered, so the step was skipped.
    RememberedDevice,
}

impl SecondFactorMethod {
    /// The value of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Factor(kind) => kind.as_str(),
            Self::RememberedDevice => "remembered_device",
        }
    }

    /// All combinations of a method and an outcome that occur. A remembered device that does not skip the step is not counted.
    pub(super) fn with_outcomes() -> impl Iterator<Item = (Self, SecondFactorOutcome)> {
        let factors = FactorKind::ALL.into_iter().map(Self::Factor);
        let presented =
            factors.flat_map(|method| SecondFactorOutcome::ALL.iter().map(move |outcome| (method, *outcome)));
        presented.chain([(Self::RememberedDevice, SecondFactorOutcome::Success)])
    }
}
