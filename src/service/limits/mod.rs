//! Rate limits, checked before expensive work is done. Each check counts the request.
//!
//! A client's own limit is checked first and the limit of the whole service last. So a client that exceeds its own limit does not use up
//! the limit of the service.
//!
//! Redis counts logins, registrations, password changes and the like for all nodes together. Each node counts refreshes, introspections,
//! authorization requests, client documents, client registrations and failed client authentications by itself. A request to Redis would cost more than most of these requests,
//! and their limits only have to stop runaway programs.

mod factor_throttle;
mod login_throttle;
mod network;

use std::net::IpAddr;

pub use factor_throttle::FactorAttempt;
pub(in crate::service) use login_throttle::forget_devices;
pub use login_throttle::{AccountLookup, DeviceToken, LoginAttempt, TrustedDevice};

use self::network::Network;
use crate::{
    domain::{
        account::{Account, Email, Identifier},
        audit::{Actor, AuditEntry, AuditEvent},
        client::ClientId,
        ids::{AccountId, SessionId},
        limit::{LimitExceeded, LimitPolicy, Quota},
        one_time_token::TokenPurpose,
    },
    service::error::ServiceError,
    state::AppState,
    store::redis::{RedisError, ThrottleBucket},
};

/// The two limits of a client by its IP address: `address` for the IPv4 address or IPv6 /64, `network` for the wider IPv6 network.
#[derive(Clone, Copy)]
struct AddressPolicy {
    address: LimitPolicy,
    network: LimitPolicy,
}

const LOGIN: AddressPolicy = AddressPolicy { address: LimitPolicy::LoginAddress, network: LimitPolicy::LoginNetwork };
const REGISTRATION: AddressPolicy =
    AddressPolicy { address: LimitPolicy::RegistrationAddress, network: LimitPolicy::RegistrationNetwork };
const PASSWORD_CHANGE: AddressPolicy =
    AddressPolicy { address: LimitPolicy::PasswordChangeAddress, network: LimitPolicy::PasswordChangeNetwork };
const RECOVERY: AddressPolicy =
    AddressPolicy { address: LimitPolicy::RecoveryAddress, network: LimitPolicy::RecoveryNetwork };
const FACTOR: AddressPolicy =
    AddressPolicy { address: LimitPolicy::FactorAddress, network: LimitPolicy::FactorNetwork };
const PASSKEY: AddressPolicy =
    AddressPolicy { address: LimitPolicy::PasskeyAddress, network: LimitPolicy::PasskeyNetwork };
const AUTHORIZATION: AddressPolicy =
    AddressPolicy { address: LimitPolicy::AuthorizationAddress, network: LimitPolicy::AuthorizationNetwork };
const CLIENT_DOCUMENT: AddressPolicy =
    AddressPolicy { address: LimitPolicy::ClientDocumentAddress, network: LimitPolicy::ClientDocumentNetwork };
const CLIENT_REGISTRATION: AddressPolicy =
    AddressPolicy { address: LimitPolicy::ClientRegistrationAddress, network: LimitPolicy::ClientRegistrationNetwork };
const REFRESH: AddressPolicy =
    AddressPolicy { address: LimitPolicy::RefreshAddress, network: LimitPolicy::RefreshNetwork };
const CLIENT_AUTHENTICATION: AddressPolicy = AddressPolicy {
    address: LimitPolicy::ClientAuthenticationAddress,
    network: LimitPolicy::ClientAuthenticationNetwork,
};

/// The subject of the limits that count the requests of all clients.
const WHOLE_SERVICE: &[u8] = &[];

/// Behaviour of a shared limit while Redis does not answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfDown {
    /// The request fails: it needs Redis anyway.
    Fail,
    /// This node counts by itself.
    CountLocally,
}

