//! What is told when sessions end.

use super::{
    clock::Timestamp,
    ids::{AccountId, SessionId},
};

/// Why sessions ended before their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Their owner signed out.
    Logout,
    /// Their owner ended them from another session.
    Revoked,
    /// A superseded refresh token was presented (RFC 9700, section 4.14.2).
    Reuse,
    /// The account had more sessions than it may have; the oldest ended.
    Limit,
    /// The account's password was changed.
    PasswordChanged,
    /// The account was disabled.
    Disabled,
    /// The account was deleted.
    Deleted,
}

impl Reason {
    /// The word for it in Redis, in logs and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Revoked => "revoked",
            Self::Reuse => "reuse",
            Self::Limit => "limit",
            Self::PasswordChanged => "password_changed",
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
        }
    }

    /// Reads what [`Reason::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Logout, Self::Revoked, Self::Reuse, Self::Limit, Self::PasswordChanged, Self::Disabled, Self::Deleted]
            .into_iter()
            .find(|reason| reason.as_str() == text)
    }
}

/// A revocation, as appended in the same atomic step as the revocation itself (I3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose sessions.
    pub account: AccountId,
    /// Which of them ended.
    pub scope: Scope,
    /// Why.
    pub reason: Reason,
    /// When.
    pub at: Timestamp,
}

/// Which sessions of an account a revocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This one.
    Session(SessionId),
    /// Every session created before the revocation, but perhaps one.
    All {
        /// The one that goes on.
        except: Option<SessionId>,
    },
}
