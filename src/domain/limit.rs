//! Rate limits by the generic cell rate algorithm (GCRA). `limit.lua` implements the same algorithm in Redis.

use std::{fmt, time::Duration};

use super::clock::Timestamp;

/// A number of requests per period. All of them may arrive at once; the quota refills evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The number of requests, at least 1.
    pub count: u32,
    /// The period.
    pub window: Duration,
}

impl Quota {
    /// The time in which the quota refills by one request, in microseconds.
    pub fn interval_micros(self) -> i64 {
        let window_micros = i64::try_from(self.window.as_micros()).unwrap_or(i64::MAX);
        (window_micros / i64::from(self.count.max(1))).max(1)
    }
}

/// The result of counting a request against a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaDecision {
    /// When the quota will have refilled completely, in microseconds since the Unix epoch: the state to store.
    pub full_at: i64,
    /// How long to wait, if the quota is exhausted.
    pub refused_for: Option<Duration>,
}

/// Counts a request against `quota`. `full_at` is the stored [`QuotaDecision::full_at`], if any. A refused request is not counted.
pub fn count_request(quota: Quota, full_at: Option<i64>, now: Timestamp) -> QuotaDecision {
    // All variables here are in microseconds.
    let now = now.as_millis().saturating_mul(1000);
    let interval = quota.interval_micros();
    let capacity = interval.saturating_mul(i64::from(quota.count));
    // The times at which the quota has refilled completely, without and with this request.
    let before = full_at.map_or(now, |full_at| full_at.max(now));
    let after = before.saturating_add(interval);
    let wait = after.saturating_sub(now).saturating_sub(capacity);
    if wait > 0 {
        return QuotaDecision { full_at: before, refused_for: Some(Duration::from_micros(wait.unsigned_abs())) };
    }
    QuotaDecision { full_at: after, refused_for: None }
}

