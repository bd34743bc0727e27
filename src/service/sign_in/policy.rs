//! Decides which steps a sign-in still requires, by the account's factors and `factors.required`.

use std::time::Duration;

use crate::{
    config::FactorSettings,
    domain::{
        account::{Account, Roles},
        authentication::{Acr, Authentication, AuthenticationMethod, AuthenticationMethods},
        clock::Timestamp,
        factor::FactorKind,
    },
    service::error::ServiceError,
    state::AppState,
    store::sql::AccountChange,
};

/// The requirement that a sign-in still has to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requirement {
    /// Nothing.
    Nothing,
    /// A second factor of the account.
    SecondFactor,
    /// The account must set up a second factor first.
    Enrolment,
    /// The sign-in can complete, but the account must set up a second factor before this time.
    EnrolmentUntil(Timestamp),
    /// The password: the account's second factor is a code by mail, and the first factor was a mail too.
    Password,
}

/// Decides which further step an authentication requires.
pub(super) fn requirement(
    settings: &FactorSettings,
    account: &Account,
    authentication: &Authentication,
    now: Timestamp,
) -> Requirement {
    if authentication.acr >= Acr::Aal2 {
        return Requirement::Nothing;
    }
    if account.factors.has_aal2_factor() {
        return Requirement::SecondFactor;
    }
    if requires_email_code(settings, account) {
        let used = authentication.methods;
        if !used.contains(AuthenticationMethod::Password) {
            return Requirement::Password;
        }
        if !used.contains(AuthenticationMethod::OneTimePassword) {
            return Requirement::SecondFactor;
        }
        // Password and code together reach only `aal1`, which may be too low for `factors.required`.
    }
    if !settings.required.applies_to(&account.roles) {
        return Requirement::Nothing;
    }
    let until = account.factor_required_at.unwrap_or(now) + settings.grace;
    if now < until { Requirement::EnrolmentUntil(until) } else { Requirement::Enrolment }
}

/// Whether codes by mail are the account's second factor. A code by mail never replaces a stronger factor.
fn requires_email_code(settings: &FactorSettings, account: &Account) -> bool {
    settings.email_code && account.factors.contains(FactorKind::EmailCode) && !account.factors.has_aal2_factor()
}

/// The factors with which the account's owner can continue, recovery codes last. Leaves out factors that the sign-in has used already.
pub(super) fn methods(
    settings: &FactorSettings,
    account: &Account,
    authentication: &Authentication,
) -> Vec<FactorKind> {
    let used = authentication.methods;
    let is_usable = |kind: &FactorKind| match kind {
        // Neither can be the first factor of a sign-in.
        FactorKind::Totp | FactorKind::RecoveryCode => true,
        FactorKind::Passkey => {
            !used.contains(AuthenticationMethod::HardwareKey) && !used.contains(AuthenticationMethod::SoftwareKey)
        }
        // Not with an unverified address: it may belong to another person. Not after a reset by mail, which suspends the codes: the
        // mailbox alone set the password. Not if the sign-in began with the mailbox instead of the password.
        FactorKind::EmailCode => {
            requires_email_code(settings, account)
                && account.email_verified
                && !account.factors.is_email_code_suspended()
                && used.contains(AuthenticationMethod::Password)
        }
    };
    let mut methods: Vec<_> = account.factors.kinds().filter(is_usable).collect();
    // `false` sorts before `true`, and the sort is stable.
    methods.sort_by_key(|kind| *kind == FactorKind::RecoveryCode);
    methods
}

/// The level that a second factor of the account reaches together with the first one. A code by mail, or a recovery code in its place, does
/// not raise the level above that of the password (NIST SP 800-63B, section 5.1.3.1, does not accept mail).
const fn level_of_factors(account: &Account) -> Acr {
    if account.factors.has_aal2_factor() { Acr::Aal2 } else { Acr::Aal1 }
}

/// The methods and the level of a first and a second factor together.
pub(in crate::service) fn combine(
    account: &Account,
    first: AuthenticationMethods,
    second: AuthenticationMethods,
) -> (AuthenticationMethods, Acr) {
    let methods = second.iter().fold(first, AuthenticationMethods::with);
    match level_of_factors(account) {
        // Two methods, but not two factors.
        Acr::Aal1 => (methods, Acr::Aal1),
        acr => (methods.with(AuthenticationMethod::MultipleFactors), acr),
    }
}

/// How long a device may skip the second factor of the account; `None` if it may not. If the account must have a second factor, every
/// sign-in requires it (I14: factors cannot be bypassed).
pub(in crate::service) fn remember_for(settings: &FactorSettings, account: &Account) -> Option<Duration> {
    settings.remember_device.filter(|_| !settings.required.applies_to(&account.roles))
}

/// Whether a live session must end (I14): its account must have a second factor, the session began without one, and the session's
/// own grace period, which counts from its start, has expired. The policy or the roles may have changed since the session began.
pub(in crate::service) fn lacks_factor(
    settings: &FactorSettings,
    acr: Acr,
    roles: &Roles,
    began_at: Timestamp,
    now: Timestamp,
) -> bool {
    acr < Acr::Aal2 && settings.required.applies_to(roles) && now >= began_at + settings.grace
}

/// The longest lifetime of a session with the level `acr` that replaces another session of the account. If the account lacks a required
/// second factor, the session ends with the grace period for adding one. Starts this period if it has not begun.
///
/// # Errors
/// [`ServiceError`]
pub(in crate::service) async fn longest_replacement(
    state: &AppState,
    change: &mut AccountChange,
    acr: Acr,
    now: Timestamp,
) -> Result<Duration, ServiceError> {
    let settings = &state.config.factors;
    let longest = state.config.session.absolute_timeout;
    let has_factor = acr >= Acr::Aal2 || change.account.factors.has_aal2_factor();
    if has_factor || !settings.required.applies_to(&change.account.roles) {
        return Ok(longest);
    }
    let since = match change.account.factor_required_at {
        Some(since) => since,
        None => {
            change.set_factor_required(Some(now)).await?;
            now
        }
    };
    let left = (since + settings.grace).saturating_since(now);
    // Not zero: this becomes the TTL of the account's sessions in Redis, which a TTL of 0 would delete.
    Ok(left.clamp(Duration::from_secs(1), longest))
}
