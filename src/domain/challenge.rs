//! Challenges, which continue a sign-in: the authentication so far, and the step that is still required.

use super::{
    account::Epoch, authentication::Authentication, clock::Timestamp, factor::FactorsVersion, ids::AccountId,
    session::Transport,
};

/// The step of a sign-in that a challenge is for. A challenge for one step works in no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChallengePurpose {
    /// The user must present a second factor.
    SecondFactor,
    /// The user must set up a second factor.
    Enrolment,
}

impl ChallengePurpose {
    /// All purposes.
    pub const ALL: [Self; 2] = [Self::SecondFactor, Self::Enrolment];

    /// The byte that stands for the purpose in challenges and in Redis.
    pub const fn byte(self) -> u8 {
        match self {
            Self::SecondFactor => b'f',
            Self::Enrolment => b'e',
        }
    }

    /// Reads the byte of [`Self::byte`]; `None` for any other byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.byte() == byte)
    }
}

/// A sign-in that waits until the user presents or sets up a second factor. Only the client that began the sign-in can complete it, and
/// only while the epoch and the factors of the account are unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingSignIn {
    /// The step that the sign-in waits for.
    pub purpose: ChallengePurpose,
    /// The account.
    pub account: AccountId,
    /// The account's epoch when its owner authenticated. Changes that end sessions change it, and end the challenge.
    pub epoch: Epoch,
    /// The version of the account's factors when its owner authenticated: every change of the factors ends the challenge.
    pub factors_version: FactorsVersion,
    /// The authentication of the first step.
    pub proved: Authentication,
    /// How the refresh token will travel.
    pub transport: Transport,
    /// The digest of the client's device token; `None` if the client sent none.
    pub device: Option<[u8; 16]>,
    /// The name that the client gave its device.
    pub device_name: Option<String>,
    /// When the challenge stops working.
    pub expires_at: Timestamp,
}