/// Checks whether a password may be tried for `identifier`. Returns the attempt, which counts as a failure until
/// [`LoginAttempt::trust_device`] or [`LoginAttempt::refund`]. Also returns the account, if the check had to read it.
///
/// # Errors
/// [`ServiceError`]
pub async fn begin_login(
    state: &AppState,
    identifier: &Identifier,
    ip: Option<IpAddr>,
    device: Option<&DeviceToken>,
) -> Result<(LoginAttempt, AccountLookup), ServiceError> {
    let limits = &state.config.limits;
    count_shared_by_address(state, LOGIN, limits.login_per_address, ip, IfDown::Fail).await?;
    let (attempt, account) = LoginAttempt::begin(state, identifier, ip, device).await?;
    Ok((count_for_service(state, attempt).await?, account))
}

/// Checks whether a signed-in user (step-up) or the holder of a link may try the password of an account. The attempt counts like a sign-in
/// to the account.
///
/// # Errors
/// [`ServiceError`]
pub async fn begin_reauthentication(
    state: &AppState,
    account: AccountId,
    ip: Option<IpAddr>,
    device: Option<&DeviceToken>,
) -> Result<LoginAttempt, ServiceError> {
    let limits = &state.config.limits;
    count_shared_by_address(state, LOGIN, limits.login_per_address, ip, IfDown::Fail).await?;
    let attempt = LoginAttempt::begin_for_account(state, account, ip, device).await?;
    count_for_service(state, attempt).await
}

/// Counts an attempt against the limit of the whole service, and returns it. Refunds an attempt that this limit refuses.
async fn count_for_service(state: &AppState, attempt: LoginAttempt) -> Result<LoginAttempt, ServiceError> {
    let quota = state.config.limits.login_service;
    if let Err(refused) = count_shared(state, LimitPolicy::LoginService, quota, WHOLE_SERVICE, IfDown::Fail).await {
        // No password is tried, so the attempt must not count as a failure.
        attempt.refund(state).await;
        return Err(refused);
    }
    Ok(attempt)
}

/// Checks whether a client may register an e-mail address. Attempts at one e-mail address count per IPv4 address or /64 of the client,
/// so that a client cannot keep others from registering the address.
///
/// # Errors
/// [`ServiceError`]
pub async fn check_registration(state: &AppState, email: &Email, ip: Option<IpAddr>) -> Result<(), ServiceError> {
    let limits = &state.config.limits;
    let if_down = IfDown::CountLocally;
    count_shared_by_address(state, REGISTRATION, limits.registration_per_address, ip, if_down).await?;
    // The subject of the limit per account: `NETWORK|EMAIL`.
    let mut subject = Network::of_address(ip).as_bytes().to_vec();
    subject.push(b'|');
    subject.extend_from_slice(email.key().as_bytes());
    count_shared(state, LimitPolicy::RegistrationAccount, limits.registration_per_account, &subject, if_down).await?;
    count_shared(state, LimitPolicy::RegistrationService, limits.registration_service, WHOLE_SERVICE, if_down).await
}

/// Checks whether a session may change its account's password or addresses, or delete the account.
///
/// # Errors
/// [`ServiceError`]
pub async fn check_account_change(
    state: &AppState,
    session: SessionId,
    ip: Option<IpAddr>,
) -> Result<(), ServiceError> {
    let limits = &state.config.limits;
    // A Redis that is out of memory cannot count, but can still end sessions, so passwords can still be changed.
    let if_down = IfDown::CountLocally;
    // Named after the account, but counts a session: a thief with its token does not block the account's other sessions.
    let per_session = limits.password_change_per_account;
    count_shared(state, LimitPolicy::PasswordChangeAccount, per_session, session.as_bytes(), if_down).await?;
    count_shared_by_address(state, PASSWORD_CHANGE, limits.password_change_per_address, ip, if_down).await?;
    count_shared(state, LimitPolicy::PasswordChangeService, limits.password_change_service, WHOLE_SERVICE, if_down)
        .await
}

