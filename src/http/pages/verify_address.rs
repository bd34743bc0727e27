//! `/account/verify-address` and `/account/confirm-address`: the link or the code of a mail, and the proof that the visitor set up
//! the account. Opening the link does not consume it.

use poem::{Response, Result, handler};

use super::{
    cookies,
    form::Form,
    sign_in::session_reply,
    visit::{Visit, percent_encode},
};
use crate::{
    domain::session::AcceptedTransport,
    http::{
        api::{account::weak_password, recovery::parse_link_or_code},
        problem::{Code, ProblemError},
        types::Secret,
    },
    pages::views::{Message, VerifyAddress},
    service::{
        emails,
        factors::change::Caller,
        verify_email::{self, Proof},
    },
};

fn view(visit: &Visit) -> VerifyAddress {
    VerifyAddress {
        is_change: visit.path.ends_with("/confirm-address"),
        is_sent: visit.parameter("sent").is_some(),
        email: visit.typed_identifier(),
        token: String::new(),
        proof: match visit.parameter("proof") {
            Some("new_password") => "new_password".to_owned(),
            // the browser's session is the proof: the user types no password
            None if visit.browser.session.is_some() => "none".to_owned(),
            _ => "password".to_owned(),
        },
    }
}

#[handler]
pub(super) async fn show(visit: Visit) -> Result<Response> {
    visit.reply().page(&view(&visit))
}

#[handler]
pub(super) async fn submit(visit: Visit, mut form: Form) -> Result<Response> {
    let proof = form.text("proof");
    let mut view = VerifyAddress { email: form.text("email"), ..view(&visit) };
    // after an error, the page shows the field of the submitted proof again
    if matches!(proof.as_str(), "new_password" | "password") {
        view.proof = proof;
    }
    let token = form.link_token("token");
    view.token = token.as_ref().map(|token| token.expose().to_owned()).unwrap_or_default();
    let caller = visit.browser.session.as_ref().map(|session| session.caller(&visit.state));
    let verified = async {
        visit.check_csrf(&mut form)?;
        let code = form.secret("code").map(Secret);
        let email = (!view.email.is_empty()).then(|| view.email.clone());
        let presented = parse_link_or_code(token.map(Secret), "email", email, code)?;
        let proof = match (form.secret("new_password"), form.secret("password")) {
            (Some(new), _) => {
                let checked = visit.state.passwords.check_new(new);
                Proof::NewPassword(checked.map_err(|reason| weak_password("new_password", &reason))?)
            }
            (None, Some(password)) => Proof::Password(password),
            (None, None) => Proof::None,
        };
        let input = verify_email::VerifyEmail {
            presented,
            proof,
            caller: caller.as_ref(),
            accepted: AcceptedTransport::Any,
            origin: visit.origin.clone(),
        };
        verify_email::verify_email(&visit.state, input).await.map_err(ProblemError::from)
    };
    let tokens = match verified.await {
        Ok(tokens) => tokens,
        Err(problem) => {
            // the browser's session, if any, is of another account, so it proves nothing
            if problem.code == Code::ProofRequired {
                view.proof = "password".to_owned();
            }
            return visit.reply().error(&problem).page(&view);
        }
    };
    let kind = if view.is_change { "address_changed" } else { "address_verified" };
    let next_page = if caller.is_some() { "" } else { "sign-in" }; // below /account
    let reply = match tokens {
        // the change of an address has ended the account's sessions: a new session replaces the browser's session
        Some(tokens) => session_reply(&visit, tokens.account, tokens.session),
        None => visit.reply(),
    };
    reply.cookie(cookies::clear(cookies::TYPED)).page(&Message::new(kind, next_page))
}

/// Sends the mail again.
#[handler]
pub(super) async fn send(visit: Visit, mut form: Form) -> Result<Response> {
    let email = form.text("email");
    let sent = async {
        visit.check_csrf(&mut form)?;
        if let Some(session) = &visit.browser.session {
            // the address may be a secondary one of the signed-in account
            let claims = session.caller(&visit.state);
            let caller = Caller { claims: &claims, origin: &visit.origin, accepted: AcceptedTransport::Any };
            if emails::add::resend_if_unverified(&visit.state, &caller, &email).await? {
                return Ok(());
            }
        }
        verify_email::request(&visit.state, &email, visit.origin.clone()).await.map_err(ProblemError::from)
    };
    if let Err(problem) = sent.await {
        return visit.reply().error(&problem).page(&VerifyAddress { email, ..view(&visit) });
    }
    let typed = cookies::set(cookies::TYPED, &percent_encode(&email), cookies::TYPED_TTL);
    Ok(visit.reply().cookie(typed).redirect_to_page("/verify-address?sent=1"))
}
