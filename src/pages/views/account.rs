//! The values that templates get on the pages for profile, addresses, password and data of the signed-in account. Each `states` function
//! returns samples, with which the check of the templates renders the page.

use serde::Serialize;

use super::owned;

/// The profile.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Profile {
    /// The primary address. Empty after another account has verified it.
    pub email: String,
    /// Whether the primary address is verified.
    pub email_verified: bool,
    /// The username. Like the fields below, empty if the user has not chosen one.
    pub username: String,
    /// The display name.
    pub display_name: String,
    /// The language of mails and pages, a BCP 47 tag.
    pub locale_tag: String,
    /// The IANA time zone for times in mails and on pages.
    pub zone: String,
    /// The names of the time zones to choose from.
    pub zones: Vec<String>,
}

impl Profile {
    pub(super) fn states() -> Vec<Self> {
        vec![
            Self {
                email: owned("ann@example.com"),
                email_verified: true,
                username: owned("ann"),
                display_name: owned("Ann Example"),
                locale_tag: owned("en"),
                zone: owned("Europe/Berlin"),
                zones: vec![owned("Europe/Berlin"), owned("UTC")],
            },
            Self { email: owned("ann@example.com"), ..Self::default() },
        ]
    }
}

/// A secondary address.
#[derive(Clone, Debug, Serialize)]
pub struct SecondaryAddress {
    /// The id by which forms name the address.
    pub id: String,
    /// The address.
    pub email: String,
    /// Whether the address is verified.
    pub is_verified: bool,
}

/// The e-mail addresses of the account.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Address {
    /// The primary address. Empty after another account has verified it.
    pub current: String,
    /// Whether the primary address is verified.
    pub email_verified: bool,
    /// The new primary address that the form shows, as typed before.
    pub email: String,
    /// The new primary address that waits for its confirmation.
    pub pending: Option<String>,
    /// The secondary addresses.
    pub addresses: Vec<SecondaryAddress>,
    /// Whether the account may have another secondary address.
    pub can_add: bool,
    /// The secondary address to add that the form shows, as typed before.
    pub secondary: String,
}

impl Address {
    pub(super) fn states() -> Vec<Self> {
        let verified =
            Self { current: owned("ann@example.com"), email_verified: true, can_add: true, ..Self::default() };
        let secondary =
            |email: &str, is_verified| SecondaryAddress { id: owned("019b7a63"), email: owned(email), is_verified };
        let addresses = vec![secondary("ann@work.example", true), secondary("ann@school.example", false)];
        vec![
            verified.clone(),
            Self { email_verified: false, ..verified.clone() },
            Self { addresses, can_add: false, ..verified.clone() },
            Self { pending: Some(owned("ann@example.org")), ..verified.clone() },
            // another account has verified the address
            Self { current: String::new(), email_verified: false, ..verified },
        ]
    }
}

/// The form for a new password.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Password {
    /// The primary address, or else the username or the id, with which password managers store the password.
    pub email: String,
}

impl Password {
    pub(super) fn states() -> Vec<Self> {
        vec![Self { email: owned("ann@example.com") }]
    }
}

/// Export and deletion of the account.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Data {
    /// Days between the request to delete the account and its deletion; 0 if it is deleted at once.
    pub grace_days: u64,
}

impl Data {
    pub(super) fn states() -> Vec<Self> {
        vec![Self { grace_days: 14 }, Self { grace_days: 0 }]
    }
}
