//! Typed ids, so that an account id can't be passed as a session id.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The 16 bytes of the id, as Redis and refresh tokens contain them.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Reads the 16 bytes written by [`Self::as_bytes`].
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id! {
    /// The id of an account, the `sub` of its tokens. A version 7 UUID: ordered by time, so that SQL indexes stay dense. An
    /// imported account may have a UUID of another version.
    AccountId
}
id! {
    /// The id of an authenticator app. A version 7 UUID.
    FactorId
}
id! {
    /// The id of an e-mail address of an account. A version 7 UUID; the primary address has the account's id.
    EmailId
}
id! {
    /// The id of a session, the `sid` of its tokens. A version 4 UUID: 122 unpredictable bits.
    SessionId
}
id! {
    /// The id of a remembered device. A version 7 UUID: ordered by the time at which the device was remembered.
    RememberedDeviceId
}
id! {
    /// The id of a passkey in the API. A version 7 UUID: ordered by the time of registration.
    PasskeyId
}