/// Checks whether a client may request a mail with a link or a code, use a link or a code, or read or change its account's data. The
/// limits named after recovery cover them all.
///
/// # Errors
/// [`ServiceError`]
pub async fn check_self_service(state: &AppState, ip: Option<IpAddr>) -> Result<(), ServiceError> {
    let limits = &state.config.limits;
    count_shared_by_address(state, RECOVERY, limits.recovery_per_address, ip, IfDown::Fail).await?;
    count_shared(state, LimitPolicy::RecoveryService, limits.recovery_service, WHOLE_SERVICE, IfDown::Fail).await
}

/// Checks whether a client may present or set up the second factor of a sign-in.
///
/// # Errors
/// [`ServiceError`]
pub async fn check_second_factor(state: &AppState, ip: Option<IpAddr>) -> Result<(), ServiceError> {
    count_shared_by_address(state, FACTOR, state.config.limits.factor_per_address, ip, IfDown::Fail).await
}

/// Checks whether a client may begin or finish a passkey ceremony.
///
/// # Errors
/// [`ServiceError`]
pub async fn check_passkey(state: &AppState, ip: Option<IpAddr>) -> Result<(), ServiceError> {
    let limits = &state.config.limits;
    count_shared_by_address(state, PASSKEY, limits.passkey_per_address, ip, IfDown::Fail).await?;
    count_shared(state, LimitPolicy::PasskeyService, limits.passkey_service, WHOLE_SERVICE, IfDown::Fail).await
}

/// Checks whether a mail with a code as a second factor may be sent to an account. Each device and network that the account recognizes
/// has a limit of its own, so that an attacker who knows the password does not use up the owner's mails.
///
/// # Errors
/// [`ServiceError`]
pub(super) async fn check_factor_mail(
    state: &AppState,
    account: AccountId,
    attempt: &LoginAttempt,
    ip: Option<IpAddr>,
) -> Result<(), ServiceError> {
    let Some(quota) = state.config.limits.factor_mail_per_account else { return Ok(()) };
    let policy = LimitPolicy::FactorMailAccount;
    let now = state.clock.now();
    // the bucket of the login throttle: the recognized device or network, or all others
    let bucket = attempt.recognized_bucket().cloned().unwrap_or_else(ThrottleBucket::unrecognized);
    let name =
        state.pseudonymizer.pseudonym(&[policy.as_str().as_bytes(), account.as_bytes(), bucket.as_str().as_bytes()]);
    let Some(retry_after) = state.redis.rate_limits.count_request(&name, quota, now).await? else { return Ok(()) };
    let entry =
        AuditEntry::new(now, AuditEvent::RateLimit).refused("too_many").detail(policy.as_str()).account(account);
    state.audit.record(entry.actor(Actor::Anyone).address(ip));
    Err(count_refusal(state, LimitExceeded { policy, quota, retry_after }))
}

/// Counts a mail that an unauthenticated client has requested, and returns whether it may be sent. Each purpose and each e-mail address of
/// an account has a limit of its own: a flood of mails to one address does not block mails to another.
///
/// # Errors
/// [`ServiceError`]
pub async fn admit_mail(
    state: &AppState,
    purpose: TokenPurpose,
    account: &Account,
    to: &Email,
) -> Result<bool, ServiceError> {
    let Some(quota) = state.config.limits.mail_per_account else { return Ok(true) };
    let purpose_byte = [purpose.byte()];
    let address_key = to.key();
    let mut parts = vec![LimitPolicy::MailAccount.as_str().as_bytes(), &purpose_byte, account.id.as_bytes()];
    // The primary address has the name that older releases use, which had no secondary addresses.
    if address_key != account.email.key() {
        parts.push(address_key.as_bytes());
    }
    let name = state.pseudonymizer.pseudonym(&parts);
    let refused = state.redis.rate_limits.count_request(&name, quota, state.clock.now()).await?;
    if refused.is_some() {
        state.metrics.rate_limited.with_label_values(&[LimitPolicy::MailAccount.as_str()]).inc();
    }
    Ok(refused.is_none())
}

