//! `/account/sign-in/second-factor` and `/account/sign-in/enrol`: continue a sign-in that needs a second factor.
//!
//! The challenge is in a cookie that scripts can't read, with the names of the account's factors behind it, and `remember` if the
//! device can be remembered.

use poem::{Response, Result, handler};

use super::{
    account::notice,
    authorization::{Authorization, continuation},
    cookies,
    form::Form,
    respond::Reply,
    sign_in::{self, finish},
    visit::Visit,
};
use crate::{
    domain::{factor::FactorKind, secret::SecretText},
    http::problem::{Code, ProblemError},
    pages::{
        qr_code,
        views::{RecoveryCodes, SecondFactor as View, Totp},
    },
    service::sign_in::{
        IssuedChallenge, enrolment,
        second_factor::{self, AcceptedTransports, Continuation, SecondFactor, SecondFactorError},
    },
};

/// The factors that a page can ask for. A passkey needs no challenge: it signs in by itself.
const METHODS: [FactorKind; 4] =
    [FactorKind::Totp, FactorKind::Passkey, FactorKind::EmailCode, FactorKind::RecoveryCode];

/// The mark in the cookie of a challenge whose device can be remembered.
const REMEMBER: &str = "remember";

/// A challenge, and the names of the factors that answer it.
struct Waiting {
    challenge: SecretText,
    methods: Vec<String>,
    can_remember: bool,
}

impl Waiting {
    fn of(visit: &Visit) -> Option<Self> {
        Self::parse(visit.cookie(cookies::CHALLENGE)?)
    }

    fn parse(cookie: &str) -> Option<Self> {
        let mut parts = cookie.split('.');
        let challenge = parts.next()?.into();
        let parts: Vec<_> = parts.collect();
        let is_known = |name: &&str| METHODS.iter().any(|kind| kind.as_str() == *name);
        let methods = parts.iter().copied().filter(is_known).map(str::to_owned).collect();
        Some(Self { challenge, methods, can_remember: parts.contains(&REMEMBER) })
    }

    fn continuation(&self, visit: &Visit) -> Continuation {
        Continuation {
            challenge: self.challenge.clone(),
            origin: visit.session_origin(),
            device: visit.client.device_token.clone(),
            accepted: AcceptedTransports::Browser,
            replaces: None,
        }
    }
}

/// The value of the cookie of a challenge.
fn cookie_value(issued: &IssuedChallenge) -> String {
    let names = issued.methods.iter().map(|kind| kind.as_str()).chain(issued.remember_for.map(|_| REMEMBER));
    let names: String = names.map(|name| format!(".{name}")).collect();
    format!("{}{names}", issued.challenge.expose())
}

/// The cookie of a challenge.
pub(super) fn cookie(issued: &IssuedChallenge) -> String {
    let value = cookie_value(issued);
    cookies::set(cookies::CHALLENGE, &value, Some(std::time::Duration::from_secs(issued.expires_in)))
}

fn view(waiting: &Waiting, wished: Option<&str>) -> View {
    let method = waiting.methods.iter().find(|name| Some(name.as_str()) == wished).or_else(|| waiting.methods.first());
    let method = method.cloned().unwrap_or_else(|| FactorKind::Totp.as_str().to_owned());
    let others = waiting.methods.iter().filter(|other| **other != method).cloned().collect();
    View { method, others, can_remember: waiting.can_remember }
}

/// Continues a sign-in with the page of its second factor. A code by mail that the page asks for first is sent at once.
///
/// # Errors
/// [`ProblemError`]
pub(super) async fn begin(visit: &Visit, issued: &IssuedChallenge) -> Result<Response, ProblemError> {
    let reply = visit.reply().cookie(cookie(issued));
    if issued.methods.first() != Some(&FactorKind::EmailCode) {
        return Ok(reply.go("/sign-in/second-factor"));
    }
    let Some(waiting) = Waiting::parse(&cookie_value(issued)) else { return Ok(reply.go("/sign-in?again=1")) };
    let shown = match second_factor::send_email_code(&visit.state, &waiting.continuation(visit), &visit.origin).await {
        Ok(_) => return Ok(reply.go("/sign-in/second-factor")),
        Err(SecondFactorError::Service(error)) => page(visit, reply.error(&error.into()), &view(&waiting, None)).await,
        Err(_) => expired(visit).await,
    };
    shown.map_err(|error| {
        let unknown = |_| ProblemError::new(Code::InternalError, "A page can't be shown.");
        error.downcast().unwrap_or_else(unknown)
    })
}

/// `POST /account/sign-in/second-factor/send`: sends a code by mail, in place of the last one.
#[handler]
pub(super) async fn send(visit: Visit, mut form: Form) -> Result<Response> {
    let Some(waiting) = Waiting::of(&visit) else { return expired(&visit).await };
    let view = view(&waiting, Some(FactorKind::EmailCode.as_str()));
    if let Err(problem) = visit.check(&mut form) {
        return page(&visit, visit.reply().error(&problem), &view).await;
    }
    match second_factor::send_email_code(&visit.state, &waiting.continuation(&visit), &visit.origin).await {
        Ok(_) => Ok(visit.reply().go("/sign-in/second-factor?method=email_code&done=mail_sent")),
        Err(SecondFactorError::Service(error)) => page(&visit, visit.reply().error(&error.into()), &view).await,
        Err(_) => expired(&visit).await,
    }
}

async fn page<V: crate::pages::View>(visit: &Visit, reply: Reply<'_>, view: &V) -> Result<Response> {
    let authorization = Authorization::of(visit).await?;
    reply.target(authorization.as_ref().and_then(Authorization::target)).page(view)
}

