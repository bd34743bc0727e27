//! Passkeys on pages: sign-in with a passkey, and the account's passkeys. The script of the pages calls the authenticator, and submits the
//! authenticator's response in the form field `credential`.

use poem::{Response, Result, handler};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    account::{Owner, require_owner, step_up},
    authorization::Authorization,
    factors::success_response,
    form::Form,
    problem_of, security,
    sign_in::{self, session_reply},
    visit::Visit,
};
use crate::{
    domain::{
        ids::PasskeyId,
        session::{AcceptedTransport, Transport},
    },
    http::{
        api::{passkey_objects::parse_name, passkeys::passkey_change_problem},
        problem::{Code, ProblemError},
    },
    service::{
        factors::change::Caller,
        passkeys::{
            PasskeyError, manage,
            register::{self, Registered},
            sign_in::{self as passkey_sign_in, PasskeySignIn},
        },
    },
};

/// Takes the response of the authenticator from a form.
///
/// # Errors
/// [`Code::InvalidPasskey`]
pub(super) fn credential(form: &mut Form) -> Result<Map<String, Value>, ProblemError> {
    let text = form.secret("credential");
    let parsed = text.as_ref().and_then(|text| serde_json::from_str(text.expose()).ok());
    parsed.ok_or_else(|| ProblemError::new(Code::InvalidPasskey, "The form has no response of an authenticator."))
}

/// `POST /account/sign-in/passkey`
#[handler]
pub(super) async fn submit_sign_in(visit: Visit, mut form: Form) -> Result<Response> {
    // The block collects the problems of its steps for the page. The blocks of the other handlers do the same.
    let outcome = async {
        visit.check_csrf(&mut form)?;
        let input = PasskeySignIn {
            credential: credential(&mut form)?,
            transport: Transport::Browser,
            origin: visit.session_origin(),
            // A browser's session has no refresh token. `sign_in::proceed` replaces the session.
            replaces: None,
            device: visit.client.device_token.clone(),
        };
        let step = passkey_sign_in::sign_in(&visit.state, &input).await.map_err(to_problem)?;
        sign_in::proceed(&visit, step).await
    };
    match outcome.await {
        Ok(response) => Ok(response),
        Err(problem) => {
            let authorization = Authorization::of(&visit).await?;
            let no_identifier = String::new();
            let view = sign_in::view(&visit, authorization.as_ref(), no_identifier);
            sign_in::page(visit.reply().error(&problem), authorization.as_ref(), &view)
        }
    }
}

/// The problem that reports an error of a passkey's use.
pub(super) fn to_problem(error: PasskeyError) -> ProblemError {
    match error {
        PasskeyError::Off => ProblemError::new(Code::LoginMethodOff, "Passkeys are off (passkeys.enabled)."),
        PasskeyError::Refused => ProblemError::new(Code::InvalidPasskey, "The passkey was not accepted."),
        PasskeyError::Service(error) => error.into(),
    }
}

/// The signed-in owner as the caller of a change of passkeys. `Any`: `check_csrf` refuses other sites.
fn caller<'a>(visit: &'a Visit, owner: &'a Owner) -> Caller<'a> {
    Caller { claims: &owner.caller, accepted: AcceptedTransport::Any, origin: &visit.origin }
}

/// `POST /account/security/passkeys/options`: responds with the page whose form creates a passkey.
#[handler]
pub(super) async fn options(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/security");
    let outcome = async {
        visit.check_csrf(&mut form)?;
        let options = register::options(&visit.state, &caller(&visit, &owner)).await;
        options.map_err(problem_of)
    };
    match outcome.await {
        Ok(options) => {
            let mut view = security::view(&visit, &owner).await?;
            view.passkey_options = Some(Value::Object(options.public_key).to_string());
            visit.reply().page(&view)
        }
        Err(problem) => failure_response(&visit, &owner, problem).await,
    }
}

/// `POST /account/security/passkeys`
#[handler]
pub(super) async fn add(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/security");
    let outcome = async {
        visit.check_csrf(&mut form)?;
        let name = parse_name(&form.text("name"))?;
        let credential = credential(&mut form)?;
        let added = register::register(&visit.state, &caller(&visit, &owner), credential, name).await;
        added.map_err(problem_of)
    };
    match outcome.await {
        Ok(Registered { tokens, recovery_codes, .. }) => {
            success_response(&visit, &tokens, &recovery_codes, "factor_added")
        }
        Err(problem) => failure_response(&visit, &owner, problem).await,
    }
}

/// `POST /account/security/passkeys/rename`
#[handler]
pub(super) async fn rename(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/security");
    let outcome = async {
        visit.check_csrf(&mut form)?;
        let id = parse_id(&form.text("id"))?;
        let name = parse_name(&form.text("name"))?;
        let renamed = manage::rename(&visit.state, &caller(&visit, &owner), id, &name).await;
        renamed.map_err(passkey_change_problem)
    };
    match outcome.await {
        Ok(_passkey) => Ok(visit.reply().redirect_to_page("/security?done=saved")),
        Err(problem) => failure_response(&visit, &owner, problem).await,
    }
}

/// `POST /account/security/passkeys/remove`
#[handler]
pub(super) async fn remove(mut visit: Visit, mut form: Form) -> Result<Response> {
    let owner = require_owner!(visit, "/security");
    let outcome = async {
        visit.check_csrf(&mut form)?;
        let id = parse_id(&form.text("id"))?;
        let removed = manage::remove(&visit.state, &caller(&visit, &owner), id).await;
        removed.map_err(passkey_change_problem)
    };
    match outcome.await {
        Ok(tokens) => {
            Ok(session_reply(&visit, tokens.account, tokens.session).redirect_to_page("/security?done=factor_removed"))
        }
        Err(problem) => failure_response(&visit, &owner, problem).await,
    }
}

/// The response to a change that failed: a redirect to the step-up if the change needs one, otherwise the page with the problem.
async fn failure_response(visit: &Visit, owner: &Owner, problem: ProblemError) -> Result<Response> {
    match step_up(visit, problem, "/security") {
        Ok(response) => Ok(response),
        Err(problem) => visit.reply().error(&problem).page(&security::view(visit, owner).await?),
    }
}

/// Parses the id of a passkey. A malformed id gets the problem of an unknown one.
fn parse_id(text: &str) -> Result<PasskeyId, ProblemError> {
    let unknown = |_| ProblemError::new(Code::UnknownPasskey, "The account has no such passkey.");
    Uuid::try_parse(text).map(PasskeyId).map_err(unknown)
}
