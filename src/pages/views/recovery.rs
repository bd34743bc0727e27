//! Pages where users enter the links and codes of mails. Each `states` returns a sample for each state of the page.

use serde::Serialize;

use super::owned;

/// Verification of an address, and confirmation of a new one.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerifyAddress {
    /// Whether the address is to replace the account's address.
    pub is_change: bool,
    /// Whether the previous page has just sent the mail.
    pub is_sent: bool,
    /// The address.
    pub email: String,
    /// The link or its token, as it was submitted.
    pub token: String,
    /// The proof that the user set up the account, which the form asks for: `password`, `new_password` (the mail proves it, and the user
    /// replaces the password), or `none` for a signed-in user.
    pub proof: String,
}

impl VerifyAddress {
    pub(super) fn states() -> Vec<Self> {
        let state = |proof: &str| Self { email: owned("ann@example.com"), proof: owned(proof), ..Self::default() };
        vec![
            state("password"),
            Self { is_sent: true, ..state("password") },
            state("new_password"),
            Self { is_change: true, ..state("password") },
            Self { is_change: true, token: owned("lk_ot_EXAMPLE"), ..state("none") },
        ]
    }
}

/// The request for a mail that resets a forgotten password.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ForgotPassword {
    /// The typed address or username.
    pub identifier: String,
}

impl ForgotPassword {
    pub(super) fn states() -> Vec<Self> {
        vec![Self::default()]
    }
}

/// The choice of a new password, after a forgotten one or an invitation.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ResetPassword {
    /// Whether the password is the first of an invited account.
    pub is_invitation: bool,
    /// Whether the previous page has just sent the mail.
    pub is_sent: bool,
    /// The typed address or username.
    pub identifier: String,
    /// The link or its token, as it was submitted.
    pub token: String,
}

impl ResetPassword {
    pub(super) fn states() -> Vec<Self> {
        vec![
            Self::default(),
            Self { is_sent: true, identifier: owned("ann"), ..Self::default() },
            Self { is_invitation: true, token: owned("lk_ot_EXAMPLE"), ..Self::default() },
        ]
    }
}

/// A page on which the user confirms the effect of a link from a notice: a button submits the link.
#[derive(Clone, Debug, Serialize)]
pub struct Link {
    /// The page: `undo_address` or `not_me`.
    pub kind: String,
    /// The link or its token, as it was submitted.
    pub token: String,
}

impl Link {
    pub(super) fn states() -> Vec<Self> {
        let state = |kind: &str| Self { kind: owned(kind), token: String::new() };
        vec![state("undo_address"), state("not_me")]
    }
}
