//! `/account/register`: creates an account, and signs in to it unless its address must be verified first.

use poem::{Response, Result, handler};

use super::{
    cookies,
    form::Form,
    sign_in,
    visit::{Visit, percent_encode},
};
use crate::{
    config::Verification,
    domain::secret::SecretText,
    http::{
        api::account::{RegisterFields, parse_register},
        problem::ProblemError,
    },
    pages::views::Register,
    service::register,
};

#[handler]
pub(super) async fn show(visit: Visit) -> Result<Response> {
    register::check_registration_is_open(&visit.state).map_err(ProblemError::from)?;
    visit.reply().page(&Register { with_username: allows_username(&visit), ..Register::default() })
}

#[handler]
pub(super) async fn submit(visit: Visit, mut form: Form) -> Result<Response> {
    let view =
        Register { email: form.text("email"), username: form.text("username"), with_username: allows_username(&visit) };
    match create_account(&visit, &mut form, &view).await {
        Ok(Some(password)) => match sign_in::with_password(&visit, &view.email, password).await {
            Ok(response) => Ok(response),
            // the account was created, but the sign-in failed: the user tries again
            Err(_) => Ok(visit.reply().cookie(typed_address(&view.email)).redirect_to_page("/sign-in")),
        },
        Ok(None) => Ok(visit.reply().cookie(typed_address(&view.email)).redirect_to_page("/verify-address?sent=1")),
        Err(problem) => visit.reply().error(&problem).page(&view),
    }
}

/// Creates the account. Returns the password, with which the user is then signed in. Returns `None` if the address must be verified first,
/// whether or not the address already has an account (I12: no account oracle).
async fn create_account(visit: &Visit, form: &mut Form, view: &Register) -> Result<Option<SecretText>, ProblemError> {
    visit.check_csrf(form)?;
    register::check_registration_is_open(&visit.state).map_err(ProblemError::from)?;
    // A missing password is refused like one that is too short.
    let password = form.secret("password").unwrap_or_else(|| "".into());
    let username = (!view.username.is_empty()).then(|| view.username.clone());
    let fields = RegisterFields { email: view.email.clone(), username, password: password.clone() };
    let input = parse_register(&visit.state, fields)?;
    let no_caller = None;
    let registered = register::register_for_client(&visit.state, input, no_caller, visit.origin.clone()).await;
    registered.map_err(ProblemError::from)?;
    let must_verify = visit.state.config.registration.verification == Verification::Required;
    Ok((!must_verify).then_some(password))
}

/// The cookie that tells the next page the address, so that the user need not type it again.
fn typed_address(email: &str) -> String {
    cookies::set(cookies::TYPED, &percent_encode(email), cookies::TYPED_TTL)
}

/// Whether a username can be chosen with the registration. With `registration.conceal` it can't: a taken username would reveal an account.
fn allows_username(visit: &Visit) -> bool {
    !visit.state.config.registration.conceal
}
