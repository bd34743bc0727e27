//! The section `limits`: rate limits and brute-force protection.

use std::{ops::RangeInclusive, str::FromStr, time::Duration};

use super::{duration, read::Reader};
use crate::domain::limit::{Backoff, FactorBackoff, Quota};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

/// The rate limits. `None` means no limit. `per_address` limits count by the client's IP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Sign-ins from one address.
    pub login_per_address: Option<Quota>,
    /// Sign-ins in total.
    pub login_service: Option<Quota>,
    /// The delays after failed sign-ins to an account.
    pub login_backoff: Option<Backoff>,
    /// Second factors of sign-ins from one address.
    pub factor_per_address: Option<Quota>,
    /// Mails to one account with a code as its second factor. The account's known devices and networks have separate
    /// counters, and all others share one.
    pub factor_mail_per_account: Option<Quota>,
    /// The delays after wrong codes of a second factor.
    pub factor_backoff: Option<FactorBackoff>,
    /// Registrations from one address.
    pub registration_per_address: Option<Quota>,
    /// Registrations of one e-mail address.
    pub registration_per_account: Option<Quota>,
    /// Registrations in total.
    pub registration_service: Option<Quota>,
    /// Password changes from one address.
    pub password_change_per_address: Option<Quota>,
    /// Password changes by one session of an account: a stolen access token does not block the account's other sessions.
    pub password_change_per_account: Option<Quota>,
    /// Password changes in total.
    pub password_change_service: Option<Quota>,
    /// Requests for links and codes, and uses of these, from one address.
    pub recovery_per_address: Option<Quota>,
    /// Mails of one kind to one account, if anyone can cause them.
    pub mail_per_account: Option<Quota>,
    /// Requests for links and codes, and uses of these, in total.
    pub recovery_service: Option<Quota>,
    /// Sign-ins and registrations of passkeys, and their options, from one address.
    pub passkey_per_address: Option<Quota>,
    /// Sign-ins and registrations of passkeys, and their options, in total.
    pub passkey_service: Option<Quota>,
    /// Authorization requests of apps from one address, on one node.
    pub authorization_per_address: Option<Quota>,
    /// Authorization requests of apps in total, on one node.
    pub authorization_service: Option<Quota>,
    /// Metadata documents and keys of apps that are fetched because of requests from one address, on one node.
    pub client_document_per_address: Option<Quota>,
    /// Metadata documents and keys of apps that are fetched in total, on one node.
    pub client_document_service: Option<Quota>,
    /// Apps that register themselves from one address, on one node.
    pub client_registration_per_address: Option<Quota>,
    /// Apps that register themselves in total, on one node.
    pub client_registration_service: Option<Quota>,
    /// Refreshes from one address, on one node.
    pub refresh_per_address: Option<Quota>,
    /// Refreshes of one account's sessions, on one node.
    pub refresh_per_account: Option<Quota>,
    /// Refreshes in total, on one node.
    pub refresh_service: Option<Quota>,
    /// Introspections and token requests of one service client, on one node.
    pub introspection_per_client: Option<Quota>,
    /// Introspections and token requests in total, on one node.
    pub introspection_service: Option<Quota>,
    /// Failed authentications of service clients from one address, on one node.
    pub client_authentication_failures_per_address: Option<Quota>,
    /// The wider networks by which IPv6 addresses are counted a second time.
    pub ipv6_network: Option<Ipv6Network>,
}

/// The wider network by which every limit by address counts IPv6 addresses a second time, beside their /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Network {
    /// The length of its prefix in bits, 16 to 63.
    pub prefix: u8,
    /// The quota, as a multiple of the quota of one address.
    pub factor: u32,
}

pub(super) fn limits(read: &mut Reader<'_>) -> LimitSettings {
    LimitSettings {
        login_per_address: read.one("limits.login_per_address", quota),
        login_service: read.one("limits.login_service", quota),
        login_backoff: login_backoff(read),
        factor_per_address: read.one("limits.factor_per_address", quota),
        factor_mail_per_account: read.one("limits.factor_mail_per_account", quota),
        factor_backoff: factor_backoff(read),
        registration_per_address: read.one("limits.registration_per_address", quota),
        registration_per_account: read.one("limits.registration_per_account", quota),
        registration_service: read.one("limits.registration_service", quota),
        password_change_per_address: read.one("limits.password_change_per_address", quota),
        password_change_per_account: read.one("limits.password_change_per_account", quota),
        password_change_service: read.one("limits.password_change_service", quota),
        recovery_per_address: read.one("limits.recovery_per_address", quota),
        mail_per_account: read.one("limits.mail_per_account", quota),
        recovery_service: read.one("limits.recovery_service", quota),
        passkey_per_address: read.one("limits.passkey_per_address", quota),
        passkey_service: read.one("limits.passkey_service", quota),
        authorization_per_address: read.one("limits.authorization_per_address", quota),
        authorization_service: read.one("limits.authorization_service", quota),
        client_document_per_address: read.one("limits.client_document_per_address", quota),
        client_document_service: read.one("limits.client_document_service", quota),
        client_registration_per_address: read.one("limits.client_registration_per_address", quota),
        client_registration_service: read.one("limits.client_registration_service", quota),
        refresh_per_address: read.one("limits.refresh_per_address", quota),
        refresh_per_account: read.one("limits.refresh_per_account", quota),
        refresh_service: read.one("limits.refresh_service", quota),
        introspection_per_client: read.one("limits.introspection_per_client", quota),
        introspection_service: read.one("limits.introspection_service", quota),
        client_authentication_failures_per_address: read
            .one("limits.client_authentication_failures_per_address", quota),
        ipv6_network: ipv6_network(read),
    }
}

