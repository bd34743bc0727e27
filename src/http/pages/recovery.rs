//! Forgotten and new passwords, the links of notices, and the page after a sign-out.

use poem::{Response, Result, handler};

use super::{
    cookies,
    form::Form,
    visit::{Visit, percent_encode},
};
use crate::{
    domain::{account::Identifier, secret::SecretText},
    http::{
        api::{
            account::weak_password,
            recovery::{invalid_code, parse_link_or_code},
        },
        problem::{Code, FieldCode, FieldError, ProblemError},
        types::Secret,
    },
    pages::views::{ForgotPassword, Link, Message, ResetPassword},
    service::{change_email, forgot_password, reset_password, secure_account},
};

/// The page, below `/account`, to which the buttons of this file's messages lead.
const SIGN_IN_PAGE: &str = "sign-in";

/// `GET /account/forgot-password`
#[handler]
pub(super) async fn show_forgot(visit: Visit) -> Result<Response> {
    visit.reply().page(&ForgotPassword { identifier: visit.typed_identifier() })
}

/// `POST /account/forgot-password`: sends a mail. The answer is the same for unknown accounts (I12: no account oracle).
#[handler]
pub(super) async fn forgot(visit: Visit, mut form: Form) -> Result<Response> {
    let view = ForgotPassword { identifier: form.text("identifier") };
    let sent = async {
        visit.check_csrf(&mut form)?;
        require_filled("identifier", &view.identifier)?;
        let identifier = Identifier::parse(&view.identifier);
        let sent = forgot_password::forgot_password(&visit.state, &identifier, visit.origin.clone()).await;
        sent.map_err(ProblemError::from)
    };
    if let Err(problem) = sent.await {
        return visit.reply().error(&problem).page(&view);
    }
    // the next page fills in the identifier
    let typed = cookies::set(cookies::TYPED, &percent_encode(&view.identifier), cookies::TYPED_TTL);
    Ok(visit.reply().cookie(typed).redirect_to_page("/reset-password?sent=1"))
}

/// The empty form for a new password. The page's script fills in the link's token from the fragment of the URL.
fn reset_view(visit: &Visit) -> ResetPassword {
    ResetPassword {
        is_invitation: visit.path.ends_with("/invitation"),
        is_sent: visit.parameter("sent").is_some(),
        identifier: visit.typed_identifier(),
        token: String::new(),
    }
}

/// `GET /account/reset-password` and `/account/invitation`: asks for a new password
#[handler]
pub(super) async fn show_reset(visit: Visit) -> Result<Response> {
    visit.reply().page(&reset_view(&visit))
}

/// `POST /account/reset-password` and `/account/invitation`: sets the new password, by a link or a code
#[handler]
pub(super) async fn reset(visit: Visit, mut form: Form) -> Result<Response> {
    let mut view = ResetPassword { identifier: form.text("identifier"), ..reset_view(&visit) };
    let token = form.link_token("token");
    view.token = token.as_ref().map(|token| token.expose().to_owned()).unwrap_or_default();
    let outcome = async {
        visit.check_csrf(&mut form)?;
        // A missing password is refused like one that is too short.
        let typed_password = form.secret("new_password").unwrap_or_else(|| "".into());
        let checked = visit.state.passwords.check_new(typed_password);
        let new_password = checked.map_err(|reason| weak_password("new_password", &reason))?;
        let identifier = (!view.identifier.is_empty()).then(|| view.identifier.clone());
        let code = form.secret("code").map(Secret);
        let presented = parse_link_or_code(token.map(Secret), "identifier", identifier, code)?;
        let reset = reset_password::reset_password(&visit.state, &presented, new_password, &visit.origin).await;
        reset.map_err(ProblemError::from)
    };
    if let Err(problem) = outcome.await {
        return visit.reply().error(&problem).page(&view);
    }
    visit.reply().cookie(cookies::clear(cookies::TYPED)).page(&Message::new("password_reset", SIGN_IN_PAGE))
}

/// `GET /account/undo-address` and `/account/not-me`: the links of notices. Opening a link does not consume it.
#[handler]
pub(super) async fn show_link(visit: Visit) -> Result<Response> {
    let kind = if visit.path.ends_with("/not-me") { "not_me" } else { "undo_address" };
    let token = String::new(); // the page's script fills it in
    visit.reply().page(&Link { kind: kind.to_owned(), token })
}

/// `POST /account/undo-address`: undoes a change of the primary address
#[handler]
pub(super) async fn undo_address(visit: Visit, mut form: Form) -> Result<Response> {
    let link_token = form.link_token("token");
    let undone = async {
        visit.check_csrf(&mut form)?;
        let token = require_token(link_token.as_ref())?;
        change_email::undo(&visit.state, token, &visit.origin).await.map_err(ProblemError::from)
    };
    finish_link(&visit, "undo_address", "address_undone", link_token.as_ref(), undone.await)
}

/// `POST /account/not-me`: signs the account out everywhere, after an action that the owner did not take
#[handler]
pub(super) async fn not_me(visit: Visit, mut form: Form) -> Result<Response> {
    let link_token = form.link_token("token");
    let secured = async {
        visit.check_csrf(&mut form)?;
        let token = require_token(link_token.as_ref())?;
        secure_account::secure_account(&visit.state, token, &visit.origin).await.map_err(ProblemError::from)
    };
    finish_link(&visit, "not_me", "secured", link_token.as_ref(), secured.await)
}

/// Responds to a submitted link: with the message `done_message`, or, if there is a problem, with the link's page again.
fn finish_link(
    visit: &Visit,
    link_kind: &str,
    done_message: &str,
    link_token: Option<&SecretText>,
    outcome: Result<(), ProblemError>,
) -> Result<Response> {
    match outcome {
        Ok(()) => visit.reply().page(&Message::new(done_message, SIGN_IN_PAGE)),
        Err(problem) => {
            let token = link_token.map(|token| token.expose().to_owned()).unwrap_or_default();
            visit.reply().error(&problem).page(&Link { kind: link_kind.to_owned(), token })
        }
    }
}

/// Refuses a form without a link's token, with the problem of an invalid one.
fn require_token(link_token: Option<&SecretText>) -> Result<&SecretText, ProblemError> {
    link_token.ok_or_else(invalid_code)
}

/// Refuses an empty field.
pub(super) fn require_filled(name: &str, text: &str) -> Result<(), ProblemError> {
    if !text.is_empty() {
        return Ok(());
    }
    let field = FieldError::new(name, FieldCode::Required, "This field is required.");
    Err(ProblemError::fields(Code::InvalidFields, vec![field]))
}

/// `GET /account/signed-out`
#[handler]
pub(super) async fn signed_out(visit: Visit) -> Result<Response> {
    visit.reply().page(&Message::new("signed_out", SIGN_IN_PAGE))
}
