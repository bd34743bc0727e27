//! `/account/sign-in`: starts the browser's session, with a password or a passkey.

use poem::{Response, Result, handler};

use super::{
    authorization::{Authorization, continuation_url},
    cookies,
    form::Form,
    recovery::require_filled,
    respond::Reply,
    second_factor,
    visit::{Visit, percent_encode},
};
use crate::{
    domain::{
        account::{Email, Identifier},
        authentication::Acr,
        ids::{AccountId, SessionId},
        secret::SecretText,
        session::Transport,
    },
    http::{
        api::email_login::password_required,
        cookie,
        problem::{Code, ProblemError},
    },
    pages::views::SignIn,
    service::{
        authorize::AuthorizeStep,
        browser_session,
        limits::DeviceToken,
        login::{self, Login, LoginError},
        sign_in::{IssuedChallenge, SignInStep},
        verify_email,
    },
};

/// The content of the page.
pub(super) fn view(visit: &Visit, authorization: Option<&Authorization>, identifier: String) -> SignIn {
    let config = &visit.state.config;
    SignIn {
        identifier,
        can_register: config.registration.open,
        email_code: config.login.email_code,
        passkeys: super::passkeys_are_on(&visit.state),
        client: authorization.map(Authorization::client),
    }
}

/// A reply with the page, whose form may lead to the client of the authorization request.
pub(super) fn page(reply: Reply<'_>, authorization: Option<&Authorization>, view: &SignIn) -> Result<Response> {
    reply.client_target(authorization).page(view)
}

/// `GET /account/sign-in`: the page, or a redirect if the browser needs no sign-in. With the parameter `again`, always the page: other
/// pages redirect here with `again` when the user of a signed-in browser must sign in once more.
#[handler]
pub(super) async fn show(visit: Visit) -> Result<Response> {
    let authorization = Authorization::of(&visit).await?;
    let is_forced = visit.parameter("again").is_some();
    if !is_forced && let Some(redirect) = redirect_past_sign_in(&visit, authorization.as_ref()) {
        return Ok(redirect);
    }
    let hint = authorization.as_ref().and_then(|authorization| authorization.pending.request.login_hint.clone());
    let identifier = hint.unwrap_or_else(|| visit.typed_identifier());
    let view = view(&visit, authorization.as_ref(), identifier);
    page(visit.reply(), authorization.as_ref(), &view)
}

/// The redirect of a browser that needs no sign-in; `None` if it needs one.
fn redirect_past_sign_in(visit: &Visit, authorization: Option<&Authorization>) -> Option<Response> {
    let reply = visit.reply();
    let Some(authorization) = authorization else {
        let is_signed_in = visit.browser.session.is_some();
        return is_signed_in.then(|| reply.redirect_to(&continuation_url(visit)));
    };
    match authorization.pending.step {
        // no step is missing, or the client gets an error
        None | Some(AuthorizeStep::Redirect(_)) => Some(reply.redirect_to(&continuation_url(visit))),
        Some(AuthorizeStep::Consent) => Some(reply.redirect_to_page("/consent")),
        Some(AuthorizeStep::SelectAccount) => Some(reply.redirect_to_page("/select-account")),
        Some(AuthorizeStep::Reauthenticate | AuthorizeStep::StepUp(_)) => {
            Some(reply.redirect_to_page("/reauthenticate"))
        }
        Some(AuthorizeStep::SignIn | AuthorizeStep::CreateAccount) => None,
    }
}

/// `POST /account/sign-in`. After an error, shows the form again.
#[handler]
pub(super) async fn submit(visit: Visit, mut form: Form) -> Result<Response> {
    let identifier = form.text("identifier");
    let sign_in = async {
        visit.check_csrf(&mut form)?;
        let password = form.secret("password").unwrap_or_else(|| "".into());
        with_password(&visit, &identifier, password).await
    };
    match sign_in.await {
        Ok(response) => Ok(response),
        Err(problem) => {
            let authorization = Authorization::of(&visit).await?;
            let view = view(&visit, authorization.as_ref(), identifier);
            page(visit.reply().error(&problem), authorization.as_ref(), &view)
        }
    }
}

/// Signs in with a password, and continues with the next page or the authorization request.
///
/// # Errors
/// The problem, for the form.
pub(super) async fn with_password(
    visit: &Visit,
    identifier: &str,
    password: SecretText,
) -> Result<Response, ProblemError> {
    require_filled("identifier", identifier)?;
    let input = Login {
        identifier: Identifier::parse(identifier),
        password,
        transport: Transport::Browser,
        origin: visit.session_origin(),
        // Browsers' sessions have no refresh tokens: `finish` replaces the former session.
        replaces: None,
        device: visit.client.device_token.clone(),
        wanted_acr: wanted_acr(visit).await?,
    };
    match login::login(&visit.state, input).await {
        Ok((tokens, device)) => finish(visit, tokens.account, tokens.session, Some(&device)).await,
        Err(LoginError::EmailNotVerified) => {
            // After a sign-in with a username, the page does not know the address to send a mail to.
            if let Ok(email) = Email::parse(identifier) {
                verify_email::request(&visit.state, email.as_str(), visit.origin.clone()).await?;
                let typed = cookies::set(cookies::TYPED, &percent_encode(identifier), cookies::TYPED_TTL);
                return Ok(visit.reply().cookie(typed).redirect_to_page("/verify-address?sent=1"));
            }
            Err(LoginError::EmailNotVerified.into())
        }
        Err(LoginError::SecondFactorRequired(challenge)) => ask_second_factor(visit, &challenge).await,
        Err(LoginError::EnrolmentRequired(challenge)) => Ok(ask_enrolment(visit, &challenge)),
        Err(error) => Err(error.into()),
    }
}

