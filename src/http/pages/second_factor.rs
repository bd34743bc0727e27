//! `/account/sign-in/second-factor`: continues a sign-in that needs a second factor.
//!
//! A cookie contains the challenge, the names of the factors that answer it, and `remember` if the device can be remembered. Dots
//! separate these parts.

use poem::{Response, Result, handler};
use serde_json::Value;

use super::{
    account::notice, authorization::Authorization, cookies, form::Form, passkeys, respond::Reply, sign_in, visit::Visit,
};
use crate::{
    domain::{factor::FactorKind, secret::SecretText},
    http::problem::{Code, FieldError, ProblemError},
    pages::views::SecondFactor as View,
    service::{
        passkeys::PasskeyError,
        sign_in::{
            IssuedChallenge,
            second_factor::{self, AcceptedTransports, Continuation, SecondFactor, SecondFactorError},
        },
    },
};

/// The factors that a page can ask for.
const METHODS: [FactorKind; 4] =
    [FactorKind::Totp, FactorKind::Passkey, FactorKind::EmailCode, FactorKind::RecoveryCode];

/// The mark in the cookie of a challenge whose device can be remembered.
const REMEMBER: &str = "remember";

/// A challenge, and the names of the factors that answer it.
pub(super) struct PendingChallenge {
    challenge: SecretText,
    methods: Vec<String>,
    can_remember: bool,
}

impl PendingChallenge {
    /// Reads the challenge from its cookie, if the visit has the cookie.
    pub(super) fn of(visit: &Visit) -> Option<Self> {
        Some(Self::parse(visit, visit.cookie(cookies::CHALLENGE)?))
    }

    /// Parses the value of the cookie. Ignores passkeys while they are off.
    fn parse(visit: &Visit, cookie: &str) -> Self {
        let mut parts = cookie.split('.');
        let challenge = parts.next().unwrap_or_default().into();
        let names: Vec<_> = parts.collect();
        let is_on = |kind: FactorKind| kind != FactorKind::Passkey || super::passkeys_are_on(&visit.state);
        let is_usable =
            |name: &&str| FactorKind::parse(name).is_some_and(|kind| METHODS.contains(&kind) && is_on(kind));
        let methods = names.iter().copied().filter(is_usable).map(str::to_owned).collect();
        Self { challenge, methods, can_remember: names.contains(&REMEMBER) }
    }

    /// Whether a factor of this kind answers the challenge.
    pub(super) fn has(&self, kind: FactorKind) -> bool {
        self.methods.iter().any(|name| name == kind.as_str())
    }

    /// The input of the use cases that continue the sign-in.
    pub(super) fn continuation(&self, visit: &Visit) -> Continuation {
        Continuation {
            challenge: self.challenge.clone(),
            origin: visit.session_origin(),
            device: visit.client.device_token.clone(),
            accepted: AcceptedTransports::Browser,
            replaces: None, // a browser's session has no refresh token
        }
    }
}

/// The value of the cookie of a challenge.
fn cookie_value(issued: &IssuedChallenge) -> String {
    let mut parts = vec![issued.challenge.expose()];
    parts.extend(issued.methods.iter().map(|kind| kind.as_str()));
    if issued.remember_for.is_some() {
        parts.push(REMEMBER);
    }
    parts.join(".")
}

/// The cookie of a challenge.
pub(super) fn cookie(issued: &IssuedChallenge) -> String {
    let value = cookie_value(issued);
    cookies::set(cookies::CHALLENGE, &value, std::time::Duration::from_secs(issued.expires_in))
}

/// The page that asks for the requested factor, or else for the first factor. `None` if the challenge does not work.
async fn view(
    visit: &Visit,
    pending: &PendingChallenge,
    requested: Option<&str>,
) -> Result<Option<View>, ProblemError> {
    let method =
        pending.methods.iter().find(|name| Some(name.as_str()) == requested).or_else(|| pending.methods.first());
    // if no factor is usable, the page asks for a code of an authenticator app, and `show` adds an error
    let method = method.cloned().unwrap_or_else(|| FactorKind::Totp.as_str().to_owned());
    let mut passkey_options = None;
    if method == FactorKind::Passkey.as_str() {
        match second_factor::passkey_options(&visit.state, &pending.continuation(visit)).await {
            Ok(options) => passkey_options = Some(Value::Object(options.public_key).to_string()),
            Err(SecondFactorError::Service(error)) => return Err(error.into()),
            Err(_) => return Ok(None),
        }
    }
    let others = pending.methods.iter().filter(|other| **other != method).cloned().collect();
    Ok(Some(View { method, others, passkey_options, can_remember: pending.can_remember }))
}

/// Continues a sign-in with the page for the second factor. If the first factor that the page asks for is a code by mail, sends the code.
///
/// # Errors
/// [`ProblemError`]
pub(super) async fn begin(visit: &Visit, issued: &IssuedChallenge) -> Result<Response, ProblemError> {
    let reply = visit.reply().cookie(cookie(issued));
    if issued.methods.first() != Some(&FactorKind::EmailCode) {
        return Ok(reply.redirect_to_page("/sign-in/second-factor"));
    }
    // parsed from the cookie's value, as in later requests
    let pending = PendingChallenge::parse(visit, &cookie_value(issued));
    let email_code = Some(FactorKind::EmailCode.as_str());
    let shown = match second_factor::send_email_code(&visit.state, &pending.continuation(visit), &visit.origin).await {
        Ok(_) => return Ok(reply.redirect_to_page("/sign-in/second-factor")),
        Err(SecondFactorError::Service(error)) => ask(visit, reply.error(&error.into()), &pending, email_code).await,
        // all other errors: the challenge does not work
        Err(_) => expired(visit).await,
    };
    // the callers need a `ProblemError`, which a page's error contains
    shown.map_err(|error| {
        let other = |error| ProblemError::internal_because(format!("a page can't be shown: {error}"));
        error.downcast().unwrap_or_else(other)
    })
}

