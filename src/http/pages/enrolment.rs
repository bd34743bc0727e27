//! `/account/sign-in/enrol`: sets up the second factor that a sign-in waits for, and completes the sign-in.

use poem::{Response, Result, handler};
use serde_json::Value;

use super::{
    authorization::continuation_url,
    form::Form,
    passkeys, problem_of,
    respond::Reply,
    second_factor::{PendingChallenge, expired, page, wrong_code},
    sign_in,
    visit::Visit,
};
use crate::{
    domain::factor::FactorKind,
    http::{api::passkey_objects::parse_name, problem::ProblemError},
    pages::{
        qr_code,
        views::{Enrol, RecoveryCodes, Totp},
    },
    service::{
        passkeys::PasskeyError,
        sign_in::{
            enrolment::{self, EnrolPasskeyError, Enrolled},
            second_factor::SecondFactorError,
        },
    },
};

/// `GET /account/sign-in/enrol`: the choice of a factor; with `method`, the page that sets it up.
#[handler]
pub(super) async fn show(visit: Visit) -> Result<Response> {
    let Some(pending) = PendingChallenge::of(&visit) else {
        // `again`: the sign-in page appears even to a browser that is signed in.
        return Ok(visit.reply().redirect_to_page("/sign-in?again=1"));
    };
    if !pending.has(FactorKind::Passkey) {
        return show_totp(&visit, &pending).await;
    }
    match visit.parameter("method") {
        Some("totp") => show_totp(&visit, &pending).await,
        Some("passkey") => {
            let name = String::new();
            show_passkey(&visit, visit.reply(), &pending, name).await
        }
        _ => page(&visit, visit.reply(), &Enrol::default()).await,
    }
}

/// Starts to set up an authenticator app.
async fn show_totp(visit: &Visit, pending: &PendingChallenge) -> Result<Response> {
    let label = None; // the default name of the app
    match enrolment::start_totp(&visit.state, &pending.continuation(visit), label).await {
        Ok(enrolment) => page(visit, visit.reply(), &required_totp(enrolment.uri.expose(), pending)).await,
        Err(error) => refuse(visit, error).await,
    }
}

/// Begins to register a passkey: the page has a form that creates it. `name` is what the user has typed so far.
async fn show_passkey(visit: &Visit, reply: Reply<'_>, pending: &PendingChallenge, name: String) -> Result<Response> {
    let options = match enrolment::passkey_options(&visit.state, &pending.continuation(visit)).await {
        Ok(options) => options,
        Err(EnrolPasskeyError::SignIn(error)) => return refuse(visit, error).await,
        Err(EnrolPasskeyError::Passkey(error)) => return Err(problem_of(error).into()),
        Err(EnrolPasskeyError::Service(error)) => return Err(ProblemError::from(error).into()),
    };
    let passkey_options = Some(Value::Object(options.public_key).to_string());
    page(visit, reply, &Enrol { passkey_options, name }).await
}

/// `POST /account/sign-in/enrol`: registers the passkey, or confirms the authenticator app.
#[handler]
pub(super) async fn submit(visit: Visit, mut form: Form) -> Result<Response> {
    let Some(pending) = PendingChallenge::of(&visit) else { return expired(&visit).await };
    match form.text("method").as_str() {
        "passkey" => register_passkey(&visit, &pending, form).await,
        _ => confirm_totp(&visit, &pending, form).await,
    }
}

async fn confirm_totp(visit: &Visit, pending: &PendingChallenge, mut form: Form) -> Result<Response> {
    // The hidden field `state` keeps the URI of the secret, so that the page can be shown again.
    let uri = form.text("state");
    let code = form.secret("code").unwrap_or_else(|| "".into());
    // The outer error is a problem of the form, the inner one a refusal by the service.
    let confirmed = async {
        visit.check_csrf(&mut form)?;
        Ok(enrolment::confirm_totp(&visit.state, &pending.continuation(visit), &code, &visit.origin).await)
    };
    let problem = match confirmed.await {
        Ok(Ok(enrolled)) => return show_recovery_codes(visit, enrolled).await,
        Ok(Err(SecondFactorError::WrongCode)) => wrong_code(),
        Ok(Err(SecondFactorError::Service(error))) => error.into(),
        Ok(Err(error)) => return refuse(visit, error).await,
        Err(problem) => problem,
    };
    page(visit, visit.reply().error(&problem), &required_totp(&uri, pending)).await
}

