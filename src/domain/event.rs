//! Revocations: the events that report the end of sessions and of access tokens.

use std::sync::Arc;

use super::{
    account::ClaimsVersion,
    clock::Timestamp,
    ids::{AccountId, SessionId},
};

/// Why sessions or access tokens ended before they expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The owner logged out.
    Logout,
    /// The owner, a service client or an operator ended the sessions, the owner changed an address or requested the deletion
    /// of the account, or Redis was restored from an old copy.
    Revoked,
    /// A superseded refresh token was reused (I2; RFC 9700, section 4.14.2).
    Reuse,
    /// The account exceeded `session.max_per_account`, and its oldest session ended.
    Limit,
    /// The account's password was changed, set or removed.
    PasswordChanged,
    /// A second factor of the account was added, removed or reset.
    FactorsChanged,
    /// The account must have a second factor, and the session began without one.
    FactorRequired,
    /// The account was disabled.
    Disabled,
    /// The account was deleted.
    Deleted,
    /// The key that signed the tokens was retired.
    KeyRetired,
    /// The account's claims changed, such as its roles.
    ClaimsChanged,
}

impl EndReason {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::Logout,
        Self::Revoked,
        Self::Reuse,
        Self::Limit,
        Self::PasswordChanged,
        Self::FactorsChanged,
        Self::FactorRequired,
        Self::Disabled,
        Self::Deleted,
        Self::KeyRetired,
        Self::ClaimsChanged,
    ];

    /// The stable text in Redis, in logs and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Revoked => "revoked",
            Self::Reuse => "reuse",
            Self::Limit => "limit",
            Self::PasswordChanged => "password_changed",
            Self::FactorsChanged => "factors_changed",
            Self::FactorRequired => "factor_required",
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
            Self::KeyRetired => "key_retired",
            Self::ClaimsChanged => "claims_changed",
        }
    }

    /// The stored reasons that release 0.1 can't read, in the order in which they were added. The order is fixed: events in Redis encode
    /// a reason's position in this list. [`Self::ClaimsChanged`] is not stored: Redis holds a change of claims in a form that 0.1 reads
    /// (`set_claims.lua`).
    pub const AFTER_0_1: [Self; 2] = [Self::FactorsChanged, Self::FactorRequired];

    /// Parses the text of [`EndReason::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// The event of a revocation, appended in the same atomic step as the revocation (I3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The sessions or access tokens that ended.
    pub target: RevocationTarget,
    /// The reason.
    pub reason: EndReason,
    /// The time of the revocation, by the clock of the node that revoked.
    pub at: Timestamp,
}

/// The sessions or access tokens that a revocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationTarget {
    /// One session.
    Session {
        /// The account.
        account: AccountId,
        /// The session.
        session: SessionId,
    },
    /// Every session of an account that began before the second of the revocation, with at most one exception. Tokens contain the start
    /// of their session in whole seconds (`session_start`), too coarse for the sessions of that second: each of these that has ended has an
    /// event of its own.
    Account {
        /// The account.
        account: AccountId,
        /// The start of that second. Sessions that began earlier have ended.
        before: Timestamp,
        /// The session that continues, or that a password change has started.
        except: Option<SessionId>,
    },
    /// The access tokens of an account with an older version of its claims (I16: a change of claims applies at once). The account's
    /// sessions continue.
    Claims {
        /// The account.
        account: AccountId,
        /// The version from which tokens are valid.
        version: ClaimsVersion,
    },
    /// Every token that a signing key has signed.
    Key {
        /// The key's id.
        kid: String,
    },
}

/// A message from a node's revocation log to the subscribers of its feed.
#[derive(Clone, Debug)]
pub enum FeedMessage {
    /// A revocation.
    Revoked(Arc<Revocation>),
    /// The node has missed revocations that it cannot read any more: subscribers must start with a snapshot.
    Lost,
}
