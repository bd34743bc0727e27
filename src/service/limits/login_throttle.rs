//! Somebody tries a password. How often that may be is counted for each account apart, in lanes: one for each device and
//! each address where its owner has signed in before, and one for all others. What strangers do slows strangers.
//!
//! A device shows that it is known by a token that it was given at a sign-in; what is kept of it is a keyed hash. Apps that
//! keep no such token are known by their address. Accounts that don't exist have lanes like those that do, so that nothing
//! can be learned from them.

use std::{fmt, net::IpAddr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{network, refused};
use crate::{
    domain::{
        account::{Account, Identifier},
        audit::{Actor, AuditEvent, Entry},
        entropy::Entropy,
        limit::{Backoff, Quota, TooMany},
        secret::SecretText,
    },
    service::error::ServiceError,
    state::AppState,
    store::redis::{ThrottleBucket, ThrottleDecision},
};

/// What every device token begins with.
const PREFIX: &str = "lk_dt_";

/// By which an account recognises a device where its owner signed in: it signs nobody in, it only spares the device the
/// waits that strangers cause. 256 random bits; doesn't print.
#[derive(Clone)]
pub struct DeviceToken(SecretText);

impl DeviceToken {
    /// Takes what looks like one; nothing else is worth looking up.
    pub fn parse(text: &str) -> Option<Self> {
        let bits = text.strip_prefix(PREFIX)?;
        let fit = bits.len() == 43 && bits.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        fit.then(|| Self(text.into()))
    }

    fn generate(entropy: &Entropy) -> Self {
        Self(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(entropy.bytes::<32>())).into())
    }

    /// The token, for its device.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for DeviceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[device token]")
    }
}

/// A password that may be tried. Counts as a failure until it is taken back.
#[derive(Debug)]
#[must_use]
pub struct Attempt {
    account: String,
    lane: Option<ThrottleBucket>,
    network: Vec<u8>,
    device: Option<DeviceToken>,
}

impl Attempt {
    pub(super) async fn begin(
        state: &AppState,
        identifier: &Identifier,
        ip: Option<IpAddr>,
        device: Option<&DeviceToken>,
    ) -> Result<Self, ServiceError> {
        let (account, network) = (name_of(state, identifier), network(ip));
        let device = device.cloned();
        let Some(backoff) = state.config.limits.backoff else {
            return Ok(Self { account, lane: None, network, device });
        };
        let of_device = device.as_ref().map(|token| device_lane(state, &account, token));
        let of_address = address_lane(state, &account, &network);
        let now = state.clock.now();
        match state.redis.rate_limits.admit(&account, of_device.as_ref(), &of_address, backoff, now).await? {
            ThrottleDecision::Admitted(lane) => Ok(Self { account, lane: Some(lane), network, device }),
            ThrottleDecision::Wait(retry_after) => {
                let entry = Entry::new(now, AuditEvent::RateLimit).refused("too_many").detail("login-account");
                state.audit.record(entry.by(Actor::Anyone).from(ip));
                Err(refused(state, TooMany { policy: "login-account", quota: quota_of(backoff), retry_after }))
            }
        }
    }

    /// The password was right: the device and the address are known from now on, by whichever name the account signs in.
    /// Gives the device's token. Should Redis not hear of it, they stay strangers.
    pub async fn trust_device(&self, state: &AppState, account: &Account) -> DeviceToken {
        let device = self.device.clone().unwrap_or_else(|| DeviceToken::generate(&state.entropy));
        if let Some(backoff) = state.config.limits.backoff {
            let email = self.vouch_as(state, Some(Identifier::parse(account.email.as_str())), &device, backoff);
            let username = account.username.as_ref().map(|name| Identifier::parse(name.as_str()));
            let username = self.vouch_as(state, username, &device, backoff);
            tokio::join!(email, username);
        }
        device
    }

    async fn vouch_as(&self, state: &AppState, identifier: Option<Identifier>, device: &DeviceToken, backoff: Backoff) {
        let Some(identifier) = identifier else { return };
        let account = name_of(state, &identifier);
        let used = self.lane.as_ref().filter(|_| account == self.account);
        let (device, address) = (device_lane(state, &account, device), address_lane(state, &account, &self.network));
        let vouched =
            state.redis.rate_limits.trust_device(&account, &device, &address, used, backoff, state.clock.now()).await;
        if let Err(error) = vouched {
            tracing::warn!(%error, "a device could not be remembered; it stays a stranger to its account");
        }
    }

    /// Nothing came of it, and the password wasn't checked: it doesn't count.
    pub async fn refund(self, state: &AppState) {
        let Some(lane) = self.lane else { return };
        if let Err(error) = state.redis.rate_limits.refund(&self.account, &lane).await {
            tracing::debug!(%error, "an attempt to sign in could not be taken back");
        }
    }
}

/// The backoff as a quota, for those who are told of it.
fn quota_of(backoff: Backoff) -> Quota {
    Quota { count: backoff.free, window: crate::store::redis::FEW_FORGOTTEN }
}

fn name_of(state: &AppState, identifier: &Identifier) -> String {
    let (Identifier::Email(text) | Identifier::Username(text)) = identifier;
    state.pseudonymizer.name(&[b"account", text.as_bytes()])
}

fn device_lane(state: &AppState, account: &str, token: &DeviceToken) -> ThrottleBucket {
    ThrottleBucket::device(&state.pseudonymizer.name(&[b"device", account.as_bytes(), token.expose().as_bytes()]))
}

fn address_lane(state: &AppState, account: &str, network: &[u8]) -> ThrottleBucket {
    ThrottleBucket::address(&state.pseudonymizer.name(&[b"address", account.as_bytes(), network]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_token_is_one() {
        let token = DeviceToken::generate(&Entropy::system());
        assert!(DeviceToken::parse(token.expose()).is_some());
        assert!(!format!("{token:?}").contains("lk_dt_"));
        for text in ["", "lk_dt_", &token.expose()[1..], &format!("{}A", token.expose()), "lk_dt_ä"] {
            assert!(DeviceToken::parse(text).is_none(), "{text}");
        }
    }
}
