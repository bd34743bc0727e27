//! Logs a user in: the throttle admits the attempt, the password is verified, a session is created and its tokens are issued.

use crate::{
    domain::{
        account::{Account, Identifier},
        audit::{Actor, AuditEntry, AuditEvent},
        authentication::{Acr, Authentication},
        secret::SecretText,
        session::{SessionOrigin, Transport},
    },
    metrics::LoginOutcome,
    password::Verified,
    service::{
        error::{ServiceError, from_store_errors},
        limits::{self, AccountLookup, DeviceToken, LoginAttempt},
        sign_in::{self, Authenticated, IssuedChallenge, SignInStep},
        token_issuer::Tokens,
    },
    state::AppState,
};

/// The input of a login.
#[derive(Clone, Debug)]
pub struct Login {
    /// An e-mail address or a username.
    pub identifier: Identifier,
    /// The password as typed.
    pub password: SecretText,
    /// How the refresh token travels.
    pub transport: Transport,
    /// The client that logs in.
    pub origin: SessionOrigin,
    /// The refresh token of a former session of the client. The new session replaces and ends the former one (ASVS 7.2.4).
    pub replaces: Option<String>,
    /// The token of the device, if it has one.
    pub device: Option<DeviceToken>,
    /// See [`Authenticated::wanted_acr`].
    pub wanted_acr: Acr,
}

/// Why a login was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no such account, it is disabled, or the password is wrong; callers can't tell which (I7: no login oracle).
    #[error("the identifier or the password is wrong")]
    InvalidCredentials,
    /// The password is right, but the account's address is not verified (`registration.verification`).
    #[error("the account's e-mail address is not verified")]
    EmailNotVerified,
    /// The password is right; a second factor must be shown.
    #[error("a second factor is required")]
    SecondFactorRequired(Box<IssuedChallenge>),
    /// The password is right; a second factor must be set up.
    #[error("a second factor must be set up")]
    EnrolmentRequired(Box<IssuedChallenge>),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(LoginError);

/// Logs a user in. Returns the tokens, and the token that identifies the device to the account from now on.
///
/// # Errors
/// [`LoginError`]
pub async fn login(state: &AppState, input: Login) -> Result<(Tokens, DeviceToken), LoginError> {
    let outcome = try_login(state, input).await;
    state.metrics.count_login(match &outcome {
        Ok(_) => LoginOutcome::Success,
        Err(LoginError::InvalidCredentials) => LoginOutcome::InvalidCredentials,
        Err(LoginError::EmailNotVerified) => LoginOutcome::EmailNotVerified,
        Err(LoginError::SecondFactorRequired(_)) => LoginOutcome::SecondFactorRequired,
        Err(LoginError::EnrolmentRequired(_)) => LoginOutcome::EnrolmentRequired,
        Err(LoginError::Service(error)) => error.into(),
    });
    outcome
}

async fn try_login(state: &AppState, input: Login) -> Result<(Tokens, DeviceToken), LoginError> {
    // Before anything else: in a flood, a request that finds the queue full must not reach Redis or the database.
    let _reservation = state.passwords.reserve().map_err(ServiceError::from)?;
    let (attempt, account) =
        limits::begin_login(state, &input.identifier, input.origin.ip, input.device.as_ref()).await?;
    let outcome = verify_and_sign_in(state, &input, &attempt, account).await;
    // These outcomes are no guesses of a password, so they do not count as failures. Nor does a challenge, whose attempt `sign_in` refunds.
    // With `registration.conceal`, an unverified address counts like a wrong password (I12: no account oracle).
    if let Err(LoginError::Service(_) | LoginError::EmailNotVerified) = &outcome {
        attempt.refund(state).await;
    }
    outcome
}