/// The level that a sign-in with a password must reach. A sign-in in a signed-in browser is a step-up to `aal2`: a remembered device must
/// not skip the second factor.
///
/// # Errors
/// [`ProblemError`] if the authorization request can't be read.
async fn wanted_acr(visit: &Visit) -> Result<Acr, ProblemError> {
    if visit.browser.session.is_some() {
        return Ok(Acr::Aal2);
    }
    let authorization = match Authorization::of(visit).await {
        // the user signs in nevertheless: `/oauth2/authorize` then reports that the request has expired
        Err(problem) if problem.code == Code::RequestExpired => None,
        found => found?,
    };
    Ok(authorization.map_or_else(Acr::default, |authorization| Acr::from_level(authorization.pending.request.acr)))
}

/// Continues with the page of the second factor.
///
/// # Errors
/// [`ProblemError`]
pub(super) async fn ask_second_factor(visit: &Visit, challenge: &IssuedChallenge) -> Result<Response, ProblemError> {
    second_factor::begin(visit, challenge).await
}

/// Continues with the page that sets a second factor up.
pub(super) fn ask_enrolment(visit: &Visit, challenge: &IssuedChallenge) -> Response {
    visit.reply().cookie(second_factor::cookie(challenge)).redirect_to_page("/sign-in/enrol")
}

/// Continues a sign-in after a successful authentication, by the step that is still required.
///
/// # Errors
/// The problem, for the form.
pub(super) async fn proceed(visit: &Visit, step: SignInStep) -> Result<Response, ProblemError> {
    match step {
        SignInStep::SignedIn(signed_in) => {
            finish(visit, signed_in.grant.account, signed_in.grant.session, Some(&signed_in.device)).await
        }
        SignInStep::EmailVerificationRequired => Err(LoginError::EmailNotVerified.into()),
        SignInStep::SecondFactorRequired(challenge) => ask_second_factor(visit, &challenge).await,
        SignInStep::EnrolmentRequired(challenge) => Ok(ask_enrolment(visit, &challenge)),
        SignInStep::PasswordRequired => Err(password_required()),
        SignInStep::AccountChanged => {
            Err(ProblemError::new(Code::InvalidCredentials, "The account has changed meanwhile. Sign in again."))
        }
    }
}

/// Does what [`finish_reply`] does, and redirects to the authorization request or to an account page.
/// `device` is the token that the browser keeps, so that its next sign-ins count as those of a known device.
///
/// # Errors
/// [`ProblemError`], if the former session could not be ended.
pub(super) async fn finish(
    visit: &Visit,
    account: AccountId,
    session: SessionId,
    device: Option<&DeviceToken>,
) -> Result<Response, ProblemError> {
    let reply = finish_reply(visit, account, session, device).await?;
    Ok(reply.redirect_to(&continuation_url(visit)))
}

/// Ends the browser's former session, which the new `session` replaces. Returns a reply that sets the cookie of the new session.
///
/// # Errors
/// [`ProblemError`], if the former session could not be ended.
pub(super) async fn finish_reply<'a>(
    visit: &'a Visit,
    account: AccountId,
    session: SessionId,
    device: Option<&DeviceToken>,
) -> Result<Reply<'a>, ProblemError> {
    if let Some(former) = &visit.browser.session {
        browser_session::renew(&visit.state, former, account, session, visit.client.ip).await?;
    }
    let mut reply = session_reply(visit, account, session);
    if let Some(device) = device {
        reply = reply.device(device);
    }
    // the sign-in is complete: its cookies are deleted
    for name in [cookies::CHALLENGE, cookies::TYPED, cookies::LOGIN_REQUEST] {
        if visit.cookie(name).is_some() {
            reply = reply.cookie(cookies::clear(name));
        }
    }
    Ok(reply)
}

/// A reply that sets the cookie of the browser's session.
pub(super) fn session_reply(visit: &Visit, account: AccountId, session: SessionId) -> Reply<'_> {
    let token = browser_session::cookie_value(&visit.state, account, session);
    visit.reply().cookie(cookie::set_browser(&token, visit.state.config.session.absolute_timeout))
}

/// `POST /account/sign-out`: ends the browser's session and the app sessions beneath it.
#[handler]
pub(super) async fn sign_out(visit: Visit, mut form: Form) -> Result<Response> {
    visit.check_csrf(&mut form)?;
    if let Some(session) = &visit.browser.session {
        browser_session::end(&visit.state, session, visit.client.ip).await.map_err(ProblemError::from)?;
    }
    Ok(visit.reply().cookie(cookie::clear_browser()).redirect_to_page("/signed-out"))
}
