//! `/account/security`: the factors and the remembered devices of the signed-in account.

use poem::{Response, Result, handler};
use uuid::Uuid;

use super::{
    account::{Owner, notice, require_owner},
    form::Form,
    visit::Visit,
};
use crate::{
    domain::{factor::FactorKind, ids::RememberedDeviceId, mail::Device},
    http::problem::{Code, ProblemError},
    pages::views::{PasskeyView, RememberedDeviceView, Security, TotpFactorView},
    service::{
        factors,
        passkeys::manage,
        remembered_devices::{self, DeviceEntry},
    },
};

/// The content of the page.
///
/// # Errors
/// [`ProblemError`]
pub(super) async fn view(visit: &Visit, owner: &Owner) -> Result<Security, ProblemError> {
    let account = &owner.account;
    let has_password = account.password_hash.is_some();
    let mut view = Security {
        has_password,
        password_changed_at: has_password.then(|| account.password_changed_at.as_millis()),
        with_passkeys: super::passkeys_are_on(&visit.state),
        ..Security::default()
    };
    if view.with_passkeys {
        for passkey in manage::list(&visit.state, &owner.caller).await? {
            view.passkeys.push(PasskeyView {
                id: passkey.id.0.to_string(),
                name: passkey.name.as_str().to_owned(),
                created_at: passkey.created_at.as_millis(),
                last_used_at: passkey.last_used_at.map(|at| at.as_millis()),
                is_synced: passkey.backed_up,
            });
        }
    }
    let factor_list = factors::list(&visit.state, account.id).await?;
    view.recovery_codes = factor_list.recovery_codes;
    view.has_factor = account.factors.has_any();
    // `None` if codes by mail are off for all accounts (`factors.email_code`)
    view.with_email_code = factor_list.email_code.is_some();
    view.has_email_code = factor_list.email_code == Some(true);
    view.email_verified = account.email_verified;
    let current_device = visit.client.device_token.as_ref();
    let devices = remembered_devices::list(&visit.state, account.id, current_device).await?;
    view.devices = devices.into_iter().map(device_view).collect();
    for factor in factor_list.factors.into_iter().filter(|factor| factor.kind == FactorKind::Totp) {
        view.totps.push(TotpFactorView {
            id: factor.id.0.to_string(),
            name: factor.label,
            created_at: factor.created_at.as_millis(),
            last_used_at: factor.last_used_at.map(|at| at.as_millis()),
        });
    }
    Ok(view)
}

/// The view of a device. A device that the user has not named gets the name of its browser and system.
fn device_view(DeviceEntry { device, is_current }: DeviceEntry) -> RememberedDeviceView {
    let recognized = device.user_agent.as_deref().and_then(Device::from_user_agent);
    RememberedDeviceView {
        id: device.id.to_string(),
        name: device.name.or_else(|| recognized.map(|recognized| recognized.to_string())),
        last_used_at: device.last_used_at.unwrap_or(device.created_at).as_millis(),
        expires_at: device.expires_at.as_millis(),
        is_current,
    }
}

/// `POST /account/security/devices/forget`: forgets a device, whose next sign-in requires a second factor again.
#[handler]
pub(super) async fn forget_device(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/security");
    let forgotten = async {
        visit.check_csrf(&mut form)?;
        let unknown_device =
            || ProblemError::new(Code::UnknownDevice, "The account has no remembered device with this id.");
        let id = Uuid::try_parse(&form.text("id")).map(RememberedDeviceId).map_err(|_| unknown_device())?;
        let was_known = remembered_devices::forget(&visit.state, &owner.caller, id, visit.client.ip).await?;
        if was_known { Ok(()) } else { Err(unknown_device()) }
    };
    reply(&visit, &owner, forgotten.await).await
}

/// `POST /account/security/devices/forget-all`: forgets all devices, whose next sign-ins require a second factor again.
#[handler]
pub(super) async fn forget_devices(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/security");
    let forgotten = async {
        visit.check_csrf(&mut form)?;
        remembered_devices::forget_all(&visit.state, &owner.caller, visit.client.ip).await?;
        Ok(())
    };
    reply(&visit, &owner, forgotten.await).await
}

/// Redirects to the page, with a notice that the devices are forgotten. After an error, shows the page with the error.
async fn reply(visit: &Visit, owner: &Owner, forgotten: Result<(), ProblemError>) -> Result<Response> {
    match forgotten {
        Ok(()) => Ok(visit.reply().redirect_to_page("/security?done=devices_forgotten")),
        Err(problem) => visit.reply().error(&problem).page(&view(visit, owner).await?),
    }
}

/// `GET /account/security`
#[handler]
pub(super) async fn show(mut visit: Visit) -> Result<Response> {
    let owner = require_owner!(visit, "/security");
    let view = view(&visit, &owner).await?;
    visit.reply().notice(notice(&visit)).page(&view)
}
