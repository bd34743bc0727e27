//! Completes every sign-in: by password, by mail, by passkey, or on a page. Decides which steps are still required, and starts the
//! session after the last one. Before that, no session exists and no device is trusted.

mod challenge;
mod email_code;
pub mod enrolment;
pub(in crate::service) mod policy;
pub mod second_factor;
mod session;

use std::time::Duration;

use self::policy::Requirement;
use crate::{
    config::Verification,
    domain::{
        account::Account,
        audit::{Actor, AuditEntry, AuditEvent},
        authentication::{Acr, Authentication},
        challenge::ChallengePurpose,
        clock::Timestamp,
        factor::FactorKind,
        secret::SecretText,
        session::{Grant, SessionOrigin, Transport},
    },
    service::{
        accounts, delete_account,
        error::ServiceError,
        limits::{self, DeviceToken, LoginAttempt},
        notices, remembered_devices,
        request_origin::RequestOrigin,
        token_issuer::{self, Tokens},
    },
    state::AppState,
};

/// The authentication of an account's owner, and the session to start.
#[derive(Debug)]
pub struct Authenticated<'a> {
    /// The account, as it was when its owner authenticated.
    pub account: Account,
    /// How and when the owner authenticated.
    pub authentication: Authentication,
    /// How the refresh token travels.
    pub transport: Transport,
    /// The IP address, the user agent and the name of the device.
    pub origin: &'a SessionOrigin,
    /// The password attempt that the throttle has admitted, or the result of [`LoginAttempt::recognize`] if no password was checked.
    pub attempt: &'a LoginAttempt,
    /// The token of the device that the client sent, if any: a challenge works for the same device only.
    pub device: Option<&'a DeviceToken>,
    /// The refresh token of the session that the new session replaces and ends (ASVS 7.2.4).
    pub replaces: Option<&'a str>,
    /// The level that the client has requested. Above `aal1`, a remembered device does not skip the second factor.
    pub wanted_acr: Acr,
}

/// The next step of a sign-in.
#[derive(Debug)]
pub enum SignInStep {
    /// The session has started.
    SignedIn(Box<SignedIn>),
    /// The account's address must be verified first (`registration.verification`).
    EmailVerificationRequired,
    /// The account has a second factor, which must be shown.
    SecondFactorRequired(Box<IssuedChallenge>),
    /// The account must have a second factor and has none: the challenge allows its owner to set one up, and nothing else.
    EnrolmentRequired(Box<IssuedChallenge>),
    /// The account's second factor is a code by mail, and the first factor was a mail too: the password is needed.
    PasswordRequired,
    /// The account has changed since its owner authenticated: authenticate again.
    AccountChanged,
}

/// A session that has started.
#[derive(Debug)]
pub struct SignedIn {
    /// The session.
    pub grant: Grant,
    /// The token that identifies the device to the account from now on.
    pub device: DeviceToken,
}

impl SignedIn {
    /// The session's first tokens.
    ///
    /// # Errors
    /// [`ServiceError`]
    pub fn issue_tokens(&self, state: &AppState) -> Result<Tokens, ServiceError> {
        token_issuer::issue(state, &self.grant, self.grant.created_at)
    }
}

/// A challenge with which a sign-in continues.
#[derive(Clone, Debug)]
pub struct IssuedChallenge {
    /// The challenge's text (`lk_ch_…`).
    pub challenge: SecretText,
    /// The factors with which the sign-in can continue.
    pub methods: Vec<FactorKind>,
    /// For how many seconds the challenge works.
    pub expires_in: u64,
    /// How long the device can skip the second factor afterwards, if its user wants that; `None` if the policy forbids it.
    pub remember_for: Option<Duration>,
}

