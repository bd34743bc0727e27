//! `/account/sign-in-code`: sign-in with a code or a link from a mail, where `login.email_code` is on.

use poem::{Response, Result, handler};

use super::{
    authorization::Authorization,
    cookies,
    form::Form,
    sign_in::{ask_enrolment, ask_second_factor, finish},
    visit::{Visit, percent_encode},
};
use crate::{
    domain::{one_time_token::TokenPurpose, secret::SecretText, session::Transport},
    http::{
        api::{
            email_login::password_required,
            recovery::{invalid_code, parse_link_or_code},
        },
        problem::{Code, ProblemError},
        types::Secret,
    },
    pages::views::SignInCode,
    service::email_login::{self, EmailLoginError, LoginRequestSecret},
};

/// Shows the page, with the problem of the submitted form if there is one.
async fn page(visit: &Visit, problem: Option<&ProblemError>, view: &SignInCode) -> Result<Response> {
    // a sign-in that belongs to an authorization request ends with a redirect to the app
    let authorization = Authorization::of(visit).await?;
    let reply = visit.reply().client_target(authorization.as_ref());
    match problem {
        Some(problem) => reply.error(problem).page(view),
        None => reply.page(view),
    }
}

/// Shows the form for the code if a mail was sent and `again` does not ask for another. Otherwise, shows the form for the address.
#[handler]
pub(super) async fn show(visit: Visit) -> Result<Response> {
    if !visit.state.config.login.email_code {
        return Err(sign_in_by_mail_is_off().into());
    }
    let is_sent = visit.cookie(cookies::LOGIN_REQUEST).is_some() && visit.parameter("again").is_none();
    let no_problem = None;
    page(&visit, no_problem, &SignInCode { is_sent, email: visit.typed_identifier() }).await
}

/// Sends the mail with the code and the link. The answer is the same for unknown addresses (I12: no account oracle).
#[handler]
pub(super) async fn send(visit: Visit, mut form: Form) -> Result<Response> {
    let email = form.text("email");
    // the problems of all steps are shown in the same way
    let sent = async {
        visit.check_csrf(&mut form)?;
        super::recovery::require_filled("email", &email)?;
        email_login::request(&visit.state, &email, visit.origin.clone()).await.map_err(problem_of)
    };
    match sent.await {
        Ok(secret) => {
            let login_request = cookies::set(cookies::LOGIN_REQUEST, secret.expose(), TokenPurpose::Login.ttl());
            let typed_email = cookies::set(cookies::TYPED, &percent_encode(&email), cookies::TYPED_TTL);
            Ok(visit.reply().cookie(login_request).cookie(typed_email).redirect_to_page("/sign-in-code"))
        }
        Err(problem) => page(&visit, Some(&problem), &SignInCode { is_sent: false, email }).await,
    }
}

/// Signs the user in with the submitted code or link. Only the browser that requested the mail has the cookie `LOGIN_REQUEST`, without
/// which both are refused.
#[handler]
pub(super) async fn submit(visit: Visit, mut form: Form) -> Result<Response> {
    let email = form.text("email");
    let signed_in = async {
        visit.check_csrf(&mut form)?;
        let address = if email.is_empty() { None } else { Some(email.clone()) };
        let token = form.link_token("token").map(Secret);
        let code = form.secret("code").map(Secret);
        let link_or_code = parse_link_or_code(token, "email", address, code)?;
        let cookie = visit.cookie(cookies::LOGIN_REQUEST).ok_or_else(invalid_code)?;
        let request_secret = LoginRequestSecret::from(SecretText::from(cookie));
        let device = visit.client.device_token.as_ref();
        let origin = visit.session_origin();
        let verified =
            email_login::verify(&visit.state, &link_or_code, &request_secret, Transport::Browser, origin, device).await;
        match verified {
            Ok((tokens, device)) => finish(&visit, tokens.account, tokens.session, Some(&device)).await,
            Err(EmailLoginError::SecondFactorRequired(challenge)) => ask_second_factor(&visit, &challenge).await,
            Err(EmailLoginError::EnrolmentRequired(challenge)) => Ok(ask_enrolment(&visit, &challenge)),
            Err(error) => Err(problem_of(error)),
        }
    };
    match signed_in.await {
        Ok(response) => Ok(response),
        Err(problem) => page(&visit, Some(&problem), &SignInCode { is_sent: true, email }).await,
    }
}

fn sign_in_by_mail_is_off() -> ProblemError {
    ProblemError::new(Code::LoginMethodOff, "Sign-in by mail is off (login.email_code).")
}

fn problem_of(error: EmailLoginError) -> ProblemError {
    match error {
        EmailLoginError::Off => sign_in_by_mail_is_off(),
        EmailLoginError::InvalidToken => invalid_code(),
        // this and the next one are not reached: `submit` handles them
        EmailLoginError::SecondFactorRequired(challenge) => ProblemError::second_factor_required(*challenge),
        EmailLoginError::EnrolmentRequired(challenge) => ProblemError::enrolment_required(*challenge),
        EmailLoginError::PasswordRequired => password_required(),
        EmailLoginError::Service(error) => error.into(),
    }
}