macro_rules! limit_policies {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A rate limit. `429` responses, metrics and the audit log use its name. A limit by IP address counts an IPv6
        /// address by its /64 and by a wider network, such as its /48.
        ///
        /// Redis counts the limits from [`Self::LoginAddress`] to [`Self::PasskeyService`] for all nodes. While Redis is
        /// unavailable, each node counts those of registrations and password changes by itself, and requests under the others
        /// fail. Each node always counts the limits from [`Self::AuthorizationAddress`] on by itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum LimitPolicy {
            $($(#[$doc])* $name,)*
        }

        impl LimitPolicy {
            /// All limits.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable name.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

limit_policies! {
    /// Sign-ins from an IP address, or from its /64.
    LoginAddress = "login-address",
    /// Sign-ins from a wider IPv6 network.
    LoginNetwork = "login-network",
    /// Failed sign-ins to an account.
    LoginAccount = "login-account",
    /// Sign-ins to the service.
    LoginService = "login-service",
    /// Second factors from an address, or from its /64.
    FactorAddress = "factor-address",
    /// Second factors from a wider IPv6 network.
    FactorNetwork = "factor-network",
    /// Wrong codes of an account's second factors.
    FactorAccount = "factor-account",
    /// Mails with a code as a second factor of an account.
    FactorMailAccount = "factor-mail-account",
    /// Mails with a link or a code to an e-mail address of an account.
    MailAccount = "mail-account",
    /// Registrations from an address, or from its /64.
    RegistrationAddress = "registration-address",
    /// Registrations from a wider IPv6 network.
    RegistrationNetwork = "registration-network",
    /// Registrations of an e-mail address from an IPv4 address or a /64.
    RegistrationAccount = "registration-account",
    /// Registrations at the service.
    RegistrationService = "registration-service",
    /// Password changes from an address, or from its /64.
    PasswordChangeAddress = "password-change-address",
    /// Password changes from a wider IPv6 network.
    PasswordChangeNetwork = "password-change-network",
    /// Password changes by a session of an account.
    PasswordChangeAccount = "password-change-account",
    /// Password changes at the service.
    PasswordChangeService = "password-change-service",
    /// Requests for mails with links and codes, and uses of them, from an address, or from its /64.
    RecoveryAddress = "recovery-address",
    /// Requests for mails with links and codes, and uses of them, from a wider IPv6 network.
    RecoveryNetwork = "recovery-network",
    /// Requests for mails with links and codes, and uses of them, at the service.
    RecoveryService = "recovery-service",
    /// Passkey ceremonies from an address, or from its /64.
    PasskeyAddress = "passkey-address",
    /// Passkey ceremonies from a wider IPv6 network.
    PasskeyNetwork = "passkey-network",
    /// Passkey ceremonies at the service.
    PasskeyService = "passkey-service",
    /// Authorization requests from an address, or from its /64.
    AuthorizationAddress = "authorization-address",
    /// Authorization requests from a wider IPv6 network.
    AuthorizationNetwork = "authorization-network",
    /// Authorization requests at a node.
    AuthorizationService = "authorization-service",
    /// Fetches of metadata documents and keys for an address, or for its /64.
    ClientDocumentAddress = "client-document-address",
    /// Fetches of metadata documents and keys for a wider IPv6 network.
    ClientDocumentNetwork = "client-document-network",
    /// Fetches of metadata documents and keys by a node.
    ClientDocumentService = "client-document-service",
    /// Registrations of apps from an address, or from its /64.
    ClientRegistrationAddress = "client-registration-address",
    /// Registrations of apps from a wider IPv6 network.
    ClientRegistrationNetwork = "client-registration-network",
    /// Registrations of apps at a node.
    ClientRegistrationService = "client-registration-service",
    /// Refreshes from an address, or from its /64.
    RefreshAddress = "refresh-address",
    /// Refreshes from a wider IPv6 network.
    RefreshNetwork = "refresh-network",
    /// Refreshes of an account's sessions.
    RefreshAccount = "refresh-account",
    /// Refreshes at a node.
    RefreshService = "refresh-service",
    /// Introspections by a client.
    IntrospectionClient = "introspection-client",
    /// Introspections at a node.
    IntrospectionService = "introspection-service",
    /// Failed client authentications from an address, or from its /64.
    ClientAuthenticationAddress = "client-authentication-address",
    /// Failed client authentications from a wider IPv6 network.
    ClientAuthenticationNetwork = "client-authentication-network",
}

impl LimitPolicy {
    /// Whether the limit counts by address or network.
    pub fn is_by_address(self) -> bool {
        self.as_str().ends_with("-address") || self.as_str().ends_with("-network")
    }
}

impl fmt::Display for LimitPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request exceeded a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests: {policy}")]
pub struct LimitExceeded {
    /// The limit that was exceeded.
    pub policy: LimitPolicy,
    /// The requests that the limit allows.
    pub quota: Quota,
    /// How long to wait before a retry.
    pub retry_after: Duration,
}

/// The delays after failed logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The number of failures without a delay.
    pub failures_without_delay: u32,
    /// The delay after the first failure beyond [`Self::failures_without_delay`]. Each further failure doubles it.
    pub first_delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
    /// How long after a login the account trusts its device and network.
    pub trust_ttl: Duration,
    /// The maximum number of devices and networks that an account trusts. The least recently seen one is evicted first.
    pub max_trusted: u32,
}

impl Backoff {
    /// The number of failures without a delay from a trusted device or network: twenty times [`Self::failures_without_delay`].
    /// Logins in progress count as failures until they succeed, and a busy program may send many logins from one network.
    pub fn failures_without_delay_if_trusted(self) -> u32 {
        self.failures_without_delay.saturating_mul(20)
    }
}

/// The delays after wrong codes of a second factor. For each kind of factor of an account, each recognized device has a
/// count of its own, and all other devices share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactorBackoff {
    /// The number of wrong codes without a delay.
    pub failures_without_delay: u32,
    /// The delay after the first wrong code beyond [`Self::failures_without_delay`]. Each further wrong code doubles it.
    pub first_delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
}

impl FactorBackoff {
    /// How long wrong codes are counted: a day, or twice the longest delay if that is longer.
    pub fn retention(self) -> Duration {
        Duration::from_hours(24).max(2 * self.max_delay)
    }

    /// The number of codes that an attacker can try within `window`, waiting only as long as required.
    pub fn attempts_within(self, window: Duration) -> u32 {
        // The first delay follows the failure after those without a delay.
        let free_attempts = self.failures_without_delay.saturating_add(1);
        let mut attempts = free_attempts;
        let mut elapsed = Duration::ZERO;
        loop {
            // at most 31, so that `1 << doublings` fits a `u32`
            let doublings = (attempts - free_attempts).min(31);
            let delay = self.first_delay.saturating_mul(1 << doublings);
            elapsed += delay.min(self.max_delay);
            // With a delay of zero, `elapsed` might never reach `window`.
            if elapsed >= window || delay.is_zero() {
                return attempts;
            }
            attempts += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A time, in milliseconds after the start of the test.
    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + millis)
    }

    #[test]
    fn quota_allows_a_burst_and_refills_evenly() {
        let quota = Quota { count: 3, window: Duration::from_secs(30) };
        let mut full_at = None;
        for _ in 0..3 {
            let decision = count_request(quota, full_at, at(0));
            assert_eq!(decision.refused_for, None);
            full_at = Some(decision.full_at);
        }
        // One request refills in ten seconds, of which four have passed.
        let decision = count_request(quota, full_at, at(4000));
        assert_eq!(decision, QuotaDecision { full_at: full_at.unwrap(), refused_for: Some(Duration::from_secs(6)) });
        assert_eq!(count_request(quota, full_at, at(10_000)).refused_for, None);
    }

    /// The calculation in docs/factors.md. A code of an authenticator app has six digits, three codes are valid at a time, and an
    /// account has at most two authenticator apps.
    #[test]
    fn guessing_a_code_within_a_day_succeeds_less_often_than_once_in_ten_thousand() {
        let minutes = |count| Duration::from_mins(count);
        let backoff = FactorBackoff { failures_without_delay: 5, first_delay: minutes(5), max_delay: minutes(12 * 60) };
        let attempts = backoff.attempts_within(minutes(24 * 60));
        // 5 attempts without a delay, and a sixth. The next seven waits take 635 minutes together, and the eighth takes 640. The ninth
        // would take 720, beyond the day.
        assert_eq!(attempts, 14);
        let (apps, valid_codes, all_codes) = (2.0, 3.0, 1e6);
        assert!(f64::from(attempts) * apps * valid_codes / all_codes < 1e-4);
    }

    proptest! {
        /// In any period no more requests pass than the quota and its refill allow, and waiting as long as required suffices.
        #[test]
        fn quota_never_admits_more_than_its_count_and_refill(
            count in 1..500_u32,
            window in 1_000..100_000_u64,
            steps in prop::collection::vec(0..2_000_i64, 1..400),
        ) {
            let quota = Quota { count, window: Duration::from_millis(window) };
            let mut full_at = None;
            let mut now = 0;
            let mut allowed = 0_u64;
            for step in steps {
                now += step;
                let decision = count_request(quota, full_at, at(now));
                match decision.refused_for {
                    None => allowed += 1,
                    Some(wait) => {
                        // a millisecond more, because timestamps have no microseconds
                        let later = at(now) + wait + Duration::from_millis(1);
                        prop_assert_eq!(count_request(quota, Some(decision.full_at), later).refused_for, None);
                    }
                }
                full_at = Some(decision.full_at);
            }
            let now_micros = now * 1000;
            let refilled = now_micros / quota.interval_micros();
            prop_assert!(allowed <= u64::from(count) + refilled.unsigned_abs());
        }
    }
}