/// Continues a sign-in after an authentication. Returns the next step.
///
/// # Errors
/// [`ServiceError`]. No session was started.
pub async fn proceed(state: &AppState, input: Authenticated<'_>) -> Result<SignInStep, ServiceError> {
    let now = state.clock.now();
    if input.account.is_closed(now) {
        return Ok(SignInStep::AccountChanged);
    }
    if state.config.registration.verification == Verification::Required && !input.account.email_verified {
        record_refusal(state, &input, now, "email_not_verified");
        return Ok(SignInStep::EmailVerificationRequired);
    }
    // the device whose token skips the second factor
    let mut remembered_device = None;
    let ends_by = match policy::requirement(&state.config.factors, &input.account, &input.authentication, now) {
        Requirement::Nothing => None,
        Requirement::EnrolmentUntil(until) => {
            begin_grace(state, &input.account, now).await?;
            Some(until)
        }
        Requirement::SecondFactor if remembered_devices::skips_factor(state, &input).await? => {
            remembered_device = input.device;
            None
        }
        Requirement::SecondFactor => {
            let methods = policy::methods(&state.config.factors, &input.account, &input.authentication);
            let challenge = issue_challenge(state, &input, ChallengePurpose::SecondFactor, methods).await?;
            return Ok(SignInStep::SecondFactorRequired(Box::new(challenge)));
        }
        Requirement::Enrolment => {
            let methods = enrolment::methods(state);
            let challenge = issue_challenge(state, &input, ChallengePurpose::Enrolment, methods).await?;
            return Ok(SignInStep::EnrolmentRequired(Box::new(challenge)));
        }
        Requirement::Password => {
            record_refusal(state, &input, now, "password_required");
            return Ok(SignInStep::PasswordRequired);
        }
    };
    let Authenticated { mut account, authentication, transport, origin, attempt, replaces, .. } = input;
    // a sign-in cancels a deletion that is not due yet
    if account.deletion_at.is_some() {
        match delete_account::cancel(state, account.id).await? {
            Some(kept) => account = kept,
            None => return Ok(SignInStep::AccountChanged),
        }
    }
    let skipped_factor_reason = remembered_device.is_some().then_some("remembered_device");
    let start = session::start(
        state,
        &account,
        session::SessionStart { authentication, transport, origin, ends_by, skipped_factor_reason },
    );
    let (started, device) = tokio::join!(start, attempt.trust_device(state, &account, remembered_device));
    let Some(grant) = started? else {
        // Redis has a newer epoch: the account has changed since its owner authenticated, or a change did not commit in the database.
        accounts::resync(state, account.id, account.epoch).await?;
        // The change may have made the account forget its devices before this device was trusted.
        limits::forget_devices(state, account.id).await?;
        return Ok(SignInStep::AccountChanged);
    };
    session::end_replaced(state, replaces, origin).await;
    if device.is_new {
        let origin = RequestOrigin { ip: origin.ip, user_agent: origin.user_agent.clone(), accept_language: None };
        notices::new_device(state, &account, &origin).await;
    }
    Ok(SignInStep::SignedIn(Box::new(SignedIn { grant, device: device.token })))
}

/// Records a sign-in that was refused although what its user presented was right.
fn record_refusal(state: &AppState, input: &Authenticated<'_>, now: Timestamp, reason: &'static str) {
    let entry = AuditEntry::new(now, AuditEvent::SignIn).account(input.account.id).refused(reason);
    state.audit.record(entry.actor(Actor::Anyone).address(input.origin.ip));
}

/// Issues the challenge of a sign-in that can't be finished yet. The attempt at the password no longer counts as a failure: the
/// password is right.
async fn issue_challenge(
    state: &AppState,
    input: &Authenticated<'_>,
    purpose: ChallengePurpose,
    methods: Vec<FactorKind>,
) -> Result<IssuedChallenge, ServiceError> {
    let challenge = challenge::issue(state, purpose, input, methods).await?;
    input.attempt.refund(state).await;
    Ok(challenge)
}

/// Starts the grace period of an account at its first sign-in without the required second factor.
async fn begin_grace(state: &AppState, account: &Account, now: Timestamp) -> Result<(), ServiceError> {
    if account.factor_required_at.is_some() {
        return Ok(());
    }
    let Some(mut change) = state.sql.change_account(account.id).await? else { return Ok(()) };
    // checked again, in the transaction: a concurrent sign-in may have started the period
    if change.account.factor_required_at.is_none() {
        change.set_factor_required(Some(now)).await?;
        change.commit().await?;
    }
    Ok(())
}