async fn register_passkey(visit: &Visit, pending: &PendingChallenge, mut form: Form) -> Result<Response> {
    let typed = form.text("name");
    // As in `confirm_totp`, the outer error is a problem of the form.
    let registered = async {
        visit.check_csrf(&mut form)?;
        let name = parse_name(&typed)?;
        let credential = passkeys::credential(&mut form)?;
        let input = pending.continuation(visit);
        Ok(enrolment::register_passkey(&visit.state, &input, credential, name, &visit.origin).await)
    };
    let problem = match registered.await {
        Ok(Ok(enrolled)) => return show_recovery_codes(visit, enrolled).await,
        Ok(Err(EnrolPasskeyError::SignIn(error))) => return refuse(visit, error).await,
        Ok(Err(EnrolPasskeyError::Passkey(error))) => problem_of(error),
        Ok(Err(EnrolPasskeyError::Service(error))) => error.into(),
        Err(problem) => problem,
    };
    show_passkey(visit, visit.reply().error(&problem), pending, typed).await
}

/// The page with the recovery codes. Its response sets the cookie of the session that has started.
async fn show_recovery_codes(visit: &Visit, enrolled: Enrolled) -> Result<Response> {
    let Enrolled { signed_in, recovery_codes } = enrolled;
    let grant = &signed_in.grant;
    let reply = sign_in::finish_reply(visit, grant.account, grant.session, Some(&signed_in.device)).await?;
    let codes = recovery_codes.iter().map(|code| code.expose().to_owned()).collect();
    page(visit, reply, &RecoveryCodes { codes, next: continuation_url(visit) }).await
}

/// The response to an enrolment that can't continue.
async fn refuse(visit: &Visit, error: SecondFactorError) -> Result<Response> {
    match error {
        SecondFactorError::Service(error) => Err(ProblemError::from(error).into()),
        SecondFactorError::PasskeysOff => Err(passkeys::to_problem(PasskeyError::Off).into()),
        SecondFactorError::InvalidChallenge
        | SecondFactorError::CookieNotAccepted
        | SecondFactorError::WrongCode
        | SecondFactorError::WrongPasskey
        | SecondFactorError::EmailCodeNotOffered
        | SecondFactorError::EnrolmentRequired(_) => expired(visit).await,
    }
}

/// The page that sets up the authenticator app that the sign-in requires.
fn required_totp(uri: &str, pending: &PendingChallenge) -> Totp {
    Totp { is_enrolment: true, has_others: pending.has(FactorKind::Passkey), ..totp_view(uri) }
}

/// The page that sets an authenticator app up, from the `otpauth:` URI of its secret. A URI of another scheme, which only a manipulated
/// form contains, is left out.
pub(super) fn totp_view(uri: &str) -> Totp {
    let mut secret = String::new();
    let mut checked_uri = String::new();
    if let Some(parsed) = url::Url::parse(uri).ok().filter(|parsed| parsed.scheme() == "otpauth") {
        checked_uri = uri.to_owned();
        if let Some((_, value)) = parsed.query_pairs().find(|(name, _)| name == "secret") {
            secret = value.into_owned();
        }
    }
    Totp {
        secret: grouped(&secret),
        qr_code: qr_code(&checked_uri).unwrap_or_default(),
        state: checked_uri.clone(),
        uri: checked_uri,
        is_enrolment: false,
        has_others: false,
    }
}

/// The letters and digits of the text, in groups of four.
fn grouped(text: &str) -> String {
    let characters: Vec<char> = text.chars().filter(char::is_ascii_alphanumeric).collect();
    characters.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}
