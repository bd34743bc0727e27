//! Continues a sign-in with a second factor.

use serde_json::{Map, Value};

use super::{
    Authenticated, IssuedChallenge, SignInStep, SignedIn,
    challenge::{self, OpenChallenge},
    email_code, policy,
};
use crate::{
    domain::{
        account::Account,
        audit::{Actor, AuditEntry, AuditEvent},
        authentication::{Acr, Authentication, AuthenticationMethod, AuthenticationMethods},
        challenge::ChallengePurpose,
        clock::Timestamp,
        factor::FactorKind,
        secret::SecretText,
        session::{SessionOrigin, Transport},
    },
    metrics::{SecondFactorMethod, SecondFactorOutcome},
    service::{
        error::{ServiceError, from_store_errors},
        factors::{CodeSearch, recovery_codes, totp},
        limits::{self, DeviceToken, FactorAttempt, LoginAttempt},
        one_time_tokens::{self, Claim},
        passkeys::{
            PasskeyError, PasskeyOptions,
            verify::{self, PasskeyTask},
        },
        remembered_devices,
        request_origin::RequestOrigin,
    },
    state::AppState,
};

/// A second factor, as a client presents it.
#[derive(Clone, Debug)]
pub enum SecondFactor {
    /// A code of an authenticator app.
    Totp(SecretText),
    /// A recovery code.
    RecoveryCode(SecretText),
    /// A code that [`send_email_code`] has sent.
    EmailCode(SecretText),
    /// The response of a passkey, in the JSON form of WebAuthn.
    Passkey(Map<String, Value>),
}

impl SecondFactor {
    /// The kind.
    pub const fn kind(&self) -> FactorKind {
        match self {
            Self::Totp(_) => FactorKind::Totp,
            Self::RecoveryCode(_) => FactorKind::RecoveryCode,
            Self::EmailCode(_) => FactorKind::EmailCode,
            Self::Passkey(_) => FactorKind::Passkey,
        }
    }
}

/// The transports that a response can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedTransports {
    /// Refresh tokens in bodies; the response must not set a cookie.
    Bearer,
    /// Refresh tokens in bodies and in the cookie.
    BearerAndCookie,
    /// The browser's session, on the service's own pages.
    Browser,
}

/// The client that continues a sign-in.
#[derive(Clone, Debug)]
pub struct Continuation {
    /// The challenge.
    pub challenge: SecretText,
    /// The IP address, which may differ from that of the first step, and the user agent. The challenge has the device's name.
    pub origin: SessionOrigin,
    /// The token of the device: the same as at the first step.
    pub device: Option<DeviceToken>,
    /// The transports that the response can serve. A challenge for another transport is refused.
    pub accepted: AcceptedTransports,
    /// The refresh token of a former session of the client, which the new session replaces.
    pub replaces: Option<String>,
}

