//! Profile, address, password and data of the signed-in account. The functions `states` return the states of each page that the check
//! of the templates renders.

use serde::Serialize;

use super::text;

/// The profile.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Profile {
    /// The address.
    pub email: String,
    /// Whether it is verified.
    pub email_verified: bool,
    /// The username.
    pub username: String,
    /// The display name.
    pub display_name: String,
    /// The language of mails and pages.
    pub locale_tag: String,
    /// The time zone.
    pub zone: String,
    /// The names of time zones to choose from.
    pub zones: Vec<String>,
}

impl Profile {
    pub(super) fn states() -> Vec<Self> {
        vec![
            Self {
                email: text("ann@example.com"),
                email_verified: true,
                username: text("ann"),
                display_name: text("Ann Example"),
                locale_tag: text("en"),
                zone: text("Europe/Berlin"),
                zones: vec![text("Europe/Berlin"), text("UTC")],
            },
            Self { email: text("ann@example.com"), ..Self::default() },
        ]
    }
}

/// A secondary address.
#[derive(Clone, Debug, Serialize)]
pub struct SecondaryAddress {
    /// The id.
    pub id: String,
    /// The address.
    pub email: String,
    /// Whether it is verified.
    pub is_verified: bool,
}

/// The e-mail addresses of the account.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Address {
    /// The primary address.
    pub current: String,
    /// Whether it is verified.
    pub email_verified: bool,
    /// The typed new address.
    pub email: String,
    /// The pending address, which is not confirmed yet.
    pub pending: Option<String>,
    /// The secondary addresses.
    pub addresses: Vec<SecondaryAddress>,
    /// Whether the account may have another address.
    pub can_add: bool,
    /// The typed secondary address.
    pub secondary: String,
}

impl Address {
    pub(super) fn states() -> Vec<Self> {
        let state = Self { current: text("ann@example.com"), email_verified: true, can_add: true, ..Self::default() };
        let other =
            |email: &str, is_verified| SecondaryAddress { id: text("019b7a63"), email: text(email), is_verified };
        let addresses = vec![other("ann@work.example", true), other("ann@school.example", false)];
        vec![
            state.clone(),
            Self { email_verified: false, ..state.clone() },
            Self { addresses, can_add: false, ..state.clone() },
            Self { pending: Some(text("ann@example.org")), ..state },
        ]
    }
}

/// A new password of the signed-in account.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Password {
    /// The address, for password managers.
    pub email: String,
}

impl Password {
    pub(super) fn states() -> Vec<Self> {
        vec![Self { email: text("ann@example.com") }]
    }
}

/// Export and deletion of the account.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Data {
    /// Days between the request to delete the account and its deletion.
    pub grace_days: u64,
}

impl Data {
    pub(super) fn states() -> Vec<Self> {
        vec![Self { grace_days: 14 }, Self { grace_days: 0 }]
    }
}
