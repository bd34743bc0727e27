//! `/account/reauthenticate`: the user of the browser's session authenticates again (step-up), for a sensitive change or for an app
//! that requires it (`max_age`, `acr_values`, `prompt=login`). The session continues, with a new `auth_time` and `acr`.

use poem::{Response, Result, handler};

use super::{
    account::{self, Owner},
    authorization::{Authorization, continuation_url},
    form::Form,
    passkeys,
    respond::Reply,
    visit::Visit,
};
use crate::{
    domain::factor::FactorKind,
    http::problem::{Code, ProblemError},
    pages::views::Reauthenticate as View,
    service::{
        authorize::AuthorizeStep,
        reauthenticate::{self, Reauthenticate},
        sign_in::second_factor::SecondFactor,
    },
};

const PASSWORD: &str = "password";

/// The methods with which the owner can authenticate again, the best one first. An account with a factor that reaches `aal2` uses its
/// factors, any other account its password.
fn methods(visit: &Visit, owner: &Owner) -> Vec<&'static str> {
    let account = &owner.account;
    if !account.factors.has_aal2_factor() {
        return if account.password_hash.is_some() { vec![PASSWORD] } else { Vec::new() };
    }
    let is_usable = |kind: &FactorKind| match kind {
        FactorKind::Totp | FactorKind::RecoveryCode => true,
        FactorKind::Passkey => super::passkeys_are_on(&visit.state),
        FactorKind::EmailCode => false, // the step-up accepts no codes by mail
    };
    account.factors.kinds().filter(is_usable).map(FactorKind::as_str).collect()
}

/// The page for the requested method, or else for the best one. An account without any method is sent to the sign-in page (`again`:
/// although the browser is signed in).
async fn page(
    visit: &Visit,
    owner: &Owner,
    authorization: Option<&Authorization>,
    requested: Option<&str>,
    reply: Reply<'_>,
) -> Result<Response> {
    let mut methods = methods(visit, owner);
    if methods.is_empty() {
        return Ok(visit.reply().redirect_to_page("/sign-in?again=1"));
    }
    // an unknown method, or none, is replaced by the best one
    let chosen = methods.iter().position(|method| Some(*method) == requested).unwrap_or(0);
    let method = methods.remove(chosen);
    let passkey_options = if method == FactorKind::Passkey.as_str() {
        let options = reauthenticate::passkey_options(&visit.state, &owner.caller, visit.client.ip).await;
        let options = options.map_err(passkeys::to_problem)?;
        Some(serde_json::Value::Object(options.public_key).to_string())
    } else {
        None
    };
    let view = View {
        email: owner.account.display_identifier(),
        method: method.to_owned(),
        others: methods.into_iter().map(str::to_owned).collect(),
        next: continuation_url(visit),
        passkey_options,
        client: authorization.map(Authorization::client),
    };
    reply.client_target(authorization).page(&view)
}

/// `GET /account/reauthenticate`
#[handler]
pub(super) async fn show(mut visit: Visit) -> Result<Response> {
    let Some(owner) = account::owner(&mut visit).await? else { return Ok(visit.reply().redirect_to_page("/sign-in")) };
    let authorization = Authorization::of(&visit).await?;
    // the user has taken the step already, or the app's request needs another step first
    if let Some(Authorization { pending, .. }) = &authorization
        && !matches!(pending.step, Some(AuthorizeStep::Reauthenticate | AuthorizeStep::StepUp(_)))
    {
        return Ok(visit.reply().redirect_to(&continuation_url(&visit)));
    }
    page(&visit, &owner, authorization.as_ref(), visit.parameter("method"), visit.reply()).await
}

/// `POST /account/reauthenticate`
#[handler]
pub(super) async fn submit(mut visit: Visit, mut form: Form) -> Result<Response> {
    let Some(owner) = account::owner(&mut visit).await? else { return Ok(visit.reply().redirect_to_page("/sign-in")) };
    let method = form.text("method");
    let attempt = async {
        visit.check_csrf(&mut form)?;
        let proof = read_proof(&visit, &mut form, &method)?;
        let outcome = reauthenticate::reauthenticate_session(&visit.state, &owner.caller, proof).await;
        outcome.map_err(ProblemError::from)
    };
    let problem = match attempt.await {
        Ok(_) => return Ok(visit.reply().redirect_to(&continuation_url(&visit))),
        Err(problem) => problem,
    };
    let reply = match problem.code {
        Code::InvalidCode => visit.reply().field_error("code", "wrong_code"),
        _ => visit.reply().error(&problem),
    };
    let authorization = Authorization::of(&visit).await?;
    page(&visit, &owner, authorization.as_ref(), Some(&method), reply).await
}

/// Reads the password, code or passkey from the form.
fn read_proof(visit: &Visit, form: &mut Form, method: &str) -> Result<Reauthenticate, ProblemError> {
    // a missing code or password is refused like a wrong one
    let mut code = || form.secret("code").unwrap_or_else(|| "".into());
    let factor = match FactorKind::parse(method) {
        Some(FactorKind::Totp) => Some(SecondFactor::Totp(code())),
        Some(FactorKind::RecoveryCode) => Some(SecondFactor::RecoveryCode(code())),
        _ => None,
    };
    let is_passkey = method == FactorKind::Passkey.as_str();
    let credential = if is_passkey { Some(passkeys::credential(form)?) } else { None };
    // any other method counts as the password
    let is_password = factor.is_none() && credential.is_none();
    Ok(Reauthenticate {
        password: is_password.then(|| form.secret(PASSWORD).unwrap_or_else(|| "".into())),
        factor,
        credential,
        origin: visit.session_origin(),
        device: visit.client.device_token.clone(),
    })
}
