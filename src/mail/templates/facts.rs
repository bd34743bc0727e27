//! The facts of a mail: values that its texts and layouts can use.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use minijinja::Value;

use super::catalog::TimeFormat;
use crate::domain::{
    clock::Timestamp,
    mail::{ActionOrigin, AddressChange, FactorChange, MailData, NoticeFactor},
};

/// Collects the facts of a mail. The caller adds those that all mails share, such as `product`.
pub(super) fn collect(data: &MailData, time_format: &TimeFormat<'_>, zone: &TimeZone) -> BTreeMap<String, Value> {
    let mut facts = Facts { values: BTreeMap::new(), time_format, zone };
    facts.set("template", data.template().as_str());
    if let Some(challenge) = data.challenge() {
        facts.set("link", challenge.link.expose());
        if let Some(code) = &challenge.code {
            facts.set("code", code.expose());
        }
    }
    if let MailData::SecondFactorCode { code, .. } = data {
        facts.set("code", code.expose());
    }
    if let Some(at) = data.expires_at() {
        facts.set_time("expires", at);
    }
    match data {
        MailData::VerifyAddress { .. } | MailData::ConfirmAddress { .. } | MailData::Invitation { .. } => {}
        MailData::PasswordReset { origin, .. }
        | MailData::SignInCode { origin, .. }
        | MailData::SecondFactorCode { origin, .. } => facts.set_origin(origin),
        MailData::AddressTaken { origin, sign_in } => {
            facts.set_origin(origin);
            facts.set("link", sign_in);
        }
        MailData::AddressChanged { new_address, origin, .. } => {
            facts.set_origin(origin);
            facts.set("new_address", new_address);
        }
        MailData::DeletionScheduled { deletes_at, sign_in } => {
            facts.set_time("deletes_at", *deletes_at);
            facts.set("link", sign_in);
        }
        MailData::PasswordChanged { notice }
        | MailData::NewDevice { notice }
        | MailData::SessionReuse { notice }
        | MailData::RecoveryCodeUsed { notice, .. }
        | MailData::FactorChanged { notice, .. }
        | MailData::SecondaryAddressChanged { notice, .. }
        | MailData::PasskeyCopied { notice } => {
            facts.set_origin(&notice.origin);
            if let Some(link) = &notice.not_me {
                facts.set("not_me", link.expose());
            }
        }
        MailData::AccountDisabled { at } | MailData::Test { at } => facts.set_time("at", *at),
        MailData::RecoveryCodesLow { remaining } => facts.set_number("remaining", *remaining),
    }
    // Some notices have further facts.
    if let MailData::RecoveryCodeUsed { remaining, .. } = data {
        facts.set_number("remaining", *remaining);
    }
    if let MailData::SecondaryAddressChanged { change, secondary, .. } = data {
        facts.set("secondary_address", secondary);
        let change = match change {
            AddressChange::Added => "added",
            AddressChange::Removed => "removed",
            AddressChange::MadePrimary => "made_primary",
        };
        facts.set("change", change);
    }
    if let MailData::FactorChanged { change, factor, .. } = data {
        let change = match change {
            FactorChange::Added => "added",
            FactorChange::Removed => "removed",
        };
        facts.set("change", change);
        let factor = match factor {
            NoticeFactor::Passkey => "passkey",
            NoticeFactor::Totp => "totp",
            NoticeFactor::RecoveryCodes => "recovery_codes",
            NoticeFactor::EmailCode => "email_code",
        };
        facts.set("factor", factor);
    }
    facts.values
}

/// The facts collected so far, and how to write times.
struct Facts<'a> {
    values: BTreeMap<String, Value>,
    time_format: &'a TimeFormat<'a>,
    zone: &'a TimeZone,
}

impl Facts<'_> {
    fn set(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), Value::from(value));
    }

    fn set_number(&mut self, name: &str, number: u32) {
        self.values.insert(name.to_owned(), Value::from(number));
    }

    fn set_time(&mut self, name: &str, at: Timestamp) {
        let text = self.time_format.format(at, self.zone);
        self.set(name, &text);
    }

    /// Sets when, from which IP address and on which device an action was done.
    fn set_origin(&mut self, origin: &ActionOrigin) {
        self.set_time("at", origin.at);
        if let Some(ip) = origin.address {
            self.set("address", &ip.to_canonical().to_string());
        }
        if let Some(device) = &origin.device {
            self.set("device", &device.to_string());
        }
    }
}
