//! Sets up the second factor that an account must have (`factors.required`), with a challenge that allows nothing else. The set-up completes
//! the sign-in.

use serde_json::{Map, Value};

use super::{
    SignedIn,
    challenge::OpenChallenge,
    second_factor::{self, Continuation, SecondFactorError},
};
use crate::{
    domain::{
        account::Account,
        audit::AuditEvent,
        authentication::{AuthenticationMethod, AuthenticationMethods},
        challenge::ChallengePurpose,
        clock::Timestamp,
        event::EndReason,
        factor::FactorKind,
        mail::{FactorChange, NoticeFactor},
        passkey::{PasskeyName, PasskeyPurpose},
        secret::SecretText,
    },
    service::{
        accounts::record_ended,
        error::{ServiceError, from_store_errors},
        factors::{
            change::{ChangeSummary, record_and_notify},
            recovery_codes,
            totp::{self, TotpEnrolment},
        },
        limits::{self, FactorAttempt, LoginAttempt},
        passkeys::{
            PasskeyOptions,
            register::{self, RegisterPasskeyError, Sender},
        },
        request_origin::RequestOrigin,
    },
    state::AppState,
    store::{
        redis::{AccountSessions, ChallengeBinding},
        sql::AccountChange,
    },
};

/// A completed sign-in, after its missing factor was set up.
#[derive(Debug)]
pub struct Enrolled {
    /// The session.
    pub signed_in: Box<SignedIn>,
    /// The recovery codes. They are never shown again.
    pub recovery_codes: Vec<SecretText>,
}

