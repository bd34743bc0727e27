//! What a sign-in still requires, by the account's factors and `factors.required`.

use crate::{
    config::FactorSettings,
    domain::{
        account::Account,
        authentication::{Acr, Authentication, AuthenticationMethod},
        clock::Timestamp,
        factor::FactorKind,
    },
};

/// What is missing.
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

/// What an authentication lacks.
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
