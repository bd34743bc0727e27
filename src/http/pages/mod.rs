//! The pages for account owners: thin views of the same use cases as the REST API. [`crate::pages`] renders them.
//!
//! [`endpoint`] has the routes, and adds the visitor's language to errors. [`visit`] reads requests, and [`form`] reads and checks
//! submitted forms. [`respond`] builds all responses, and sets their headers.

mod account;
mod addresses;
mod assets;
mod authorization;
mod cookies;
mod devices;
mod enrolment;
mod error;
mod factors;
mod form;
mod passkeys;
mod provider;
mod reauthenticate;
mod recovery;
mod register;
mod respond;
mod second_factor;
mod security;
mod sign_in;
mod sign_in_code;
mod verify_address;
mod visit;

use poem::{Endpoint, Request, Response, Result, Route, get, post};

pub(super) use self::{
    error::{VisitorLocale, error_page},
    provider::{Failure, confirm_sign_out, failure_page, form_post, unconfirmed_page},
    visit::Visit,
};
use super::{
    extract::state,
    problem::{Code, Failed, ProblemError, Problems},
};
use crate::state::AppState;

/// The path under which all pages are.
const PREFIX: &str = "/account";

/// Each path of `endpoint`, as the log and the metrics name it, and its methods. A new route must be added here, too.
pub const PATHS: &[(&str, &str)] = &[
    ("/account/assets/{name}", "GET"),
    ("/account", "GET"),
    ("/account/profile", "POST"),
    ("/account/address", "GET, POST"),
    ("/account/address/add", "POST"),
    ("/account/address/primary", "POST"),
    ("/account/address/remove", "POST"),
    ("/account/password", "GET, POST"),
    ("/account/devices", "GET"),
    ("/account/devices/end", "POST"),
    ("/account/devices/end-others", "POST"),
    ("/account/devices/revoke", "POST"),
    ("/account/data", "GET"),
    ("/account/data/export", "POST"),
    ("/account/data/delete", "POST"),
    ("/account/reauthenticate", "GET, POST"),
    ("/account/sign-in", "GET, POST"),
    ("/account/sign-out", "POST"),
    ("/account/sign-in/passkey", "POST"),
    ("/account/sign-in/second-factor", "GET, POST"),
    ("/account/sign-in/second-factor/send", "POST"),
    ("/account/sign-in/enrol", "GET, POST"),
    ("/account/security/totp", "POST"),
    ("/account/security/totp/confirm", "POST"),
    ("/account/security/totp/remove", "POST"),
    ("/account/security/recovery-codes", "POST"),
    ("/account/security/email-code", "POST"),
    ("/account/security/email-code/remove", "POST"),
    ("/account/security/devices/forget", "POST"),
    ("/account/security/devices/forget-all", "POST"),
    ("/account/security", "GET"),
    ("/account/security/passkeys", "POST"),
    ("/account/security/passkeys/options", "POST"),
    ("/account/security/passkeys/rename", "POST"),
    ("/account/security/passkeys/remove", "POST"),
    ("/account/sign-in-code", "GET, POST"),
    ("/account/sign-in-code/send", "POST"),
    ("/account/consent", "GET, POST"),
    ("/account/select-account", "GET, POST"),
    ("/account/error", "GET"),
    ("/account/register", "GET, POST"),
    ("/account/verify-address", "GET, POST"),
    ("/account/verify-address/send", "POST"),
    ("/account/confirm-address", "GET, POST"),
    ("/account/forgot-password", "GET, POST"),
    ("/account/reset-password", "GET, POST"),
    ("/account/invitation", "GET, POST"),
    ("/account/undo-address", "GET, POST"),
    ("/account/not-me", "GET, POST"),
    ("/account/signed-out", "GET"),
];

