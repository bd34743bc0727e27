//! Sessions, and the results of using one.

use std::{net::IpAddr, time::Duration};

use super::{
    account::{ClaimsStamp, ClaimsVersion, Roles},
    additional_claims::AdditionalClaims,
    authentication::Authentication,
    clock::Timestamp,
    ids::{AccountId, SessionId},
};

/// The number of a session's refresh token, from 0: how many refreshes preceded the token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u32);

/// How a session's refresh token is transported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// In JSON bodies.
    #[default]
    Bearer,
    /// In the `__Host-latchkey` cookie, out of reach of scripts.
    Cookie,
    /// There is no refresh token: the session is of a browser that signed in on Latchkey's own pages (single sign-on). The cookie
    /// `__Host-latchkey-browser` names it. Only the sessions of apps beneath it have tokens.
    Browser,
}

/// The transports of refresh tokens that an endpoint accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedTransport {
    /// Cookies and bodies.
    Any,
    /// Bodies only.
    Bearer,
}

/// The client that started a session, for its owner to recognize.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionOrigin {
    /// The client's IP address, as trusted proxies report it.
    pub ip: Option<IpAddr>,
    /// The `User-Agent` header, shortened to fit into the session's record in Redis.
    pub user_agent: Option<String>,
    /// The name that the client gave its device.
    pub device: Option<String>,
}

/// A keyed digest of the network and the user agent of a request. For [`RepeatRule`], requests with the same tag come from one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OriginTag(pub [u8; 8]);

/// The rule for repeats, the requests that present a superseded refresh token (I2: reuse ends the session). If both windows are zero,
/// every repeat ends its session.
#[derive(Clone, Copy, Debug)]
pub struct RepeatRule {
    /// The grace window: how long a token is answered with the current one after it was superseded.
    pub grace: Duration,
    /// How long after the issue of the current token a superseded token is answered with it. Applies only to a token whose grace
    /// window was open at that issue: its holder may have lost the response with the current token.
    pub retry_window: Duration,
    /// A repeat from another network or user agent than the last rotation is counted: the session remembers every generation after the
    /// presented one as marked. It ends if the presented and the last generations, this many (2 to 8), are then all marked.
    pub counted_repeats_limit: u8,
}

/// A live session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The `sid` of the session's tokens.
    pub id: SessionId,
    /// The account.
    pub account: AccountId,
    /// The generation of the current refresh token.
    pub generation: Generation,
    /// How the refresh token is transported.
    pub transport: Transport,
    /// When the session began: the `session_start` of its tokens.
    pub created_at: Timestamp,
    /// The time of the last refresh, or of the creation.
    pub last_used_at: Timestamp,
    /// When the idle timeout ends the session unless it is refreshed before.
    pub idle_ends_at: Timestamp,
    /// When the session's absolute lifetime ends.
    pub ends_at: Timestamp,
    /// The client that started the session.
    pub origin: SessionOrigin,
    /// The IP address of the last refresh, or of the sign-in. None if unknown.
    pub last_used_ip: Option<IpAddr>,
    /// How many of the last eight generations are marked by counted repeats ([`RepeatRule::counted_repeats_limit`]).
    pub counted_repeats: u8,
    /// The authentication of the session's sign-in.
    pub authentication: Authentication,
    /// The user's last authentication after the sign-in, if any.
    pub step_up: Option<Authentication>,
    /// The client, the scopes and the audiences. None for a first-party session, to which the configured defaults apply.
    pub client: Option<Box<ClientGrant>>,
    /// The browser's session that this app session is beneath and ends with, if any.
    pub parent: Option<SessionId>,
}

impl Session {
    /// When the session ends unless it is refreshed.
    pub fn expires_at(&self) -> Timestamp {
        self.idle_ends_at.min(self.ends_at)
    }

    /// Whether the session has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at()
    }
}

/// The client, the scopes and the audiences of a session's grant. A session without one has the first-party defaults of the
/// configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientGrant {
    /// The client that the tokens are issued to: the claim `client_id`.
    pub client_id: String,
    /// The scopes, separated by spaces: the claim `scope`.
    pub scope: String,
    /// The audiences of the access tokens: the claim `aud`.
    pub audiences: Vec<String>,
}

/// The data of a session from which its tokens are issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The account.
    pub account: AccountId,
    /// The session.
    pub session: SessionId,
    /// The current generation.
    pub generation: Generation,
    /// When the session began: the claim `session_start`.
    pub created_at: Timestamp,
    /// The authentication of the session's sign-in.
    pub authentication: Authentication,
    /// The user's last authentication after the sign-in, if any.
    pub step_up: Option<Authentication>,
    /// The client, the scopes and the audiences; none for the first-party defaults.
    pub client: Option<Box<ClientGrant>>,
    /// When the idle timeout ends the session unless it is refreshed before.
    pub idle_ends_at: Timestamp,
    /// When the session's absolute lifetime ends.
    pub ends_at: Timestamp,
    /// How the refresh token is transported.
    pub transport: Transport,
    /// The account's roles, as of the last sign-in or change of roles.
    pub roles: Roles,
    /// The account's other claims, as of the last sign-in or change of claims.
    pub additional_claims: AdditionalClaims,
    /// The version of the account's claims, its roles included: the claim `claims_version`.
    pub claims_version: ClaimsVersion,
}

impl Grant {
    /// When the session ends unless it is refreshed.
    pub fn expires_at(&self) -> Timestamp {
        self.idle_ends_at.min(self.ends_at)
    }
}

/// The result of presenting a refresh token (I1: one successor per token; I2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The token was current: the session advanced by one generation.
    Rotated(Grant),
    /// The client of the last rotation repeated a superseded token, as [`RepeatRule`] allows. Contains the current grant.
    Repeated(Grant),
    /// Another client repeated a superseded token, as [`RepeatRule`] allows: the repeat was counted. Contains the current grant.
    Counted(Grant),
    /// A superseded token was repeated although [`RepeatRule`] does not allow it: the session was revoked.
    Reused,
    /// The last [`RepeatRule::counted_repeats_limit`] generations and the presented one are all marked: the session has two holders, and
    /// was revoked.
    SecondHolder,
    /// The session has expired, or its parent has ended.
    Expired,
    /// There is no such session: it was revoked, or expired long ago.
    Gone,
}

/// The times of a live session, which decide how long it may be cached as live, and the version of its account's claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// When the session began.
    pub created_at: Timestamp,
    /// When the idle timeout ends the session unless it is refreshed before.
    pub idle_ends_at: Timestamp,
    /// When the session's absolute lifetime ends.
    pub ends_at: Timestamp,
    /// The current version of the account's claims, and when it changed.
    pub claims: ClaimsStamp,
    /// Whether the user has authenticated again after the sign-in. If so, older tokens of the session name an outdated authentication.
    pub stepped_up: bool,
}