/// Checks whether a browser may send an app's authorization request. The service may store the request in Redis.
///
/// # Errors
/// [`ServiceError`]
pub fn check_authorization(state: &AppState, ip: Option<IpAddr>) -> Result<(), ServiceError> {
    count_local_by_address(state, AUTHORIZATION, state.config.limits.authorization_per_address, ip)?;
    count_local(state, LimitPolicy::AuthorizationService, state.config.limits.authorization_service, WHOLE_SERVICE)
}

/// Checks whether a caller may make this node fetch the metadata document or the keys of a client.
///
/// # Errors
/// [`ServiceError`]
pub fn check_client_document(state: &AppState, ip: Option<IpAddr>) -> Result<(), ServiceError> {
    count_local_by_address(state, CLIENT_DOCUMENT, state.config.limits.client_document_per_address, ip)?;
    count_local(state, LimitPolicy::ClientDocumentService, state.config.limits.client_document_service, WHOLE_SERVICE)
}

/// Checks whether an app may register itself.
///
/// # Errors
/// [`ServiceError`]
pub fn check_client_registration(state: &AppState, ip: Option<IpAddr>) -> Result<(), ServiceError> {
    count_local_by_address(state, CLIENT_REGISTRATION, state.config.limits.client_registration_per_address, ip)?;
    count_local(
        state,
        LimitPolicy::ClientRegistrationService,
        state.config.limits.client_registration_service,
        WHOLE_SERVICE,
    )
}

/// Checks whether a client may present a refresh token, before the token is read.
///
/// # Errors
/// [`ServiceError`]
pub fn check_refresh_by_address(state: &AppState, ip: Option<IpAddr>) -> Result<(), ServiceError> {
    count_local_by_address(state, REFRESH, state.config.limits.refresh_per_address, ip)
}

/// Checks whether a session of an account may be refreshed.
///
/// # Errors
/// [`ServiceError`]
pub fn check_refresh_by_account(state: &AppState, account: AccountId) -> Result<(), ServiceError> {
    count_local(state, LimitPolicy::RefreshAccount, state.config.limits.refresh_per_account, account.as_bytes())?;
    count_local(state, LimitPolicy::RefreshService, state.config.limits.refresh_service, WHOLE_SERVICE)
}

/// Checks whether a service client may introspect a token, or request a token of its own.
///
/// # Errors
/// [`ServiceError`]
pub fn check_introspection(state: &AppState, client: &str) -> Result<(), ServiceError> {
    count_local(
        state,
        LimitPolicy::IntrospectionClient,
        state.config.limits.introspection_per_client,
        client.as_bytes(),
    )?;
    count_local(state, LimitPolicy::IntrospectionService, state.config.limits.introspection_service, WHOLE_SERVICE)
}

/// Counts a failed client authentication. Successful authentications are never limited, so that a client with a wrong secret can't lock
/// out other clients behind the same address.
///
/// # Errors
/// [`ServiceError`]
pub fn count_client_authentication_failure(state: &AppState, ip: Option<IpAddr>) -> Result<(), ServiceError> {
    count_local_by_address(
        state,
        CLIENT_AUTHENTICATION,
        state.config.limits.client_authentication_failures_per_address,
        ip,
    )
}

/// Counts a request against this node's own count of a quota.
fn count_local(
    state: &AppState,
    policy: LimitPolicy,
    quota: Option<Quota>,
    subject: &[u8],
) -> Result<(), ServiceError> {
    let Some(quota) = quota else { return Ok(()) };
    match state.local_limits.count_request(policy, subject, quota, state.clock.now()) {
        None => Ok(()),
        Some(retry_after) => {
            record_refusal(state, policy, subject);
            Err(count_refusal(state, LimitExceeded { policy, quota, retry_after }))
        }
    }
}

