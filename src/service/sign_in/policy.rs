//! Decides which steps a sign-in still requires, by the account's factors and `factors.required`.

use std::time::Duration;

use crate::{
    config::FactorSettings,
    domain::{
        account::{Account, Roles},
        authentication::{Acr, Authentication, AuthenticationMethod},
        clock::Timestamp,
        factor::FactorKind,
    },
    service::error::ServiceError,
    state::AppState,
    store::sql::AccountChange,
};

/// The requirement of a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requirement {
    /// Nothing.
    Nothing,
    /// A second factor of the account.
    SecondFactor,
    /// The account must set up a second factor first.
    Enrolment,
    /// The account must set up a second factor before this time.
    EnrolmentUntil(Timestamp),
}

/// Decides what an authentication lacks.
pub(super) fn requirement(
    settings: &FactorSettings,
    account: &Account,
    authentication: &Authentication,
    now: Timestamp,
) -> Requirement {
    if authentication.acr >= Acr::Aal2 {
        return Requirement::Nothing;
    }
    if account.factors.protect() {
        return Requirement::SecondFactor;
    }
    if !settings.required.applies_to(&account.roles) {
        return Requirement::Nothing;
    }
    let until = account.factor_required_at.unwrap_or(now) + settings.grace;
    if now < until { Requirement::EnrolmentUntil(until) } else { Requirement::Enrolment }
}

/// The factors with which the account's owner can continue. A factor that was shown already is none of them.
pub(super) fn methods(account: &Account, authentication: &Authentication) -> Vec<FactorKind> {
    let shown = authentication.methods;
    let is_usable = |kind: &FactorKind| match kind {
        FactorKind::Totp | FactorKind::RecoveryCode => true,
        FactorKind::Passkey => {
            !shown.contains(AuthenticationMethod::HardwareKey) && !shown.contains(AuthenticationMethod::SoftwareKey)
        }
        // A mailbox that has signed in is not a second factor.
        FactorKind::EmailCode => shown.contains(AuthenticationMethod::Password),
    };
    account.factors.kinds().filter(is_usable).collect()
}

/// Whether the account of a live session must have a second factor, the session began without one, and the grace period is over
/// (I14): the session ends. The policy or the roles may have changed since the session began.
pub(in crate::service) fn lacks_factor(
    settings: &FactorSettings,
    acr: Acr,
    roles: &Roles,
    created_at: Timestamp,
    now: Timestamp,
) -> bool {
    acr < Acr::Aal2 && settings.required.applies_to(roles) && now >= created_at + settings.grace
}

/// The longest lifetime of a session with this level that takes the place of another one of the account: it ends with the grace
/// period, as the replaced one does. Starts the grace period if it has not begun.
///
/// # Errors
/// [`ServiceError`]
pub(in crate::service) async fn longest_replacement(
    state: &AppState,
    change: &mut AccountChange,
    acr: Acr,
    now: Timestamp,
) -> Result<Duration, ServiceError> {
    let (settings, longest) = (&state.config.factors, state.config.session.absolute_timeout);
    if acr >= Acr::Aal2 || change.account.factors.protect() || !settings.required.applies_to(&change.account.roles) {
        return Ok(longest);
    }
    let since = match change.account.factor_required_at {
        Some(since) => since,
        None => {
            change.set_factor_required(Some(now)).await?;
            now
        }
    };
    // Not zero: the keys of the account in Redis have at least this lifetime.
    Ok((since + settings.grace).saturating_since(now).clamp(Duration::from_secs(1), longest))
}