/// `POST /account/sign-in/second-factor/send`: sends a new code by mail, which replaces the earlier code.
#[handler]
pub(super) async fn send(visit: Visit, mut form: Form) -> Result<Response> {
    let Some(pending) = PendingChallenge::of(&visit) else { return expired(&visit).await };
    let email_code = Some(FactorKind::EmailCode.as_str());
    if let Err(problem) = visit.check_csrf(&mut form) {
        return ask(&visit, visit.reply().error(&problem), &pending, email_code).await;
    }
    match second_factor::send_email_code(&visit.state, &pending.continuation(&visit), &visit.origin).await {
        Ok(_) => Ok(visit.reply().redirect_to_page("/sign-in/second-factor?method=email_code&done=mail_sent")),
        Err(SecondFactorError::Service(error)) => {
            ask(&visit, visit.reply().error(&error.into()), &pending, email_code).await
        }
        Err(_) => expired(&visit).await,
    }
}

/// Replies with the page that asks for a factor, or with the sign-in page if the challenge does not work.
async fn ask(visit: &Visit, reply: Reply<'_>, pending: &PendingChallenge, requested: Option<&str>) -> Result<Response> {
    match view(visit, pending, requested).await? {
        Some(view) => page(visit, reply, &view).await,
        None => expired(visit).await,
    }
}

/// Replies with a page whose form may lead back to the app, if the sign-in belongs to an authorization request.
pub(super) async fn page<V: crate::pages::View>(visit: &Visit, reply: Reply<'_>, view: &V) -> Result<Response> {
    let authorization = Authorization::of(visit).await?;
    reply.client_target(authorization.as_ref()).page(view)
}

/// `GET /account/sign-in/second-factor`: asks for the factor in the parameter `method`.
#[handler]
pub(super) async fn show(visit: Visit) -> Result<Response> {
    let Some(pending) = PendingChallenge::of(&visit) else {
        return Ok(visit.reply().redirect_to_page("/sign-in?again=1"));
    };
    let reply = visit.reply().notice(notice(&visit));
    let reply = if pending.methods.is_empty() { reply.form_error("no_method_left") } else { reply };
    ask(&visit, reply, &pending, visit.parameter("method")).await
}

/// `POST /account/sign-in/second-factor`: checks the factor and finishes the sign-in.
#[handler]
pub(super) async fn submit(visit: Visit, mut form: Form) -> Result<Response> {
    let Some(pending) = PendingChallenge::of(&visit) else { return expired(&visit).await };
    let (method, remember) = (form.text("method"), form.is_checked("remember"));
    // `None`: the challenge does not work any more.
    let outcome = async {
        visit.check_csrf(&mut form)?;
        let factor = factor(&mut form, &method)?;
        let input = pending.continuation(&visit);
        match second_factor::continue_with(&visit.state, &input, &factor, remember).await {
            Ok(signed_in) => {
                let grant = &signed_in.grant;
                sign_in::finish(&visit, grant.account, grant.session, Some(&signed_in.device)).await.map(Some)
            }
            Err(SecondFactorError::EnrolmentRequired(challenge)) => {
                Ok(Some(sign_in::ask_enrolment(&visit, &challenge)))
            }
            Err(
                SecondFactorError::InvalidChallenge
                | SecondFactorError::CookieNotAccepted
                | SecondFactorError::EmailCodeNotOffered,
            ) => Ok(None),
            Err(SecondFactorError::WrongCode) => Err(wrong_code()),
            Err(SecondFactorError::WrongPasskey) => Err(passkeys::to_problem(PasskeyError::Refused)),
            Err(SecondFactorError::PasskeysOff) => Err(passkeys::to_problem(PasskeyError::Off)),
            Err(SecondFactorError::Service(error)) => Err(error.into()),
        }
    };
    let problem = match outcome.await {
        Ok(Some(response)) => return Ok(response),
        Ok(None) => return expired(&visit).await,
        Err(problem) => problem,
    };
    ask(&visit, visit.reply().error(&problem), &pending, Some(&method)).await
}

/// The factor that a form presents.
fn factor(form: &mut Form, method: &str) -> Result<SecondFactor, ProblemError> {
    if method == FactorKind::Passkey.as_str() {
        return Ok(SecondFactor::Passkey(passkeys::credential(form)?));
    }
    let code = form.secret("code").unwrap_or_else(|| "".into());
    Ok(match FactorKind::parse(method) {
        Some(FactorKind::RecoveryCode) => SecondFactor::RecoveryCode(code),
        Some(FactorKind::EmailCode) => SecondFactor::EmailCode(code),
        // or an unknown method, which none of our pages sends: the code is refused as wrong
        _ => SecondFactor::Totp(code),
    })
}

/// The problem of a wrong code.
pub(super) fn wrong_code() -> ProblemError {
    let error = FieldError {
        field: "code".to_owned(),
        code: "wrong_code".to_owned(),
        detail: "The code is wrong or was used.".to_owned(),
    };
    ProblemError::fields(Code::InvalidCode, vec![error])
}

/// The sign-in page after a challenge that is missing or no longer works.
pub(super) async fn expired(visit: &Visit) -> Result<Response> {
    let authorization = Authorization::of(visit).await?;
    let reply = visit.reply().cookie(cookies::clear(cookies::CHALLENGE)).form_error("invalid_challenge");
    sign_in::page(
        reply,
        authorization.as_ref(),
        &sign_in::view(visit, authorization.as_ref(), visit.typed_identifier()),
    )
}