/// Why the passkey that a sign-in waits for was not set up.
#[derive(Debug, thiserror::Error)]
pub enum EnrolPasskeyError {
    /// The sign-in can't continue.
    #[error(transparent)]
    SignIn(#[from] SecondFactorError),
    /// The passkey was not accepted. The challenge still works.
    #[error(transparent)]
    Passkey(#[from] RegisterPasskeyError),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(EnrolPasskeyError);

/// The kinds of factors that can be set up at a sign-in.
pub(super) fn methods(state: &AppState) -> Vec<FactorKind> {
    let mut kinds = vec![FactorKind::Totp];
    if state.passkeys.is_some() {
        kinds.push(FactorKind::Passkey);
    }
    kinds
}

/// Starts to set up an authenticator app. Replaces an earlier set-up that was not confirmed.
///
/// # Errors
/// [`SecondFactorError`]
pub async fn start_totp(
    state: &AppState,
    input: &Continuation,
    label: Option<String>,
) -> Result<TotpEnrolment, SecondFactorError> {
    let open = second_factor::open(state, input, ChallengePurpose::Enrolment).await?;
    let change = lock(state, &open).await?;
    Ok(totp::enrol(state, change, label).await?)
}

/// Confirms the authenticator app with its first code, ends the account's other sessions and completes the sign-in. The notice to the
/// owner states `origin`.
///
/// # Errors
/// [`SecondFactorError`]
pub async fn confirm_totp(
    state: &AppState,
    input: &Continuation,
    code: &SecretText,
    origin: &RequestOrigin,
) -> Result<Enrolled, SecondFactorError> {
    let open = second_factor::open(state, input, ChallengePurpose::Enrolment).await?;
    let id = open.account.id;
    let attempt = LoginAttempt::recognize(state, id, input.origin.ip, input.device.as_ref()).await?;
    let factor_attempt = FactorAttempt::begin(state, id, FactorKind::Totp, &attempt, input.origin.ip).await?;
    let confirmed = check_and_confirm(state, &open, code, origin).await;
    match &confirmed {
        Ok(_) => factor_attempt.succeed(state).await,
        // the attempt stays counted as a failure
        Err(SecondFactorError::WrongCode) => {}
        Err(_) => factor_attempt.refund(state).await,
    }
    let (account, recovery_codes) = confirmed?;
    let factor_methods = AuthenticationMethods::only(AuthenticationMethod::OneTimePassword);
    let signed_in = second_factor::finish(state, &open, account, input, &attempt, factor_methods).await?;
    Ok(Enrolled { signed_in, recovery_codes })
}

/// Confirms the authenticator app of a sign-in. The caller counts the attempt. Returns the account and its recovery codes.
async fn check_and_confirm(
    state: &AppState,
    open: &OpenChallenge,
    code: &SecretText,
    origin: &RequestOrigin,
) -> Result<(Account, Vec<SecretText>), SecondFactorError> {
    let now = state.clock.now();
    let mut change = lock(state, open).await?;
    if !totp::confirm_pending(state, &mut change, code, now).await? {
        return Err(SecondFactorError::WrongCode);
    }
    let no_longer_required = None; // the account has a factor now
    change.set_factor_required(no_longer_required).await?;
    commit(state, open, change, NoticeFactor::Totp, origin, now).await
}

/// The options of the registration of a passkey. Their challenge works for this sign-in only, and once.
///
/// # Errors
/// [`EnrolPasskeyError`]
pub async fn passkey_options(state: &AppState, input: &Continuation) -> Result<PasskeyOptions, EnrolPasskeyError> {
    let open = second_factor::open(state, input, ChallengePurpose::Enrolment).await?;
    register::check_may_register_passkey(state, input.origin.ip).await?;
    let change = lock(state, &open).await?;
    Ok(register::begin_registration(state, change, &binding(&open)).await?)
}

/// Registers the passkey that an authenticator has made, ends the account's other sessions and completes the sign-in. A refused
/// credential does not consume the challenge of the sign-in. The notice to the owner states `origin`.
///
/// # Errors
/// [`EnrolPasskeyError`]
pub async fn register_passkey(
    state: &AppState,
    input: &Continuation,
    credential: Map<String, Value>,
    name: PasskeyName,
    origin: &RequestOrigin,
) -> Result<Enrolled, EnrolPasskeyError> {
    let open = second_factor::open(state, input, ChallengePurpose::Enrolment).await?;
    register::check_may_register_passkey(state, input.origin.ip).await?;
    let sender = Sender { session: None, ip: input.origin.ip };
    let new_credential = register::verify_credential(state, &binding(&open), credential, sender).await?;
    let attempt = LoginAttempt::recognize(state, open.account.id, input.origin.ip, input.device.as_ref()).await?;
    let now = state.clock.now();
    let user_verified = new_credential.user_verified;
    let mut change = lock(state, &open).await?;
    let passkey = register::store_passkey(state, &mut change, new_credential, name, now).await?;
    let (account, recovery_codes) = commit(state, &open, change, NoticeFactor::Passkey, origin, now).await?;
    let factor_methods = passkey.methods(user_verified);
    let signed_in = second_factor::finish(state, &open, account, input, &attempt, factor_methods).await?;
    Ok(Enrolled { signed_in, recovery_codes })
}

/// Binds the challenge of a passkey to the challenge of the sign-in: the response of an authenticator works in no other
/// sign-in.
fn binding(open: &OpenChallenge) -> ChallengeBinding {
    ChallengeBinding { purpose: PasskeyPurpose::Enrolment, account: Some(open.account.id), context: open.context() }
}

/// Locks the account of a challenge. The account must be unchanged and have no factor of level `aal2` yet.
async fn lock(state: &AppState, open: &OpenChallenge) -> Result<AccountChange, SecondFactorError> {
    let change = state.sql.change_account(open.account.id).await?;
    let may_enrol = |change: &AccountChange| {
        let current = &change.account;
        let opened = &open.account;
        current.factors_version == opened.factors_version
            && current.epoch == opened.epoch
            && !current.factors.has_aal2_factor()
    };
    change.filter(may_enrol).ok_or(SecondFactorError::InvalidChallenge)
}

/// Consumes the challenge and stores the change that added the first factor. If that fails, restores the challenge. Returns the account and
/// its recovery codes.
async fn commit(
    state: &AppState,
    open: &OpenChallenge,
    change: AccountChange,
    factor: NoticeFactor,
    origin: &RequestOrigin,
    now: Timestamp,
) -> Result<(Account, Vec<SecretText>), SecondFactorError> {
    if !open.take(state).await? {
        return Err(SecondFactorError::InvalidChallenge);
    }
    let stored = store(state, change, factor, origin, now).await;
    if stored.is_err() {
        open.restore(state).await;
    }
    Ok(stored?)
}

/// Stores the change that added the first factor. The account gets recovery codes, its owner gets a notice, and its sessions end. Returns
/// the account and the codes.
async fn store(
    state: &AppState,
    mut change: AccountChange,
    factor: NoticeFactor,
    origin: &RequestOrigin,
    now: Timestamp,
) -> Result<(Account, Vec<SecretText>), ServiceError> {
    let codes = recovery_codes::generate(state, &mut change, now).await?;
    let summary = ChangeSummary { event: AuditEvent::FactorAdded, change: FactorChange::Added, factor };
    let no_session = None; // the sign-in is not complete yet
    record_and_notify(state, &mut change, summary, no_session, origin, now).await?;
    let epoch = change.bump_epoch().await?;
    let account = change.account.clone();
    let reason = EndReason::FactorsChanged;
    // the sessions end before the change is committed, so none outlives the change
    let sessions = AccountSessions::all(account.id).with_epoch(epoch);
    let ended = state.redis.sessions.revoke_all(sessions, reason, now).await?;
    record_ended(&mut change, reason, ended, now).await?;
    // before the factor was added, an attacker may have made the account recognize a device
    limits::forget_devices(state, account.id).await?;
    change.commit().await?;
    Ok((account, codes))
}