/// Whether a path belongs to the pages.
pub(super) fn is_page(path: &str) -> bool {
    path.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The endpoint of all pages.
pub(super) fn endpoint() -> impl Endpoint<Output = Response> + 'static {
    let routes = Route::new()
        .at("/account/assets/:name", get(assets::show))
        .at("/account", get(account::show_profile))
        .at("/account/profile", post(account::save_profile))
        .at("/account/address", get(addresses::show).post(addresses::change))
        .at("/account/address/add", post(addresses::add))
        .at("/account/address/primary", post(addresses::make_primary))
        .at("/account/address/remove", post(addresses::remove))
        .at("/account/password", get(account::show_password).post(account::set_password))
        .at("/account/devices", get(devices::show))
        .at("/account/devices/end", post(devices::end))
        .at("/account/devices/end-others", post(devices::end_others))
        .at("/account/devices/revoke", post(devices::revoke))
        .at("/account/data", get(account::show_data))
        .at("/account/data/export", post(account::export_data))
        .at("/account/data/delete", post(account::schedule_deletion))
        .at("/account/reauthenticate", get(reauthenticate::show).post(reauthenticate::submit))
        .at("/account/sign-in", get(sign_in::show).post(sign_in::submit))
        .at("/account/sign-out", post(sign_in::sign_out))
        .at("/account/sign-in/passkey", post(passkeys::submit_sign_in))
        .at("/account/sign-in/second-factor", get(second_factor::show).post(second_factor::submit))
        .at("/account/sign-in/second-factor/send", post(second_factor::send))
        .at("/account/sign-in/enrol", get(enrolment::show).post(enrolment::submit))
        .at("/account/security/totp", post(factors::start_totp))
        .at("/account/security/totp/confirm", post(factors::confirm_totp))
        .at("/account/security/totp/remove", post(factors::remove_totp))
        .at("/account/security/recovery-codes", post(factors::renew_recovery_codes))
        .at("/account/security/email-code", post(factors::enable_email_code))
        .at("/account/security/email-code/remove", post(factors::disable_email_code))
        .at("/account/security/devices/forget", post(security::forget_device))
        .at("/account/security/devices/forget-all", post(security::forget_devices))
        .at("/account/security", get(security::show))
        .at("/account/security/passkeys", post(passkeys::add))
        .at("/account/security/passkeys/options", post(passkeys::options))
        .at("/account/security/passkeys/rename", post(passkeys::rename))
        .at("/account/security/passkeys/remove", post(passkeys::remove))
        .at("/account/sign-in-code", get(sign_in_code::show).post(sign_in_code::submit))
        .at("/account/sign-in-code/send", post(sign_in_code::send))
        .at("/account/consent", get(authorization::show_consent).post(authorization::consent))
        .at("/account/select-account", get(authorization::show_select_account).post(authorization::select_account))
        .at("/account/error", get(provider::show_error))
        .at("/account/register", get(register::show).post(register::submit))
        .at("/account/verify-address", get(verify_address::show).post(verify_address::submit))
        .at("/account/verify-address/send", post(verify_address::send))
        // a changed address is verified like the first one
        .at("/account/confirm-address", get(verify_address::show).post(verify_address::submit))
        .at("/account/forgot-password", get(recovery::show_forgot).post(recovery::forgot))
        .at("/account/reset-password", get(recovery::show_reset).post(recovery::reset))
        // an invited user sets a first password with the form that resets one
        .at("/account/invitation", get(recovery::show_reset).post(recovery::reset))
        .at("/account/undo-address", get(recovery::show_link).post(recovery::undo_address))
        .at("/account/not-me", get(recovery::show_link).post(recovery::not_me))
        .at("/account/signed-out", get(recovery::signed_out));
    Pages { routes }
}

/// The routes, with the visitor's language added to their errors. [`error_page`] renders the errors in that language.
struct Pages {
    routes: Route,
}

impl Endpoint for Pages {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let locale = VisitorLocale::of(&request);
        let mut result = self.routes.call(request).await;
        if let Err(error) = &mut result {
            error.set_data(locale);
        }
        result
    }
}

/// Declares every code as an error of pages: the OpenAPI document does not list the errors of pages.
struct PageProblems;

impl Problems for PageProblems {
    const CODES: &'static [Code] = Code::ALL;
}

/// Converts an error of a use case to the problem with which the REST API reports it. [`Failed`] has the conversions.
fn problem_of<E>(error: E) -> ProblemError
where
    Failed<PageProblems>: From<E>,
{
    Failed::<PageProblems>::from(error).into_problem()
}

/// Whether passkeys are enabled.
const fn passkeys_are_on(state: &AppState) -> bool {
    state.passkeys.is_some()
}