/// Why a sign-in did not continue.
#[derive(Debug, thiserror::Error)]
pub enum SecondFactorError {
    /// The challenge was used, has expired, is for another purpose, transport or device, or the account has changed: sign in again.
    #[error("the challenge does not work")]
    InvalidChallenge,
    /// The code is wrong or was used. The challenge still works.
    #[error("the code is wrong")]
    WrongCode,
    /// The passkey was not accepted. The challenge still works.
    #[error("the passkey was not accepted")]
    WrongPasskey,
    /// Passkeys are off.
    #[error("passkeys are off")]
    PasskeysOff,
    /// The sign-in can't continue with a code by mail.
    #[error("the sign-in can't continue with a code by mail")]
    EmailCodeNotOffered,
    /// The code is right; a second factor of a higher level must be set up.
    #[error("a second factor must be set up")]
    EnrolmentRequired(Box<IssuedChallenge>),
    /// The response would have to set a cookie, but only bearer tokens are accepted.
    #[error("the session's refresh token is in a cookie, which a page of another site must not set")]
    CookieNotAccepted,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(SecondFactorError);

impl From<PasskeyError> for SecondFactorError {
    fn from(error: PasskeyError) -> Self {
        match error {
            PasskeyError::Off => Self::PasskeysOff,
            PasskeyError::Refused => Self::WrongPasskey,
            PasskeyError::Service(error) => Self::Service(error),
        }
    }
}

/// Continues a sign-in with a second factor. A wrong code counts as a failed attempt, and the challenge still works. With
/// `remember_device`, the device skips the second factor from now on, if the policy allows it.
///
/// # Errors
/// [`SecondFactorError`]
pub async fn continue_with(
    state: &AppState,
    input: &Continuation,
    factor: &SecondFactor,
    remember_device: bool,
) -> Result<Box<SignedIn>, SecondFactorError> {
    let outcome = try_continue(state, input, factor, remember_device).await;
    let counted = match &outcome {
        Ok(_) | Err(SecondFactorError::EnrolmentRequired(_)) => SecondFactorOutcome::Success,
        Err(SecondFactorError::InvalidChallenge) => SecondFactorOutcome::InvalidChallenge,
        Err(SecondFactorError::WrongCode | SecondFactorError::WrongPasskey) => SecondFactorOutcome::WrongCode,
        Err(
            SecondFactorError::CookieNotAccepted
            | SecondFactorError::PasskeysOff
            | SecondFactorError::EmailCodeNotOffered,
        ) => SecondFactorOutcome::Refused,
        Err(SecondFactorError::Service(error)) => error.into(),
    };
    state.metrics.count_second_factor(SecondFactorMethod::Factor(factor.kind()), counted);
    outcome
}

async fn try_continue(
    state: &AppState,
    input: &Continuation,
    factor: &SecondFactor,
    remember_device: bool,
) -> Result<Box<SignedIn>, SecondFactorError> {
    let open = open(state, input, ChallengePurpose::SecondFactor).await?;
    if let SecondFactor::Passkey(credential) = factor {
        return continue_with_passkey(state, &open, input, credential.clone(), remember_device).await;
    }
    let account = &open.account;
    let attempt = LoginAttempt::recognize(state, account.id, input.origin.ip, input.device.as_ref()).await?;
    // counts as failed unless it succeeds or is refunded
    let factor_attempt = FactorAttempt::begin(state, account.id, factor.kind(), &attempt, input.origin.ip).await?;
    let now = state.clock.now();
    let found = match factor {
        SecondFactor::EmailCode(code) => match email_code::find(state, &open, code).await {
            Ok(Some(claim)) => Ok(CodeSearch::Match(Matched::EmailCode(Box::new(claim)))),
            Ok(None) => Ok(CodeSearch::Wrong),
            Err(error) => Err(error),
        },
        factor => find(state, account, factor, now).await,
    };
    let matched = match found {
        Ok(CodeSearch::Match(matched)) => matched,
        Ok(CodeSearch::Wrong) => return Err(refuse_code(state, account, factor, "wrong_code", &input.origin, now)),
        // The attempt does not count: a factor that can't be decrypted refuses even the right code.
        Ok(CodeSearch::Undecryptable) => {
            factor_attempt.refund(state).await;
            return Err(refuse_code(state, account, factor, "factor_reset_needed", &input.origin, now));
        }
        Err(error) => {
            factor_attempt.refund(state).await;
            return Err(error.into());
        }
    };
    // Only one of several requests with the challenge continues. If it can't use the code, it restores the challenge for the next try.
    match open.take(state).await {
        Ok(true) => {}
        Ok(false) => {
            factor_attempt.refund(state).await;
            return Err(SecondFactorError::InvalidChallenge);
        }
        Err(error) => {
            factor_attempt.refund(state).await;
            return Err(error.into());
        }
    }
    match consume(state, account, &matched, &input.origin, now).await {
        Ok(true) => factor_attempt.succeed(state).await,
        Ok(false) => {
            open.restore(state).await;
            return Err(refuse_code(state, account, factor, "code_used", &input.origin, now));
        }
        Err(error) => {
            open.restore(state).await;
            factor_attempt.refund(state).await;
            return Err(error.into());
        }
    }
    let factor_methods = match factor {
        SecondFactor::EmailCode(_) => email_code::METHODS,
        _ => AuthenticationMethods::only(AuthenticationMethod::OneTimePassword),
    };
    finish_and_remember_device(state, &open, input, attempt, factor_methods, remember_device).await
}

/// Finishes a sign-in with [`finish`]. Then remembers the device if its user wants that, and accepts codes by mail again if the user has
/// passed another factor.
async fn finish_and_remember_device(
    state: &AppState,
    open: &OpenChallenge,
    input: &Continuation,
    attempt: LoginAttempt,
    factor_methods: AuthenticationMethods,
    remember_device: bool,
) -> Result<Box<SignedIn>, SecondFactorError> {
    let account = &open.account;
    // A remembered device gets a new token, because its former token may have copies.
    let should_remember = remember_device && remembered_devices::can_remember(state, account, &open.pending().proved);
    let attempt = if should_remember { attempt.with_new_device_token() } else { attempt };
    let signed_in = finish(state, open, account.clone(), input, &attempt, factor_methods).await?;
    email_code::lift_suspension(state, account, open.pending().proved.methods, factor_methods).await;
    if should_remember {
        let origin = SessionOrigin { device: open.pending().device_name.clone(), ..input.origin.clone() };
        remembered_devices::remember(state, account, &signed_in.device, &origin).await;
    }
    Ok(signed_in)
}

/// Sends a code by mail for a sign-in that can continue with such a code, and replaces an earlier code. Returns when the new code expires.
///
/// # Errors
/// [`SecondFactorError::InvalidChallenge`], [`SecondFactorError::EmailCodeNotOffered`], [`SecondFactorError::Service`]
pub async fn send_email_code(
    state: &AppState,
    input: &Continuation,
    origin: &RequestOrigin,
) -> Result<Timestamp, SecondFactorError> {
    let open = open(state, input, ChallengePurpose::SecondFactor).await?;
    if !policy::methods(&state.config.factors, &open.account, &open.pending().proved).contains(&FactorKind::EmailCode) {
        return Err(SecondFactorError::EmailCodeNotOffered);
    }
    let attempt = LoginAttempt::recognize(state, open.account.id, input.origin.ip, input.device.as_ref()).await?;
    Ok(email_code::send(state, &open, &attempt, origin).await?)
}

/// Returns the options for a passkey of the account of a pending sign-in. Their challenge works for this sign-in only.
///
/// # Errors
/// [`SecondFactorError`]
pub async fn passkey_options(state: &AppState, input: &Continuation) -> Result<PasskeyOptions, SecondFactorError> {
    let open = open(state, input, ChallengePurpose::SecondFactor).await?;
    Ok(verify::options(state, passkey_task(&open)?, input.origin.ip).await?)
}

/// The task of a passkey that completes a sign-in. Refused if the first factor was a passkey, too: two passkeys count as one factor.
fn passkey_task(open: &OpenChallenge) -> Result<PasskeyTask, SecondFactorError> {
    let proved = open.pending().proved.methods;
    if proved.contains(AuthenticationMethod::HardwareKey) || proved.contains(AuthenticationMethod::SoftwareKey) {
        return Err(SecondFactorError::WrongPasskey);
    }
    Ok(PasskeyTask::SecondFactor(open.account.id, open.context()))
}

/// Completes a sign-in with a passkey. A refused response does not count as a failed attempt: signatures can't be guessed.
async fn continue_with_passkey(
    state: &AppState,
    open: &OpenChallenge,
    input: &Continuation,
    credential: Map<String, Value>,
    remember_device: bool,
) -> Result<Box<SignedIn>, SecondFactorError> {
    let origin =
        RequestOrigin { ip: input.origin.ip, user_agent: input.origin.user_agent.clone(), accept_language: None };
    // The last use is stored below, once the sign-in is complete.
    let is_complete = |_user_verified: bool| false;
    let verified = verify::verify(state, passkey_task(open)?, credential, &origin, is_complete).await?;
    let attempt = LoginAttempt::recognize(state, open.account.id, input.origin.ip, input.device.as_ref()).await?;
    if !open.take(state).await? {
        return Err(SecondFactorError::InvalidChallenge);
    }
    let signed_in = finish_and_remember_device(state, open, input, attempt, verified.methods, remember_device).await?;
    state.sql.set_passkey_used_at(verified.passkey, state.clock.now()).await?;
    Ok(signed_in)
}

/// Verifies a code as a second factor outside of a sign-in (step-up), and consumes it. Wrong codes count together with those of sign-ins.
///
/// # Errors
/// [`SecondFactorError::WrongCode`], [`SecondFactorError::Service`]
pub(in crate::service) async fn verify(
    state: &AppState,
    account: &Account,
    factor: &SecondFactor,
    origin: &SessionOrigin,
    device: Option<&DeviceToken>,
) -> Result<(), SecondFactorError> {
    limits::check_second_factor(state, origin.ip).await?;
    let attempt = LoginAttempt::recognize(state, account.id, origin.ip, device).await?;
    let factor_attempt = FactorAttempt::begin(state, account.id, factor.kind(), &attempt, origin.ip).await?;
    let now = state.clock.now();
    let matched = match find(state, account, factor, now).await {
        Ok(CodeSearch::Match(matched)) => matched,
        Ok(CodeSearch::Wrong) => return Err(refuse_code(state, account, factor, "wrong_code", origin, now)),
        Ok(CodeSearch::Undecryptable) => {
            factor_attempt.refund(state).await;
            return Err(refuse_code(state, account, factor, "factor_reset_needed", origin, now));
        }
        Err(error) => {
            factor_attempt.refund(state).await;
            return Err(error.into());
        }
    };
    match consume(state, account, &matched, origin, now).await {
        Ok(true) => factor_attempt.succeed(state).await,
        Ok(false) => return Err(refuse_code(state, account, factor, "code_used", origin, now)),
        Err(error) => {
            factor_attempt.refund(state).await;
            return Err(error.into());
        }
    }
    Ok(())
}

/// Opens the challenge of a continuation.
pub(super) async fn open(
    state: &AppState,
    input: &Continuation,
    purpose: ChallengePurpose,
) -> Result<OpenChallenge, SecondFactorError> {
    limits::check_second_factor(state, input.origin.ip).await?;
    let open = challenge::open(state, &input.challenge, purpose, input.device.as_ref()).await?;
    let open = open.ok_or(SecondFactorError::InvalidChallenge)?;
    match (open.pending().transport, input.accepted) {
        (Transport::Bearer, AcceptedTransports::Bearer | AcceptedTransports::BearerAndCookie)
        | (Transport::Cookie, AcceptedTransports::BearerAndCookie)
        | (Transport::Browser, AcceptedTransports::Browser) => Ok(open),
        (Transport::Cookie, AcceptedTransports::Bearer) => Err(SecondFactorError::CookieNotAccepted),
        // a challenge of the pages in a call to the API, or the reverse
        _ => Err(SecondFactorError::InvalidChallenge),
    }
}

/// Finishes a sign-in whose second factor was verified, and whose challenge was consumed. `factor_methods` are the methods of that factor.
pub(super) async fn finish(
    state: &AppState,
    open: &OpenChallenge,
    account: Account,
    input: &Continuation,
    attempt: &LoginAttempt,
    factor_methods: AuthenticationMethods,
) -> Result<Box<SignedIn>, SecondFactorError> {
    let pending = open.pending();
    let origin = SessionOrigin { device: pending.device_name.clone(), ..input.origin.clone() };
    let (methods, acr) = policy::combine(&account, pending.proved.methods, factor_methods);
    let proved = Authenticated {
        account,
        authentication: Authentication { at: state.clock.now(), methods, acr },
        transport: pending.transport,
        origin: &origin,
        attempt,
        device: input.device.as_ref(),
        replaces: input.replaces.as_deref(),
        // The level that the client has requested only forbids to skip the second factor, which the user has just passed.
        wanted_acr: Acr::default(),
    };
    match super::proceed(state, proved).await {
        Ok(SignInStep::SignedIn(signed_in)) => Ok(signed_in),
        Ok(SignInStep::EnrolmentRequired(challenge)) => Err(SecondFactorError::EnrolmentRequired(challenge)),
        // The account or the configuration has changed since the challenge was issued.
        Ok(
            SignInStep::EmailVerificationRequired
            | SignInStep::SecondFactorRequired(_)
            | SignInStep::PasswordRequired
            | SignInStep::AccountChanged,
        ) => Err(SecondFactorError::InvalidChallenge),
        Err(error) => {
            // The session was not started: with the restored challenge, the owner can try again with the next code.
            open.restore(state).await;
            Err(error.into())
        }
    }
}

/// A code that matches and is not consumed yet.
#[derive(Debug)]
enum Matched {
    Totp(totp::MatchedCode),
    RecoveryCode(recovery_codes::MatchedCode),
    EmailCode(Box<Claim>),
}

/// Finds the matching code of an account, without consuming it.
async fn find(
    state: &AppState,
    account: &Account,
    factor: &SecondFactor,
    now: Timestamp,
) -> Result<CodeSearch<Matched>, ServiceError> {
    Ok(match factor {
        SecondFactor::Totp(code) => totp::find(state, account.id, code, now).await?.map(Matched::Totp),
        SecondFactor::RecoveryCode(code) => {
            recovery_codes::find(state, account.id, code).await?.map(Matched::RecoveryCode)
        }
        // Passkeys are verified elsewhere. A code by mail works only with the challenge of a sign-in.
        SecondFactor::Passkey(_) | SecondFactor::EmailCode(_) => CodeSearch::Wrong,
    })
}

/// Consumes a code. Returns false if another request consumed it first (I11: single use).
async fn consume(
    state: &AppState,
    account: &Account,
    matched: &Matched,
    origin: &SessionOrigin,
    now: Timestamp,
) -> Result<bool, ServiceError> {
    match matched {
        Matched::Totp(code) => Ok(state.sql.use_totp(code.factor, code.step, now).await?),
        Matched::RecoveryCode(code) => recovery_codes::consume(state, account, code, origin, now).await,
        Matched::EmailCode(claim) => Ok(one_time_tokens::take(state, claim, account).await?.is_some()),
    }
}

/// Records a refused code with the reason in the audit log, and returns the error.
fn refuse_code(
    state: &AppState,
    account: &Account,
    factor: &SecondFactor,
    reason: &'static str,
    origin: &SessionOrigin,
    now: Timestamp,
) -> SecondFactorError {
    let entry = AuditEntry::new(now, AuditEvent::SecondFactor).account(account.id).refused(reason);
    state.audit.record(entry.detail(factor.kind().as_str()).actor(Actor::Anyone).address(origin.ip));
    SecondFactorError::WrongCode
}
