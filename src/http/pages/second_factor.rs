//! `/account/sign-in/second-factor` and `/account/sign-in/enrol`: continue a sign-in that needs a second factor.
//!
//! The challenge is in a cookie that scripts can't read, with the names of the account's factors behind it.

use poem::{Response, Result, handler};

use super::{
    authorization::{Authorization, continuation},
    cookies,
    form::Form,
    respond::Reply,
    sign_in::{self, finish},
    visit::Visit,
};
use crate::{
    domain::{factor::FactorKind, secret::SecretText},
    http::problem::ProblemError,
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
const METHODS: [FactorKind; 3] = [FactorKind::Totp, FactorKind::Passkey, FactorKind::RecoveryCode];

/// A challenge, and the names of the factors that answer it.
struct Waiting {
    challenge: SecretText,
    methods: Vec<String>,
}

impl Waiting {
    fn of(visit: &Visit) -> Option<Self> {
        let mut parts = visit.cookie(cookies::CHALLENGE)?.split('.');
        let challenge = parts.next()?.into();
        let methods =
            parts.filter(|name| METHODS.iter().any(|kind| kind.as_str() == *name)).map(str::to_owned).collect();
        Some(Self { challenge, methods })
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

/// The cookie of a challenge.
pub(super) fn cookie(issued: &IssuedChallenge) -> String {
    let names: String = issued.methods.iter().map(|kind| format!(".{}", kind.as_str())).collect();
    let value = format!("{}{names}", issued.challenge.expose());
    cookies::set(cookies::CHALLENGE, &value, Some(std::time::Duration::from_secs(issued.expires_in)))
}

fn view(waiting: &Waiting, wished: Option<&str>) -> View {
    let method = waiting.methods.iter().find(|name| Some(name.as_str()) == wished).or_else(|| waiting.methods.first());
    let method = method.cloned().unwrap_or_else(|| FactorKind::Totp.as_str().to_owned());
    let others = waiting.methods.iter().filter(|other| **other != method).cloned().collect();
    View { method, others, can_remember: false }
}

async fn page<V: crate::pages::View>(visit: &Visit, reply: Reply<'_>, view: &V) -> Result<Response> {
    let authorization = Authorization::of(visit).await?;
    reply.target(authorization.as_ref().and_then(Authorization::target)).page(view)
}

#[handler]
pub(super) async fn show(visit: Visit) -> Result<Response> {
    let Some(waiting) = Waiting::of(&visit) else { return Ok(visit.reply().go("/sign-in?again=1")) };
    page(&visit, visit.reply(), &view(&waiting, visit.parameter("method"))).await
}

#[handler]
pub(super) async fn submit(visit: Visit, mut form: Form) -> Result<Response> {
    let Some(waiting) = Waiting::of(&visit) else { return expired(&visit).await };
    let method = form.text("method");
    let code = form.secret("code").unwrap_or_else(|| "".into());
    let factor = match method.as_str() {
        "recovery_code" => SecondFactor::RecoveryCode(code),
        _ => SecondFactor::Totp(code),
    };
    let reply = match visit.check(&mut form) {
        Err(problem) => visit.reply().error(&problem),
        Ok(()) => {
            let input = waiting.continuation(&visit);
            match second_factor::continue_with(&visit.state, &input, &factor).await {
                Ok(signed_in) => {
                    let grant = &signed_in.grant;
                    return Ok(finish(&visit, grant.account, grant.session, Some(&signed_in.device)).await?);
                }
                Err(SecondFactorError::WrongCode) => visit.reply().code(Some("code"), "wrong_code"),
                Err(SecondFactorError::Service(error)) => visit.reply().error(&error.into()),
                // the page signs in by passkey instead of answering with one
                Err(
                    SecondFactorError::InvalidChallenge
                    | SecondFactorError::CookieNotAccepted
                    | SecondFactorError::WrongPasskey
                    | SecondFactorError::PasskeysOff,
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
                    | SecondFactorError::PasskeysOff,
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
