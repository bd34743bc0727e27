//! Brute-force protection of logins: failed attempts make further attempts at the same account wait.
//!
//! Failures are counted by the account's id, whether its address or its username was typed. Each account has several buckets: one for
//! each device and network where the owner has logged in before, and one for all other callers. So other callers can't make the owner wait.
//!
//! An account recognizes a device by its token from an earlier login, of which Redis holds a keyed hash. It recognizes a client without
//! a token by its network. An identifier without an account is counted by its keyed digest, with the same Redis commands. So the
//! throttle does not reveal whether an account exists (I7).

use std::{fmt, net::IpAddr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{count_refusal, network::Network};
use crate::{
    domain::{
        account::{Account, Identifier},
        audit::{Actor, AuditEntry, AuditEvent},
        entropy::Entropy,
        ids::AccountId,
        limit::{Backoff, LimitExceeded, LimitPolicy, Quota},
        secret::SecretText,
    },
    service::error::ServiceError,
    state::{AppState, login_subjects::LoginSubject},
    store::redis::{ThrottleBucket, ThrottleDecision},
};

/// Prefix of every device token.
const PREFIX: &str = "lk_dt_";

/// Identifies a device to an account whose owner logged in there, so that failures of other callers don't delay its logins. The token
/// authenticates no user. 256 random bits; `Debug` does not print them.
#[derive(Clone)]
pub struct DeviceToken(SecretText);

impl DeviceToken {
    /// Parses a token; `None` if the text is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let bits = text.strip_prefix(PREFIX)?;
        // 32 bytes are 43 characters of base64url.
        let is_valid = bits.len() == 43 && bits.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        is_valid.then(|| Self(text.into()))
    }

    fn generate(entropy: &Entropy) -> Self {
        Self(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(entropy.bytes::<32>())).into())
    }

    /// The token, to be sent to its device.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for DeviceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[device token]")
    }
}

/// The account of a typed identifier, if the throttle had to read it.
#[derive(Debug)]
pub enum AccountLookup {
    /// The account was not read, so the caller reads it.
    Deferred,
    /// The account was read just now. `None` if it does not exist.
    Done(Option<Box<Account>>),
}

/// The device of a complete login.
#[derive(Debug)]
pub struct TrustedDevice {
    /// The token that identifies the device to the account from now on.
    pub token: DeviceToken,
    /// Whether the device is new: the account recognizes other devices or networks, but not this device nor its network.
    pub is_new: bool,
}

/// An admitted login attempt. Counts as a failure until [`LoginAttempt::trust_device`] or [`LoginAttempt::refund`].
#[derive(Debug)]
#[must_use]
pub struct LoginAttempt {
    /// The name under which Redis counts: the keyed digest of the account's id, or of an identifier without an account.
    subject: String,
    /// The bucket that the attempt was counted in; `None` if it was not counted.
    bucket: Option<ThrottleBucket>,
    /// The client's network.
    network: Network,
    /// The device's token, if the account recognizes the device.
    recognized_device: Option<DeviceToken>,
    /// Whether the account recognizes neither the device nor the network. False if they were not looked up.
    is_unrecognized: bool,
    /// The bucket of the device or the network, if the account recognizes one of them.
    recognized_bucket: Option<ThrottleBucket>,
}

impl LoginAttempt {
    /// An attempt that is not counted, and whose device and network are not looked up.
    fn uncounted(subject: String, ip: Option<IpAddr>) -> Self {
        Self {
            subject,
            bucket: None,
            network: Network::of_address(ip),
            recognized_device: None,
            is_unrecognized: false,
            recognized_bucket: None,
        }
    }

    /// Creates an attempt that is not counted, for a sign-in without a password. Looks up whether the account recognizes the device or its
    /// network.
    ///
    /// # Errors
    /// [`ServiceError`]
    pub async fn recognize(
        state: &AppState,
        account: AccountId,
        ip: Option<IpAddr>,
        device: Option<&DeviceToken>,
    ) -> Result<Self, ServiceError> {
        let mut attempt = Self::uncounted(subject_of(state, account), ip);
        if state.config.limits.login_backoff.is_some() {
            let device_bucket = device.map(|token| device_bucket(state, &attempt.subject, token));
            let address_bucket = address_bucket(state, &attempt.subject, attempt.network);
            let limiter = &state.redis.rate_limits;
            let now = state.clock.now();
            let recognized = limiter.recognize(&attempt.subject, device_bucket.as_ref(), &address_bucket, now).await?;
            attempt.is_unrecognized = recognized.is_none();
            // both buckets may be `None`
            let is_recognized_by_token = device_bucket.is_some() && device_bucket == recognized;
            attempt.recognized_device = device.filter(|_| is_recognized_by_token).cloned();
            attempt.recognized_bucket = recognized;
        }
        Ok(attempt)
    }