/// Counts a request against this node's quotas of an address and of its wider IPv6 network.
fn count_local_by_address(
    state: &AppState,
    policy: AddressPolicy,
    quota: Option<Quota>,
    ip: Option<IpAddr>,
) -> Result<(), ServiceError> {
    let Some(quota) = quota else { return Ok(()) };
    count_local(state, policy.address, Some(quota), Network::of_address(ip).as_bytes())?;
    match wider_network(state, quota, ip) {
        None => Ok(()),
        Some((wider_quota, network)) => count_local(state, policy.network, Some(wider_quota), network.as_bytes()),
    }
}

/// Counts a request against a quota that all nodes share.
async fn count_shared(
    state: &AppState,
    policy: LimitPolicy,
    quota: Option<Quota>,
    subject: &[u8],
    if_down: IfDown,
) -> Result<(), ServiceError> {
    let Some(quota) = quota else { return Ok(()) };
    let name = state.pseudonymizer.pseudonym(&[policy.as_str().as_bytes(), subject]);
    match state.redis.rate_limits.count_request(&name, quota, state.clock.now()).await {
        Ok(None) => Ok(()),
        Ok(Some(retry_after)) => {
            record_refusal(state, policy, subject);
            Err(count_refusal(state, LimitExceeded { policy, quota, retry_after }))
        }
        Err(error @ RedisError::Unavailable(_)) if if_down == IfDown::CountLocally => {
            tracing::debug!(
                %error,
                %policy,
                "Redis does not answer; this node counts the rate limit by itself until Redis answers again"
            );
            count_local(state, policy, Some(quota), subject)
        }
        Err(error) => Err(error.into()),
    }
}

/// Counts a request against the shared quotas of an address and of its wider IPv6 network.
async fn count_shared_by_address(
    state: &AppState,
    policy: AddressPolicy,
    quota: Option<Quota>,
    ip: Option<IpAddr>,
    if_down: IfDown,
) -> Result<(), ServiceError> {
    let Some(quota) = quota else { return Ok(()) };
    count_shared(state, policy.address, Some(quota), Network::of_address(ip).as_bytes(), if_down).await?;
    match wider_network(state, quota, ip) {
        None => Ok(()),
        Some((wider_quota, network)) => {
            count_shared(state, policy.network, Some(wider_quota), network.as_bytes(), if_down).await
        }
    }
}

/// The wider network of an IPv6 address (`limits.ipv6_prefix`), with its quota. `None` for IPv4, or if the setting is off.
fn wider_network(state: &AppState, quota: Quota, ip: Option<IpAddr>) -> Option<(Quota, Network)> {
    let settings = state.config.limits.ipv6_network?;
    let network = Network::wide(ip, settings.prefix)?;
    Some((Quota { count: quota.count.saturating_mul(settings.factor), ..quota }, network))
}

/// Counts a refusal in the metrics, and returns its error.
fn count_refusal(state: &AppState, exceeded: LimitExceeded) -> ServiceError {
    state.metrics.rate_limited.with_label_values(&[exceeded.policy.as_str()]).inc();
    exceeded.into()
}

/// Writes a refusal to the audit log, with the account, session, client or network that the limit counts by.
fn record_refusal(state: &AppState, policy: LimitPolicy, subject: &[u8]) {
    let mut entry =
        AuditEntry::new(state.clock.now(), AuditEvent::RateLimit).refused("too_many").detail(policy.as_str());
    entry.facts.actor = Some(Actor::Anyone);
    match policy {
        LimitPolicy::RefreshAccount => entry.facts.account = subject.try_into().ok().map(AccountId::from_bytes),
        LimitPolicy::PasswordChangeAccount => entry.facts.session = subject.try_into().ok().map(SessionId::from_bytes),
        LimitPolicy::IntrospectionClient => {
            entry.facts.client = std::str::from_utf8(subject).ok().and_then(|name| ClientId::parse(name).ok());
        }
        policy if policy.is_by_address() => {
            entry.facts.address = Network::address(subject);
        }
        _ => {}
    }
    state.audit.record(entry);
}
