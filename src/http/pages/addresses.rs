//! `/account/address`: the addresses of the signed-in account.

use poem::{Response, Result, handler};
use uuid::Uuid;

use super::{
    account::{Owner, notice, require_owner, step_up},
    cookies,
    form::Form,
    sign_in::session_reply,
    visit::{Visit, percent_encode},
};
use crate::{
    domain::{ids::EmailId, session::AcceptedTransport},
    http::{
        api::emails::parse_email,
        problem::{Code, ProblemError},
    },
    pages::views::{Address, SecondaryAddress},
    service::{
        change_email,
        emails::{self, ChangeEmailsError},
        factors::change::Caller,
        recent_authentication::require_recent,
    },
};

/// The caller of the use cases. A page's session has no refresh tokens, so no transport is refused.
fn caller<'a>(visit: &'a Visit, owner: &'a Owner) -> Caller<'a> {
    Caller { claims: &owner.caller, origin: &visit.origin, accepted: AcceptedTransport::Any }
}

/// Loads the contents of the page, with empty form fields.
async fn load_view(visit: &Visit, owner: &Owner) -> Result<Address, ProblemError> {
    let pending = change_email::pending(&visit.state, &owner.caller).await?;
    let emails = emails::list(&visit.state, &owner.caller).await?;
    let can_add = emails.len() < visit.state.config.account.max_emails;
    let secondary = emails.into_iter().filter(|email| !email.is_primary).map(|email| SecondaryAddress {
        id: email.id.to_string(),
        email: email.email.as_str().to_owned(),
        is_verified: email.is_verified,
    });
    Ok(Address {
        current: owner.account.email.as_str().to_owned(),
        email_verified: owner.account.email_verified,
        email: String::new(),
        pending: pending.map(|email| email.as_str().to_owned()),
        addresses: secondary.collect(),
        can_add,
        secondary: String::new(),
    })
}

/// Answers a form whose change was refused: redirects to the step-up if it is required, or shows the page with the error.
async fn reply_to_refusal(visit: &Visit, owner: &Owner, problem: ProblemError) -> Result<Response> {
    match step_up(visit, problem, "/address") {
        Ok(response) => Ok(response),
        Err(problem) => visit.reply().error(&problem).page(&load_view(visit, owner).await?),
    }
}

/// `GET /account/address`
#[handler]
pub(super) async fn show(mut visit: Visit) -> Result<Response> {
    let owner = require_owner!(visit, "/address");
    let mut view = load_view(&visit, &owner).await?;
    // After a step-up, the form shows the address again that the user typed before, unless the page lists that address already.
    let typed = visit.typed_identifier();
    let is_listed = typed == view.current
        || view.pending.as_ref() == Some(&typed)
        || view.addresses.iter().any(|address| address.email == typed);
    if !is_listed {
        view.email = typed;
    }
    visit.reply().notice(notice(&visit)).page(&view)
}

/// `POST /account/address`: starts a change of the primary address.
#[handler]
pub(super) async fn change(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/address");
    let typed = form.text("email");
    // a block of its own, so that `?` leads to the replies below
    let sent = async {
        visit.check_csrf(&mut form)?;
        let email = parse_email("email", &typed)?;
        require_recent(&visit.state, &owner.caller).await?;
        change_email::request(&visit.state, &owner.caller, &email, &visit.origin).await.map_err(ProblemError::from)
    };
    // Both the page that takes the code and the form after a step-up show the address again.
    let typed_cookie = cookies::set(cookies::TYPED, &percent_encode(&typed), cookies::TYPED_TTL);
    match sent.await {
        Ok(()) => Ok(visit.reply().cookie(typed_cookie).redirect_to_page("/address?done=mail_sent")),
        // not by `step_up`, whose reply has no cookie
        Err(problem) if problem.code == Code::InsufficientUserAuthentication => {
            Ok(visit.reply().cookie(typed_cookie).redirect_to_page("/reauthenticate?next=/address"))
        }
        Err(problem) => {
            let view = Address { email: typed, ..load_view(&visit, &owner).await? };
            visit.reply().error(&problem).page(&view)
        }
    }
}

/// `POST /account/address/add`: adds a secondary address, or sends its mail again.
#[handler]
pub(super) async fn add(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/address");
    let typed = form.text("secondary");
    let added = async {
        visit.check_csrf(&mut form)?;
        let email = parse_email("secondary", &typed)?;
        emails::add::request(&visit.state, &caller(&visit, &owner), &email).await.map_err(ProblemError::from)
    };
    match added.await {
        Ok(_email) => {
            // the page that takes the code shows the address
            let typed_cookie = cookies::set(cookies::TYPED, &percent_encode(&typed), cookies::TYPED_TTL);
            Ok(visit.reply().cookie(typed_cookie).redirect_to_page("/address?done=mail_sent"))
        }
        Err(problem) => match step_up(&visit, problem, "/address") {
            Ok(response) => Ok(response),
            Err(problem) => {
                let view = Address { secondary: typed, ..load_view(&visit, &owner).await? };
                visit.reply().error(&problem).page(&view)
            }
        },
    }
}

/// `POST /account/address/primary`: makes a secondary address the primary one.
#[handler]
pub(super) async fn make_primary(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/address");
    let changed = async {
        visit.check_csrf(&mut form)?;
        let id = address_id(&mut form)?;
        emails::change::make_primary(&visit.state, &caller(&visit, &owner), id).await.map_err(ProblemError::from)
    };
    match changed.await {
        // The change has replaced the browser's session, so the reply sets the cookie of the new one.
        Ok(tokens) => {
            Ok(session_reply(&visit, tokens.account, tokens.session).redirect_to_page("/address?done=primary_changed"))
        }
        Err(problem) => reply_to_refusal(&visit, &owner, problem).await,
    }
}

/// `POST /account/address/remove`: removes a secondary address.
#[handler]
pub(super) async fn remove(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/address");
    let removed = async {
        visit.check_csrf(&mut form)?;
        let id = address_id(&mut form)?;
        emails::change::remove(&visit.state, &caller(&visit, &owner), id).await.map_err(ProblemError::from)
    };
    match removed.await {
        Ok(Some(tokens)) => {
            Ok(session_reply(&visit, tokens.account, tokens.session).redirect_to_page("/address?done=address_removed"))
        }
        // The address was not verified: the session continues.
        Ok(None) => Ok(visit.reply().redirect_to_page("/address?done=address_removed")),
        Err(problem) => reply_to_refusal(&visit, &owner, problem).await,
    }
}

/// The id of the address that a form names.
fn address_id(form: &mut Form) -> Result<EmailId, ProblemError> {
    Uuid::try_parse(&form.text("id")).map(EmailId).map_err(|_| ChangeEmailsError::Unknown.into())
}
