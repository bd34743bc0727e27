//! Sessions: what one is, and what can come of using one.

use std::net::IpAddr;

use super::{
    account::Roles,
    clock::Timestamp,
    ids::{AccountId, SessionId},
};

/// How many times a session has been refreshed. A refresh token names the one it was issued for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u32);

/// How a session's refresh token travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// In JSON bodies.
    #[default]
    Bearer,
    /// In the `__Host-latchkey` cookie, out of reach of scripts.
    Cookie,
}

/// Of which sessions refresh tokens are accepted at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Of any, however they travel.
    Any,
    /// Of those whose refresh tokens travel in bodies.
    Bearer,
}

/// What is remembered of where a session was started, for its owner to recognise it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's address, as far as trusted proxies tell it.
    pub ip: Option<IpAddr>,
    /// The `User-Agent` header; cut to what a record holds.
    pub user_agent: Option<String>,
    /// What the client calls its device.
    pub device: Option<String>,
}

/// A live session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The `sid` of its tokens.
    pub id: SessionId,
    /// Whose it is.
    pub account: AccountId,
    /// The generation of its current refresh token.
    pub generation: Generation,
    /// How that travels.
    pub transport: Transport,
    /// When its owner signed in: the `auth_time` of its tokens.
    pub created_at: Timestamp,
    /// When it was last refreshed, or created.
    pub last_used_at: Timestamp,
    /// When it ends unless it is refreshed before (I4).
    pub idle_ends_at: Timestamp,
    /// When it ends whatever happens (I4).
    pub ends_at: Timestamp,
    /// Where it was started.
    pub origin: Origin,
}

impl Session {
    /// When it ends if nothing more happens.
    pub fn expires_at(&self) -> Timestamp {
        self.idle_ends_at.min(self.ends_at)
    }

    /// Whether it is over by the clock.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at()
    }
}

/// What tokens are made from: the part of a session that login and refresh need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose session.
    pub account: AccountId,
    /// Which session.
    pub session: SessionId,
    /// Its current generation.
    pub generation: Generation,
    /// When its owner signed in.
    pub created_at: Timestamp,
    /// When it ends unless it is refreshed before.
    pub idle_ends_at: Timestamp,
    /// When it ends whatever happens.
    pub ends_at: Timestamp,
    /// How its refresh token travels.
    pub transport: Transport,
    /// The account's roles, as of its last sign-in.
    pub roles: Roles,
}

impl Grant {
    /// When its session ends if nothing more happens.
    pub fn expires_at(&self) -> Timestamp {
        self.idle_ends_at.min(self.ends_at)
    }
}

/// What came of presenting a refresh token (I1, I2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The token was the current one: the session moved on by one generation.
    Rotated(Grant),
    /// The token was superseded within the grace window: here is the current one again.
    Repeated(Grant),
    /// The token was superseded longer ago: the session has been revoked.
    Reused,
    /// The session is over by the clock.
    Expired,
    /// There is no such session: it was revoked, or it expired long ago.
    Gone,
}

/// What has to be known of a session that lives to say so again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// When its owner signed in.
    pub created_at: Timestamp,
    /// When it ends if it isn't refreshed before.
    pub idle_ends_at: Timestamp,
    /// When it ends, whatever happens.
    pub ends_at: Timestamp,
}
