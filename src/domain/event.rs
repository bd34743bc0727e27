//! What is told when sessions end.

use std::sync::Arc;

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
    /// The signing key was taken out of use before its time.
    KeyRetired,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Logout,
        Self::Revoked,
        Self::Reuse,
        Self::Limit,
        Self::PasswordChanged,
        Self::Disabled,
        Self::Deleted,
        Self::KeyRetired,
    ];

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
            Self::KeyRetired => "key_retired",
        }
    }

    /// Reads what [`Reason::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// A revocation, as appended in the same atomic step as the revocation itself (I3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What ended.
    pub target: RevocationTarget,
    /// Why.
    pub reason: Reason,
    /// When, by the clock of the node that ended it.
    pub at: Timestamp,
}

/// What a revocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationTarget {
    /// One session.
    Session {
        /// Whose it was.
        account: AccountId,
        /// Which.
        session: SessionId,
    },
    /// Every session of an account that began before a time, but perhaps one. Of those that began within the second of
    /// the revocation, and so can't be told by their `auth_time`, each is told by itself as well.
    Account {
        /// Whose they were.
        account: AccountId,
        /// Those that began before this ended: the beginning of the second of the revocation.
        before: Timestamp,
        /// The one that goes on.
        except: Option<SessionId>,
    },
    /// Everything that a signing key has signed.
    Key {
        /// The key's id.
        kid: String,
    },
}

/// What is told of revocations while they happen.
#[derive(Clone, Debug)]
pub enum FeedMessage {
    /// This has ended.
    Revoked(Arc<Revocation>),
    /// Revocations were lost and can't be had any more: whoever goes by them has to begin anew.
    Lost,
}
