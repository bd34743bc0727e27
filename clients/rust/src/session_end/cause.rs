//! Why a registered session has ended: [`EndCause`].

use std::fmt;

/// Why a session that was registered with [`crate::Verifier::on_end`] has ended, or can no longer be trusted.
///
/// After [`EndCause::SessionRevoked`] and [`EndCause::AccountRevoked`] the user is signed out. After the other causes the
/// client refreshes its token and connects again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndCause {
    /// The session was revoked: by a sign-out, a reused refresh token, the limit of sessions per account, or an operator.
    SessionRevoked,
    /// The account's sessions were revoked: its password was changed, or the account was disabled or deleted. If the feed
    /// reports the end of the session before that of the account's sessions, the cause is [`EndCause::SessionRevoked`].
    AccountRevoked,
    /// The key that signed the session's last known token was retired, or is no longer published.
    KeyRetired,
    /// The account's claims, such as its roles, have changed since the session's last known token was issued.
    ClaimsChanged,
    /// The last known token of the session has expired, and the verifier has seen no newer one.
    TokenExpired,
    /// The revocation feed has been silent for longer than [`crate::Builder::end_after_silence`], or the verifier was dropped.
    FeedLost,
}

impl EndCause {
    /// A stable name for logs and for the reason of a WebSocket's close frame, the same in Latchkey's Python and JavaScript
    /// packages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionRevoked => "session_revoked",
            Self::AccountRevoked => "account_revoked",
            Self::KeyRetired => "key_retired",
            Self::ClaimsChanged => "claims_changed",
            Self::TokenExpired => "token_expired",
            Self::FeedLost => "feed_lost",
        }
    }

    /// The code with which a WebSocket is closed: 1013 (try again later, from IANA's registry) for [`EndCause::FeedLost`],
    /// otherwise 1008 (policy violation; RFC 6455, section 7.4.1).
    pub fn close_code(self) -> u16 {
        const TRY_AGAIN_LATER: u16 = 1013;
        const POLICY_VIOLATION: u16 = 1008;
        match self {
            Self::FeedLost => TRY_AGAIN_LATER,
            _ => POLICY_VIOLATION,
        }
    }
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