#[handler]
pub(super) async fn show(visit: Visit) -> Result<Response> {
    let Some(waiting) = Waiting::of(&visit) else { return Ok(visit.reply().go("/sign-in?again=1")) };
    let reply = visit.reply().notice(notice(&visit));
    let reply = if waiting.methods.is_empty() { reply.code(None, "no_method_left") } else { reply };
    page(&visit, reply, &view(&waiting, visit.parameter("method"))).await
}

#[handler]
pub(super) async fn submit(visit: Visit, mut form: Form) -> Result<Response> {
    let Some(waiting) = Waiting::of(&visit) else { return expired(&visit).await };
    let (method, remember) = (form.text("method"), form.is_checked("remember"));
    let code = form.secret("code").unwrap_or_else(|| "".into());
    let factor = match method.as_str() {
        "recovery_code" => SecondFactor::RecoveryCode(code),
        "email_code" => SecondFactor::EmailCode(code),
        _ => SecondFactor::Totp(code),
    };
    let reply = match visit.check(&mut form) {
        Err(problem) => visit.reply().error(&problem),
        Ok(()) => {
            let input = waiting.continuation(&visit);
            match second_factor::continue_with(&visit.state, &input, &factor, remember).await {
                Ok(signed_in) => {
                    let grant = &signed_in.grant;
                    return Ok(finish(&visit, grant.account, grant.session, Some(&signed_in.device)).await?);
                }
                Err(SecondFactorError::WrongCode) => visit.reply().code(Some("code"), "wrong_code"),
                Err(SecondFactorError::Service(error)) => visit.reply().error(&error.into()),
                Err(SecondFactorError::EnrolmentRequired(challenge)) => {
                    return Ok(sign_in::ask_enrolment(&visit, &challenge));
                }
                // the page signs in by passkey instead of answering with one
                Err(
                    SecondFactorError::InvalidChallenge
                    | SecondFactorError::CookieNotAccepted
                    | SecondFactorError::WrongPasskey
                    | SecondFactorError::PasskeysOff
                    | SecondFactorError::EmailCodeNotOffered,
                ) => return expired(&visit).await,
            }
        }
    };
    page(&visit, reply, &view(&waiting, Some(&method))).await
}

/// The sign-in page, after a challenge that works no longer.
async fn expired(visit: &Visit) -> Result<Response> {
    let authorization = Authorization::of(visit).await?;
    let reply = visit.reply().cookie(cookies::clear(cookies::CHALLENGE)).code(None, "invalid_challenge");
    sign_in::page(reply, authorization.as_ref(), &sign_in::view(visit, authorization.as_ref(), visit.typed()))
}

/// `GET /account/sign-in/enrol`: starts to set up the authenticator app that the sign-in waits for.
#[handler]
pub(super) async fn show_enrolment(visit: Visit) -> Result<Response> {
    let Some(waiting) = Waiting::of(&visit) else { return Ok(visit.reply().go("/sign-in?again=1")) };
    match enrolment::start_totp(&visit.state, &waiting.continuation(&visit), None).await {
        Ok(enrolment) => page(&visit, visit.reply(), &totp_view(enrolment.uri.expose(), true)).await,
        Err(SecondFactorError::Service(error)) => Err(ProblemError::from(error).into()),
        Err(_) => expired(&visit).await,
    }
}

/// `POST /account/sign-in/enrol`: confirms the authenticator app, and completes the sign-in.
#[handler]
pub(super) async fn enrol(visit: Visit, mut form: Form) -> Result<Response> {
    let Some(waiting) = Waiting::of(&visit) else { return expired(&visit).await };
    let (uri, code) = (form.text("state"), form.secret("code").unwrap_or_else(|| "".into()));
    let reply = match visit.check(&mut form) {
        Err(problem) => visit.reply().error(&problem),
        Ok(()) => {
            let input = waiting.continuation(&visit);
            match enrolment::confirm_totp(&visit.state, &input, &code, &visit.origin).await {
                Ok((signed_in, codes)) => {
                    let grant = &signed_in.grant;
                    let codes = codes.iter().map(|code| code.expose().to_owned()).collect();
                    let view = RecoveryCodes { codes, next: continuation(&visit) };
                    let reply = sign_in::finish_reply(&visit, grant.account, grant.session, Some(&signed_in.device));
                    return page(&visit, reply.await?, &view).await;
                }
                Err(SecondFactorError::WrongCode) => visit.reply().code(Some("code"), "wrong_code"),
                Err(SecondFactorError::Service(error)) => visit.reply().error(&error.into()),
                Err(
                    SecondFactorError::InvalidChallenge
                    | SecondFactorError::CookieNotAccepted
                    | SecondFactorError::WrongPasskey
                    | SecondFactorError::PasskeysOff
                    | SecondFactorError::EmailCodeNotOffered
                    | SecondFactorError::EnrolmentRequired(_),
                ) => return expired(&visit).await,
            }
        }
    };
    page(&visit, reply, &totp_view(&uri, true)).await
}

/// The page that sets an authenticator app up, from the `otpauth:` URI of its secret.
pub(super) fn totp_view(uri: &str, is_enrolment: bool) -> Totp {
    let parsed = url::Url::parse(uri).ok().filter(|url| url.scheme() == "otpauth");
    let secret = parsed.as_ref().and_then(|url| url.query_pairs().find(|(name, _)| name == "secret"));
    let secret = secret.map(|(_, value)| value.into_owned()).unwrap_or_default();
    let uri = parsed.map_or_else(String::new, |_| uri.to_owned());
    Totp { secret: grouped(&secret), qr_code: qr_code(&uri).unwrap_or_default(), state: uri.clone(), uri, is_enrolment }
}

/// The text in groups of four characters.
fn grouped(text: &str) -> String {
    let characters: Vec<char> = text.chars().filter(char::is_ascii_alphanumeric).collect();
    characters.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}
