//! `/account/register`: creates an account.

use poem::{Response, Result, handler};

use super::{
    cookies,
    form::Form,
    visit::{Visit, percent_encode},
};
use crate::{
    http::{
        api::account::{RegisterFields, parse_register},
        problem::{Code, ProblemError},
    },
    pages::views::Register,
    service::register,
};

/// The path of the page.
const DETAIL: &str = "Only an admin may register accounts.";

#[handler]
pub(super) async fn show(visit: Visit) -> Result<Response> {
    if !visit.state.config.registration.open {
        return Err(ProblemError::new(Code::RegistrationClosed, DETAIL).into());
    }
    visit.reply().page(&Register { with_username: with_username(&visit), ..Register::default() })
}

#[handler]
pub(super) async fn submit(visit: Visit, mut form: Form) -> Result<Response> {
    let view =
        Register { email: form.text("email"), username: form.text("username"), with_username: with_username(&visit) };
    let registered = async {
        visit.check(&mut form)?;
        register::may_register(&visit.state, None).await.map_err(ProblemError::from)?;
        let fields = RegisterFields {
            email: view.email.clone(),
            username: Some(view.username.clone()).filter(|name| !name.is_empty()),
            password: form.secret("password").unwrap_or_else(|| "".into()),
        };
        let input = parse_register(&visit.state, fields)?;
        let registered = register::register_from(&visit.state, input, None, visit.origin.clone()).await;
        registered.map_err(ProblemError::from)
    };
    if let Err(problem) = registered.await {
        return visit.reply().error(&problem).page(&view);
    }
    let typed = cookies::set(cookies::TYPED, &percent_encode(&view.email), Some(cookies::TYPED_TTL));
    Ok(visit.reply().cookie(typed).go("/verify-address?sent=1"))
}

/// Whether a username can be chosen with the registration.
fn with_username(visit: &Visit) -> bool {
    !visit.state.config.registration.conceal
}