    /// Counts an attempt before the password is checked. Also returns the account, if it was read from the database to find its id.
    pub(super) async fn begin(
        state: &AppState,
        identifier: &Identifier,
        ip: Option<IpAddr>,
        device: Option<&DeviceToken>,
    ) -> Result<(Self, AccountLookup), ServiceError> {
        let Some(backoff) = state.config.limits.login_backoff else {
            let unused_subject = String::new();
            return Ok((Self::uncounted(unused_subject, ip), AccountLookup::Deferred));
        };
        let now = state.clock.now();
        let digest = digest_of(state, identifier);
        let (found, lookup) = match state.login_subjects.get(&digest, now) {
            Some(found) => (found, AccountLookup::Deferred),
            None => {
                let account = state.sql.find_account(identifier).await?;
                let found = match &account {
                    Some(account) => LoginSubject::Account(account.id),
                    None => LoginSubject::Identifier,
                };
                state.login_subjects.insert(&digest, found, now);
                (found, AccountLookup::Done(account.map(Box::new)))
            }
        };
        let (id, subject) = match found {
            LoginSubject::Account(id) => (Some(id), subject_of(state, id)),
            LoginSubject::Identifier => (None, digest),
        };
        let attempt = Self::admit(state, id, subject, backoff, ip, device).await?;
        Ok((attempt, lookup))
    }

    /// Counts an attempt at an account, before the password is checked.
    pub(super) async fn begin_for_account(
        state: &AppState,
        account: AccountId,
        ip: Option<IpAddr>,
        device: Option<&DeviceToken>,
    ) -> Result<Self, ServiceError> {
        let subject = subject_of(state, account);
        match state.config.limits.login_backoff {
            None => Ok(Self::uncounted(subject, ip)),
            Some(backoff) => Self::admit(state, Some(account), subject, backoff, ip, device).await,
        }
    }

    /// Counts an attempt under `subject`, or refuses it. `account`, if there is one, is for the audit log.
    async fn admit(
        state: &AppState,
        account: Option<AccountId>,
        subject: String,
        backoff: Backoff,
        ip: Option<IpAddr>,
        device: Option<&DeviceToken>,
    ) -> Result<Self, ServiceError> {
        let network = Network::of_address(ip);
        let device_bucket = device.map(|token| device_bucket(state, &subject, token));
        let address_bucket = address_bucket(state, &subject, network);
        let limiter = &state.redis.rate_limits;
        let now = state.clock.now();
        match limiter.admit(&subject, device_bucket.as_ref(), &address_bucket, backoff, now).await? {
            ThrottleDecision::Admitted(bucket) => {
                let is_recognized_by_token = device_bucket.as_ref() == Some(&bucket);
                let recognized_device = device.filter(|_| is_recognized_by_token).cloned();
                let is_unrecognized = bucket.is_unrecognized();
                let recognized_bucket = (!is_unrecognized).then(|| bucket.clone());
                Ok(Self {
                    subject,
                    bucket: Some(bucket),
                    network,
                    recognized_device,
                    is_unrecognized,
                    recognized_bucket,
                })
            }
            ThrottleDecision::Wait(retry_after) => {
                let mut entry = AuditEntry::new(now, AuditEvent::RateLimit)
                    .refused("too_many")
                    .detail(LimitPolicy::LoginAccount.as_str());
                entry.facts.account = account;
                state.audit.record(entry.actor(Actor::Anyone).address(ip));
                Err(count_refusal(
                    state,
                    LimitExceeded { policy: LimitPolicy::LoginAccount, quota: quota_of(backoff), retry_after },
                ))
            }
        }
    }

    /// The bucket of the device or the network, if the account recognizes one of them.
    pub(in crate::service) fn recognized_bucket(&self) -> Option<&ThrottleBucket> {
        self.recognized_bucket.as_ref()
    }

    /// Returns the attempt without its device's token, so that the device gets a new one. The former token may have copies, which must
    /// not skip a second factor.
    pub(in crate::service) fn with_new_device_token(self) -> Self {
        Self { recognized_device: None, ..self }
    }