/// Verifies the password and continues the sign-in. `lookup` is the account, if the throttle has read it.
async fn verify_and_sign_in(
    state: &AppState,
    input: &Login,
    attempt: &LoginAttempt,
    mut lookup: AccountLookup,
) -> Result<(Tokens, DeviceToken), LoginError> {
    // At most twice: if the account changes while its password is verified, it is read and verified once more.
    for _ in 0..2 {
        // `Deferred` makes the second round read the account again.
        let account = match std::mem::replace(&mut lookup, AccountLookup::Deferred) {
            AccountLookup::Done(account) => account.map(|account| *account),
            AccountLookup::Deferred => state.sql.find_account(&input.identifier).await?,
        };
        let account = verify_password(state, input, account).await?;
        let proved = Authenticated {
            account,
            authentication: Authentication::by_password(state.clock.now()),
            transport: input.transport,
            origin: &input.origin,
            attempt,
            device: input.device.as_ref(),
            replaces: input.replaces.as_deref(),
            wanted_acr: input.wanted_acr,
        };
        match sign_in::proceed(state, proved).await? {
            SignInStep::SignedIn(signed_in) => return Ok((signed_in.issue_tokens(state)?, signed_in.device)),
            SignInStep::EmailVerificationRequired => return Err(email_not_verified(state)),
            SignInStep::SecondFactorRequired(challenge) => return Err(LoginError::SecondFactorRequired(challenge)),
            SignInStep::EnrolmentRequired(challenge) => return Err(LoginError::EnrolmentRequired(challenge)),
            // Unreachable: the first factor was the password.
            SignInStep::PasswordRequired => return Err(LoginError::InvalidCredentials),
            SignInStep::AccountChanged => {}
        }
    }
    Err(ServiceError::AccountChanged("its password was being verified").into())
}

/// The error of a sign-in to an account that must verify its address first. With `registration.conceal` it is the error of a wrong
/// password. So a client that has registered an address can't learn whether the address had an account before (I12).
fn email_not_verified(state: &AppState) -> LoginError {
    if state.config.registration.conceal { LoginError::InvalidCredentials } else { LoginError::EmailNotVerified }
}

/// Verifies the password. Does the same work for an existing, a disabled and an unknown account (I7).
async fn verify_password(state: &AppState, input: &Login, account: Option<Account>) -> Result<Account, LoginError> {
    let now = state.clock.now();
    let account_id = account.as_ref().map(|account| account.id);
    let is_closed = account.as_ref().is_some_and(|account| account.is_closed(now));
    // From here on, a closed account (disabled, or due for deletion) is treated like an unknown one: there is no hash to verify against.
    let account = account.filter(|_| !is_closed);
    let stored = account.as_ref().and_then(|account| account.password_hash.clone());
    let verified = state.passwords.verify(input.password.clone(), stored).await.map_err(ServiceError::from)?;
    let is_unusable = matches!(verified, Verified::Unusable(_));
    if let (Verified::Unusable(reason), Some(id)) = (&verified, account_id) {
        tracing::warn!(
            account = %id,
            %reason,
            "the stored password hash can't be used, so the owner can't sign in with the password: correct what the reason names, such as \
             a missing pepper, or send the owner a reset link (`latchkey user reset`)"
        );
    }
    let (Some(account), Verified::Match { upgraded }) = (account, verified) else {
        let reason = match account_id {
            None => "unknown_account",
            Some(_) if is_closed => "disabled",
            Some(_) if is_unusable => "password_reset_needed",
            Some(_) => "wrong_password",
        };
        // Verification takes long enough that the time is read again.
        let mut entry = AuditEntry::new(state.clock.now(), AuditEvent::SignIn).refused(reason).actor(Actor::Anyone);
        entry.facts.account = account_id;
        state.audit.record(entry.address(input.origin.ip));
        return Err(LoginError::InvalidCredentials);
    };
    if let (Some(hash), Some(old)) = (upgraded, &account.password_hash) {
        let now = state.clock.now();
        if let Err(error) = state.sql.upgrade_password_hash(account.id, old, &hash, now).await {
            tracing::warn!(account = %account.id, %error, "rehashing a password failed: the former hash stays in use, and the next login tries again");
        }
    }
    Ok(account)
}
