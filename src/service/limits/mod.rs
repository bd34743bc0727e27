//! How often things may be asked for, and by whom; asked before anything that costs much is done.
//!
//! Limits are asked from narrow to wide: what an address has used up never eats into what is for all. Sign-ins,
//! registrations and password changes are counted in Redis. Refreshes and introspections are counted by each node for
//! itself: they cost less than asking Redis would, and their limits only have to stop programs gone wild.

mod login_throttle;

use std::net::IpAddr;

pub use login_throttle::{Attempt, DeviceToken};

use crate::{
    domain::{
        account::{Email, Identifier},
        audit::{Actor, AuditEvent, Entry},
        client::ClientId,
        ids::{AccountId, SessionId},
        limit::{Quota, TooMany},
    },
    service::error::ServiceError,
    state::AppState,
    store::redis::RedisError,
};

/// What to do when Redis can't be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfDown {
    /// What is asked for needs Redis all the same.
    Fail,
    /// The node counts for itself.
    CountHere,
}

/// Asks whether somebody may try a password for an account.
///
/// # Errors
/// [`ServiceError`]
pub async fn login(
    state: &AppState,
    identifier: &Identifier,
    ip: Option<IpAddr>,
    device: Option<&DeviceToken>,
) -> Result<Attempt, ServiceError> {
    let limits = &state.config.limits;
    shared(state, "login-address", limits.login_per_address, &network(ip), IfDown::Fail).await?;
    let attempt = Attempt::begin(state, identifier, ip, device).await?;
    if let Err(refused) = shared(state, "login-service", limits.login_service, &[], IfDown::Fail).await {
        attempt.refund(state).await;
        return Err(refused);
    }
    Ok(attempt)
}

/// Asks whether somebody may register an e-mail address.
///
/// # Errors
/// [`ServiceError`]
pub async fn registration(state: &AppState, email: &Email, ip: Option<IpAddr>) -> Result<(), ServiceError> {
    let (limits, if_down) = (&state.config.limits, IfDown::CountHere);
    shared(state, "registration-address", limits.registration_per_address, &network(ip), if_down).await?;
    let account = email.key();
    shared(state, "registration-account", limits.registration_per_account, account.as_bytes(), if_down).await?;
    shared(state, "registration-service", limits.registration_service, &[], if_down).await
}

/// Asks whether a session may change its account's password.
///
/// # Errors
/// [`ServiceError`]
pub async fn password_change(state: &AppState, session: SessionId, ip: Option<IpAddr>) -> Result<(), ServiceError> {
    // a Redis that is full can still end sessions, and so passwords can be changed
    let (limits, if_down) = (&state.config.limits, IfDown::CountHere);
    let of_session = limits.password_change_per_account;
    shared(state, "password-change-account", of_session, session.as_bytes(), if_down).await?;
    shared(state, "password-change-address", limits.password_change_per_address, &network(ip), if_down).await?;
    shared(state, "password-change-service", limits.password_change_service, &[], if_down).await
}

/// Asks whether an address may present a refresh token, before that is looked at.
///
/// # Errors
/// [`ServiceError`]
pub fn refresh_from(state: &AppState, ip: Option<IpAddr>) -> Result<(), ServiceError> {
    here(state, "refresh-address", state.config.limits.refresh_per_address, &network(ip))
}

/// Asks whether an account's session may be refreshed.
///
/// # Errors
/// [`ServiceError`]
pub fn refresh_of(state: &AppState, account: AccountId) -> Result<(), ServiceError> {
    here(state, "refresh-account", state.config.limits.refresh_per_account, account.as_bytes())?;
    here(state, "refresh-service", state.config.limits.refresh_service, &[])
}

/// Asks whether a service client may ask something.
///
/// # Errors
/// [`ServiceError`]
pub fn introspection(state: &AppState, client: &str) -> Result<(), ServiceError> {
    here(state, "introspection-client", state.config.limits.introspection_per_client, client.as_bytes())?;
    here(state, "introspection-service", state.config.limits.introspection_service, &[])
}

/// Takes a place of a limit that this node counts.
fn here(state: &AppState, policy: &'static str, quota: Option<Quota>, subject: &[u8]) -> Result<(), ServiceError> {
    let Some(quota) = quota else { return Ok(()) };
    match state.local_limits.take(policy, subject, quota, state.clock.now()) {
        None => Ok(()),
        Some(retry_after) => {
            note(state, policy, subject);
            Err(refused(state, TooMany { policy, quota, retry_after }))
        }
    }
}

/// A limit was reached.
fn refused(state: &AppState, too_many: TooMany) -> ServiceError {
    state.metrics.rate_limited.with_label_values(&[too_many.policy]).inc();
    too_many.into()
}

/// Takes a place of a limit that all nodes count together.
async fn shared(
    state: &AppState,
    policy: &'static str,
    quota: Option<Quota>,
    subject: &[u8],
    if_down: IfDown,
) -> Result<(), ServiceError> {
    let Some(limit) = quota else { return Ok(()) };
    let name = state.pseudonymizer.name(&[policy.as_bytes(), subject]);
    match state.redis.rate_limits.take(&name, limit, state.clock.now()).await {
        Ok(None) => Ok(()),
        Ok(Some(retry_after)) => {
            note(state, policy, subject);
            Err(refused(state, TooMany { policy, quota: limit, retry_after }))
        }
        Err(error @ RedisError::Unavailable(_)) if if_down == IfDown::CountHere => {
            tracing::warn!(%error, policy, "a limit can't be asked of Redis; this node counts for itself");
            here(state, policy, quota, subject)
        }
        Err(error) => Err(error.into()),
    }
}

/// Tells the audit log that something was asked for too often, and by whom as far as a limit knows.
fn note(state: &AppState, policy: &'static str, subject: &[u8]) {
    let mut entry = Entry::new(state.clock.now(), AuditEvent::RateLimit).refused("too_many").detail(policy);
    entry.what.actor = Some(Actor::Anyone);
    match policy {
        "refresh-account" => entry.what.account = subject.try_into().ok().map(AccountId::from_bytes),
        "password-change-account" => entry.what.session = subject.try_into().ok().map(SessionId::from_bytes),
        "introspection-client" => {
            entry.what.client = std::str::from_utf8(subject).ok().and_then(|name| ClientId::parse(name).ok());
        }
        policy if policy.ends_with("-address") => entry.what.address = of_network(subject),
        _ => {}
    }
    state.audit.record(entry);
}

/// The address that [`network`] made this of, or its network's.
fn of_network(network: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(network) {
        return Some(v4.into());
    }
    let prefix = u128::from(u64::from_be_bytes(network.try_into().ok()?));
    Some(std::net::Ipv6Addr::from(prefix << 64).into())
}

/// Whom an address stands for: itself or, with IPv6, its /64, which is what a household or a server is given. Requests
/// that have no address, over a socket, are one caller's.
fn network(ip: Option<IpAddr>) -> Vec<u8> {
    match ip.map(|ip| ip.to_canonical()) {
        None => Vec::new(),
        Some(IpAddr::V4(ip)) => ip.octets().to_vec(),
        Some(IpAddr::V6(ip)) => ip.octets()[..8].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_addresses_again() {
        let there_and_back = |text: &str| of_network(&network(Some(text.parse().unwrap()))).map(|ip| ip.to_string());
        assert_eq!(there_and_back("192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(there_and_back("2001:db8::7:1:2:3").as_deref(), Some("2001:db8::"));
        assert_eq!(of_network(&[]), None);
    }

    #[test]
    fn ipv6_counts_by_64_bits() {
        let of = |text: &str| network(Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