    /// Removes the attempt from the failures after a complete login, and makes the account recognize the device and the network. If Redis
    /// does not answer, both may fail.
    ///
    /// A device token that the account did not recognize is replaced by a new one, since an attacker may have chosen it. The token of a
    /// `remembered` device, which skips the second factor, stays.
    pub async fn trust_device(
        &self,
        state: &AppState,
        account: &Account,
        remembered: Option<&DeviceToken>,
    ) -> TrustedDevice {
        let former = remembered.or(self.recognized_device.as_ref()).cloned();
        let token = former.unwrap_or_else(|| DeviceToken::generate(&state.entropy));
        let Some(backoff) = state.config.limits.login_backoff else { return TrustedDevice { token, is_new: false } };
        let subject = subject_of(state, account.id);
        // If the account was registered after the attempt began, the attempt was counted under the identifier's digest.
        let is_same_subject = subject == self.subject;
        let counted_in = self.bucket.as_ref().filter(|_| is_same_subject);
        let device_bucket = device_bucket(state, &subject, &token);
        let address_bucket = address_bucket(state, &subject, self.network);
        let limiter = &state.redis.rate_limits;
        let now = state.clock.now();
        let trusted = limiter.trust_device(&subject, &device_bucket, &address_bucket, counted_in, backoff, now).await;
        // The first device that an account recognizes is not reported as new.
        let is_new = match trusted {
            Ok(recognized_before) => recognized_before > 0 && self.is_unrecognized && is_same_subject,
            Err(error) => {
                tracing::warn!(
                    account = %account.id,
                    %error,
                    "marking a device as recognized failed: its next login counts as a login from an unrecognized \
                     device, and may be delayed"
                );
                false
            }
        };
        TrustedDevice { token, is_new }
    }

    /// Removes the attempt from the failures, because the password was not checked or was right.
    pub async fn refund(&self, state: &AppState) {
        let Some(bucket) = &self.bucket else { return };
        if let Err(error) = state.redis.rate_limits.refund(&self.subject, bucket).await {
            tracing::debug!(
                %error,
                "the count of failed logins could not be corrected: this attempt counts as a failed one, so a later \
                 one may be delayed"
            );
        }
    }
}

/// Forgets the devices and networks that an account recognizes: until their next complete sign-in they count as unrecognized.
///
/// # Errors
/// [`ServiceError`]
pub(in crate::service) async fn forget_devices(state: &AppState, account: AccountId) -> Result<(), ServiceError> {
    Ok(state.redis.rate_limits.forget_devices(&subject_of(state, account)).await?)
}

/// The backoff as a quota, for the `RateLimit-Policy` header: the failures without a delay, and how long they are counted.
fn quota_of(backoff: Backoff) -> Quota {
    Quota { count: backoff.failures_without_delay, window: crate::store::redis::FEW_FAILURES_RETENTION }
}

/// The keyed digest of an e-mail address or a username.
fn digest_of(state: &AppState, identifier: &Identifier) -> String {
    let text = identifier.key();
    state.pseudonymizer.pseudonym(&[b"account", text.as_bytes()])
}

/// The name under which Redis counts the attempts at an account: the keyed digest of its id.
fn subject_of(state: &AppState, account: AccountId) -> String {
    state.pseudonymizer.pseudonym(&[b"account-id", account.as_bytes()])
}

fn device_bucket(state: &AppState, subject: &str, token: &DeviceToken) -> ThrottleBucket {
    ThrottleBucket::device(&state.pseudonymizer.pseudonym(&[b"device", subject.as_bytes(), token.expose().as_bytes()]))
}

fn address_bucket(state: &AppState, subject: &str, network: Network) -> ThrottleBucket {
    ThrottleBucket::address(&state.pseudonymizer.pseudonym(&[b"address", subject.as_bytes(), network.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_token_of_another_form_is_not_parsed() {
        let token = DeviceToken::generate(&Entropy::system());
        assert!(DeviceToken::parse(token.expose()).is_some());
        assert_eq!(format!("{token:?}"), "[device token]");
        let without_first_character = &token.expose()[1..];
        let one_too_long = format!("{}A", token.expose());
        for text in ["", "lk_dt_", without_first_character, &one_too_long, "lk_dt_ä"] {
            assert!(DeviceToken::parse(text).is_none(), "{text}");
        }
    }
}
