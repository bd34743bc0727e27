//! Authenticator apps and recovery codes of the signed-in account.

use poem::{Response, Result, handler};
use uuid::Uuid;

use super::{
    account::{Owner, require_owner, step_up},
    enrolment::totp_view,
    form::Form,
    security,
    sign_in::session_reply,
    visit::Visit,
};
use crate::{
    domain::{ids::FactorId, secret::SecretText, session::AcceptedTransport},
    http::problem::{Code, ProblemError},
    pages::views::RecoveryCodes,
    service::{
        authenticate::AuthenticateError,
        factors::{
            change::{Caller, ChangeFactorsError},
            email_code, recovery_codes, totp,
        },
        token_issuer::Tokens,
    },
};

/// For a change that issues no recovery codes.
const NO_CODES: &[SecretText] = &[];

/// The signed-in owner as the caller of a change of factors.
fn caller<'a>(visit: &'a Visit, owner: &'a Owner) -> Caller<'a> {
    // `Any`: `check_csrf` refuses other sites
    Caller { claims: &owner.caller, origin: &visit.origin, accepted: AcceptedTransport::Any }
}

/// The problem that reports a change that was not made.
fn to_problem(error: ChangeFactorsError) -> ProblemError {
    let code = match error {
        ChangeFactorsError::NoAccount | ChangeFactorsError::SessionEnded => {
            return AuthenticateError::InvalidToken.into();
        }
        ChangeFactorsError::Service(error) => return error.into(),
        ChangeFactorsError::CookieNotAccepted => Code::CrossSiteRequest,
        ChangeFactorsError::UnknownFactor => Code::UnknownFactor,
        ChangeFactorsError::TooMany => Code::TooManyFactors,
        ChangeFactorsError::WrongCode => Code::InvalidCode,
        ChangeFactorsError::FactorRequired => Code::FactorRequired,
        ChangeFactorsError::NoFactor => Code::NoSecondFactor,
        ChangeFactorsError::EmailCodeOff => Code::LoginMethodOff,
        ChangeFactorsError::EmailCodeOn => Code::TooManyFactors, // at most one of this kind
        ChangeFactorsError::EmailNotVerified => Code::EmailNotVerified,
        ChangeFactorsError::NoPassword => Code::PasswordRequired,
    };
    ProblemError::new(code, error.to_string())
}

/// The response to a refused change: a redirect to the step-up if the change needs one, otherwise the list of factors with the problem.
async fn failure_response(visit: &Visit, owner: &Owner, problem: ProblemError) -> Result<Response> {
    match step_up(visit, problem, "/security") {
        Ok(response) => Ok(response),
        Err(problem) => visit.reply().error(&problem).page(&security::view(visit, owner).await?),
    }
}

/// The response to a change that was made: a page that shows new recovery codes, only once, or a redirect to the list of factors if there
/// are none. `tokens` are of the session that has replaced the browser's. `notice` selects the text above the list.
pub(super) fn success_response(visit: &Visit, tokens: &Tokens, codes: &[SecretText], notice: &str) -> Result<Response> {
    let reply = session_reply(visit, tokens.account, tokens.session);
    if codes.is_empty() {
        return Ok(reply.redirect_to_page(&format!("/security?done={notice}")));
    }
    // unlike `redirect_to_page`, a link in a page needs the whole path
    let next = format!("{}{}/security?done={notice}", super::respond::issuer_path(visit), super::PREFIX);
    reply.page(&RecoveryCodes { codes: codes.iter().map(|code| code.expose().to_owned()).collect(), next })
}

/// `POST /account/security/totp`: starts to set up an authenticator app.
#[handler]
pub(super) async fn start_totp(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/security");
    let started = async {
        visit.check_csrf(&mut form)?;
        let no_label = None;
        totp::start(&visit.state, &caller(&visit, &owner), no_label).await.map_err(to_problem)
    };
    match started.await {
        Ok(enrolment) => visit.reply().page(&totp_view(enrolment.uri.expose())),
        Err(problem) => failure_response(&visit, &owner, problem).await,
    }
}

/// `POST /account/security/totp/confirm`: adds the authenticator app, once the user has entered one of its codes.
#[handler]
pub(super) async fn confirm_totp(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/security");
    // the field `state` has the app's `otpauth:` URI: after a wrong code, the page shows it again
    let uri = form.text("state");
    // a missing code is refused like a wrong one
    let code = form.secret("code").unwrap_or_else(|| "".into());
    let confirmed = async {
        visit.check_csrf(&mut form)?;
        let device = visit.client.device_token.as_ref();
        totp::confirm(&visit.state, &caller(&visit, &owner), &code, device).await.map_err(to_problem)
    };
    match confirmed.await {
        Ok(confirmed) => success_response(&visit, &confirmed.tokens, &confirmed.recovery_codes, "factor_added"),
        Err(problem) if problem.code == Code::InvalidCode => {
            visit.reply().field_error("code", "wrong_code").page(&totp_view(&uri))
        }
        Err(problem) => match step_up(&visit, problem, "/security") {
            Ok(response) => Ok(response),
            Err(problem) => visit.reply().error(&problem).page(&totp_view(&uri)),
        },
    }
}

/// `POST /account/security/totp/remove`: removes an authenticator app.
#[handler]
pub(super) async fn remove_totp(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/security");
    let removed = async {
        visit.check_csrf(&mut form)?;
        let id = Uuid::try_parse(&form.text("id")).map_err(|_| to_problem(ChangeFactorsError::UnknownFactor))?;
        totp::remove(&visit.state, &caller(&visit, &owner), FactorId(id)).await.map_err(to_problem)
    };
    match removed.await {
        Ok(tokens) => success_response(&visit, &tokens, NO_CODES, "factor_removed"),
        Err(problem) => failure_response(&visit, &owner, problem).await,
    }
}

/// `POST /account/security/email-code`: switches codes by mail on.
#[handler]
pub(super) async fn enable_email_code(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/security");
    let enabled = async {
        visit.check_csrf(&mut form)?;
        email_code::enable(&visit.state, &caller(&visit, &owner)).await.map_err(to_problem)
    };
    match enabled.await {
        Ok(enabled) => success_response(&visit, &enabled.tokens, &enabled.recovery_codes, "factor_added"),
        Err(problem) => failure_response(&visit, &owner, problem).await,
    }
}

/// `POST /account/security/email-code/remove`: switches codes by mail off.
#[handler]
pub(super) async fn disable_email_code(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/security");
    let disabled = async {
        visit.check_csrf(&mut form)?;
        email_code::disable(&visit.state, &caller(&visit, &owner)).await.map_err(to_problem)
    };
    match disabled.await {
        Ok(tokens) => success_response(&visit, &tokens, NO_CODES, "factor_removed"),
        Err(problem) => failure_response(&visit, &owner, problem).await,
    }
}

/// `POST /account/security/recovery-codes`: replaces the recovery codes.
#[handler]
pub(super) async fn renew_recovery_codes(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/security");
    let renewed = async {
        visit.check_csrf(&mut form)?;
        recovery_codes::renew(&visit.state, &caller(&visit, &owner)).await.map_err(to_problem)
    };
    match renewed.await {
        Ok(renewed) => success_response(&visit, &renewed.tokens, &renewed.recovery_codes, "saved"),
        Err(problem) => failure_response(&visit, &owner, problem).await,
    }
}
