//! Sets up the second factor that an account must have (`factors.required`), with a challenge that allows nothing else. Then the
//! sign-in is complete.

use super::{
    SignedIn,
    second_factor::{self, Continuation, SecondFactorError},
};
use crate::domain::{audit::AuditEvent, factor::FactorKind};
use crate::{
    domain::{
        authentication::{AuthenticationMethod, AuthenticationMethods},
        challenge::ChallengePurpose,
        event::Reason,
        mail::{FactorChange, FactorKind as MailFactor},
        secret::SecretText,
    },
    service::{
        accounts::record_ended,
        factors::{
            change::{Subject, record_and_notify},
            recovery_codes,
            totp::{self, TotpEnrolment},
        },
        limits::{Attempt, FactorAttempt},
        request_origin::RequestOrigin,
    },
    state::AppState,
};

/// Starts to set up an authenticator app. Replaces one that was started before and not confirmed.
///
/// # Errors
/// [`SecondFactorError`]
pub async fn start_totp(
    state: &AppState,
    input: &Continuation,
    label: Option<String>,
) -> Result<TotpEnrolment, SecondFactorError> {
    let open = second_factor::open(state, input, ChallengePurpose::Enrolment).await?;
    let change = state.sql.change_account(open.account.id).await?.ok_or(SecondFactorError::InvalidChallenge)?;
    if change.account.factors_version != open.account.factors_version || change.account.factors.protect() {
        return Err(SecondFactorError::InvalidChallenge);
    }
    Ok(totp::enrol(state, change, label).await?)
}

/// Confirms the authenticator app with its first code, ends the account's other sessions and completes the sign-in. Returns the
/// recovery codes too.
///
/// # Errors
/// [`SecondFactorError`]
pub async fn confirm_totp(
    state: &AppState,
    input: &Continuation,
    code: &SecretText,
    origin: &RequestOrigin,
) -> Result<(Box<SignedIn>, Vec<SecretText>), SecondFactorError> {
    let open = second_factor::open(state, input, ChallengePurpose::Enrolment).await?;
    let id = open.account.id;
    let attempt = Attempt::recognize(state, id, input.origin.ip, input.device.as_ref()).await?;
    let counted = FactorAttempt::begin(state, id, FactorKind::Totp, &attempt, input.origin.ip).await?;
    let now = state.clock.now();
    let mut change = state.sql.change_account(id).await?.ok_or(SecondFactorError::InvalidChallenge)?;
    if change.account.factors_version != open.account.factors_version || change.account.epoch != open.account.epoch {
        return Err(SecondFactorError::InvalidChallenge);
    }
    if !totp::confirm_pending(state, &mut change, code, now).await? {
        return Err(SecondFactorError::WrongCode);
    }
    if !open.take(state).await? {
        return Err(SecondFactorError::InvalidChallenge);
    }
    let codes = recovery_codes::make(state, &mut change, now).await?;
    change.set_factor_required(None).await?;
    let subject = Subject { event: AuditEvent::FactorAdded, change: FactorChange::Added, factor: MailFactor::Totp };
    record_and_notify(state, &mut change, subject, None, origin, now).await?;
    let epoch = change.bump_epoch().await?;
    let (reason, account) = (Reason::FactorsChanged, change.account.clone());
    let ended = state.redis.sessions.revoke_all(id, None, Some(epoch), reason, now).await?;
    record_ended(&mut change, reason, ended, now).await?;
    change.commit().await?;
    counted.settle(state, true).await;
    let shown = AuthenticationMethods::of(AuthenticationMethod::OneTimePassword);
    let signed_in = second_factor::finish(state, &open, account, input, &attempt, shown).await?;
    Ok((signed_in, codes))
}