fn factor_backoff(read: &mut Reader<'_>) -> Option<FactorBackoff> {
    let failures_without_delay = read.one("limits.factor_backoff_after", |text| {
        number_or_off(text, 1..=100, "must be a whole number, 1 to 100, or off")
    });
    let first_delay = read.duration("limits.factor_backoff_first", SECOND, DAY);
    let max_delay = read.duration("limits.factor_backoff_max", SECOND, 7 * DAY);
    read.rule(&["limits.factor_backoff_first", "limits.factor_backoff_max"], first_delay <= max_delay, |read| {
        format!("must not be longer than {}", read.mention("limits.factor_backoff_max"))
    });
    failures_without_delay.map(|failures_without_delay| FactorBackoff {
        failures_without_delay,
        first_delay,
        max_delay,
    })
}

fn ipv6_network(read: &mut Reader<'_>) -> Option<Ipv6Network> {
    let prefix = read.one("limits.ipv6_prefix", |text| {
        number_or_off(text, 16..=63, "must be a prefix length in bits, 16 to 63, or off")
    });
    let factor = read.number("limits.ipv6_factor", 1..=65_536);
    prefix.map(|prefix| Ipv6Network { prefix, factor })
}

fn login_backoff(read: &mut Reader<'_>) -> Option<Backoff> {
    let failures_without_delay = read.one("limits.login_backoff_after", |text| {
        number_or_off(text, 1..=1000, "must be a whole number, 1 to 1000, or off")
    });
    let first_delay = read.duration("limits.login_backoff_first", SECOND / 10, DAY);
    let max_delay = read.duration("limits.login_backoff_max", SECOND / 10, DAY);
    let trust_ttl = read.duration("limits.known_for", DAY, 3650 * DAY);
    // at least 2: the device and the network of the last sign-in
    let max_trusted = read.number("limits.max_known", 2..=1000);
    read.rule(&["limits.login_backoff_first", "limits.login_backoff_max"], first_delay <= max_delay, |read| {
        format!("must not be longer than {}", read.mention("limits.login_backoff_max"))
    });
    failures_without_delay.map(|failures_without_delay| Backoff {
        failures_without_delay,
        first_delay,
        max_delay,
        trust_ttl,
        max_trusted,
    })
}

/// Parses a whole number within `allowed`, or `off`. `rule` is the error text.
fn number_or_off<N>(text: &str, allowed: RangeInclusive<N>, rule: &str) -> Result<Option<N>, String>
where
    N: FromStr + PartialOrd,
{
    if text == "off" {
        return Ok(None);
    }
    match text.parse::<N>() {
        Ok(number) if allowed.contains(&number) => Ok(Some(number)),
        _ => Err(rule.to_owned()),
    }
}

/// Parses a quota such as `300/5m`, or `off`.
fn quota(text: &str) -> Result<Option<Quota>, String> {
    let rule =
        || "must be a number of requests and a time, such as 300/5m (up to 10000000, in 1s to 1d), or off".to_owned();
    if text == "off" {
        return Ok(None);
    }
    let (count, window) = text.split_once('/').ok_or_else(rule)?;
    let count: u32 = count.parse().ok().filter(|count| (1..=10_000_000).contains(count)).ok_or_else(rule)?;
    let window = duration::parse(window).ok().filter(|window| (SECOND..=DAY).contains(window)).ok_or_else(rule)?;
    // A request becomes available every `window / count`, which must be at least a microsecond.
    if u128::from(count) > window.as_micros() {
        return Err(rule());
    }
    Ok(Some(Quota { count, window }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_is_parsed_as_number_and_time() {
        let valid = |count, secs| Ok(Some(Quota { count, window: Duration::from_secs(secs) }));
        assert_eq!(quota("300/5m"), valid(300, 300));
        assert_eq!(quota("1/1s"), valid(1, 1));
        assert_eq!(quota("10000000/1d"), valid(10_000_000, 86_400));
        assert_eq!(quota("off"), Ok(None));
        // `10000000/1s` allows a request in less than a microsecond
        for text in
            ["", "0/1s", "1", "1/", "/1s", "1/0", "-1/1s", "1/500ms", "1/2d", "10000001/1d", "10000000/1s", "Off"]
        {
            assert!(quota(text).is_err(), "{text}");
        }
    }
}
