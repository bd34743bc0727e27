//! Sample data of every template, for the check at start-up and `latchkey mail preview`.

use std::{net::IpAddr, time::Duration};

use crate::domain::{
    clock::Timestamp,
    mail::{ActionOrigin, AddressChange, Device, FactorChange, LinkAndCode, MailData, Notice, NoticeFactor, Template},
    secret::SecretText,
};

/// The time of all sample actions: 29 November 2026, 09:30 UTC.
const SAMPLE_TIME: Timestamp = Timestamp::from_millis(1_795_944_600_000);

const CODE: &str = "K7QM-2XWD";

const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// Which facts sample data contain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// All facts that a mail of the template can have.
    AllFacts,
    /// Only the facts that every mail of the template has.
    RequiredFacts,
}

/// Sample data of a template, with all facts.
pub fn sample(template: Template) -> MailData {
    data(template, Detail::AllFacts)
}

/// Sample data of a template: with all facts, and with the required ones only.
pub(super) fn samples(template: Template) -> [MailData; 2] {
    [data(template, Detail::AllFacts), data(template, Detail::RequiredFacts)]
}

/// Sample data of a template. If a fact has variants, such as an added and a removed address, each [`Detail`] has another variant.
fn data(template: Template, detail: Detail) -> MailData {
    let is_full = detail == Detail::AllFacts;
    let link = |page: &str| SecretText::from(format!("https://auth.example.com/account/{page}#token=lk_ot_EXAMPLE"));
    let challenge = |page: &str, valid_minutes: u64| LinkAndCode {
        link: link(page),
        code: is_full.then(|| CODE.into()),
        expires_at: SAMPLE_TIME + Duration::from_mins(valid_minutes),
    };
    let origin = || ActionOrigin {
        at: SAMPLE_TIME,
        address: is_full.then(|| IpAddr::from([192, 0, 2, 17])),
        device: if is_full { Device::from_user_agent(USER_AGENT) } else { None },
    };
    let notice = || Notice { origin: origin(), not_me: is_full.then(|| link("not-me")) };
    let sign_in = "https://auth.example.com/account/sign-in".to_owned();
    match template {
        Template::VerifyAddress => MailData::VerifyAddress { challenge: challenge("verify-address", 60) },
        Template::AddressTaken => MailData::AddressTaken { origin: origin(), sign_in },
        Template::PasswordReset => {
            MailData::PasswordReset { challenge: challenge("reset-password", 30), origin: origin() }
        }
        Template::PasswordChanged => MailData::PasswordChanged { notice: notice() },
        Template::AddressChanged => MailData::AddressChanged {
            new_address: "ann.new@example.org".to_owned(),
            // The undo never has a code.
            undo: LinkAndCode { code: None, ..challenge("undo-address", 72 * 60) },
            origin: origin(),
        },
        Template::SecondaryAddressChanged => MailData::SecondaryAddressChanged {
            change: if is_full { AddressChange::Added } else { AddressChange::Removed },
            secondary: "ann.work@example.org".to_owned(),
            notice: notice(),
        },
        Template::ConfirmAddress => MailData::ConfirmAddress { challenge: challenge("confirm-address", 60) },
        Template::SignInCode => MailData::SignInCode { challenge: challenge("sign-in-code", 10), origin: origin() },
        Template::SecondFactorCode => MailData::SecondFactorCode {
            code: CODE.into(),
            expires_at: SAMPLE_TIME + Duration::from_mins(10),
            origin: origin(),
        },
        Template::DeletionScheduled => {
            MailData::DeletionScheduled { deletes_at: SAMPLE_TIME + Duration::from_hours(14 * 24), sign_in }
        }
        Template::Invitation => MailData::Invitation { challenge: challenge("invitation", 7 * 24 * 60) },
        Template::NewDevice => MailData::NewDevice { notice: notice() },
        Template::SessionReuse => MailData::SessionReuse { notice: notice() },
        Template::AccountDisabled => MailData::AccountDisabled { at: SAMPLE_TIME },
        Template::FactorChanged => MailData::FactorChanged {
            change: if is_full { FactorChange::Added } else { FactorChange::Removed },
            factor: if is_full { NoticeFactor::Passkey } else { NoticeFactor::Totp },
            notice: notice(),
        },
        Template::RecoveryCodeUsed => {
            // The texts have a singular and a plural.
            MailData::RecoveryCodeUsed { remaining: if is_full { 9 } else { 1 }, notice: notice() }
        }
        Template::PasskeyCopied => MailData::PasskeyCopied { notice: notice() },
        Template::RecoveryCodesLow => MailData::RecoveryCodesLow { remaining: if is_full { 2 } else { 1 } },
        Template::Test => MailData::Test { at: SAMPLE_TIME },
    }
}
