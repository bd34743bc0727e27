//! `/v1/me/passkeys`: the passkeys of the caller's account.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, OpenApi, param::Path, payload::Json};
use uuid::Uuid;

use super::{
    Tag,
    login::TokensResponse,
    passkey_objects::{
        AddPasskeyRequest, OptionsResponse, PasskeyAddedResponse, PasskeyResponse, PasskeysResponse,
        RenamePasskeyRequest, parse_name,
    },
};
use crate::{
    domain::{ids::PasskeyId, session::AcceptedTransport},
    http::{
        extract::{auth::SignedIn, cookie_refusal::CookieRefusal, json::Body},
        problem::{
            Code, Failed, ProblemError, Problems,
            groups::{COOKIE, JSON_BODY, RECENT, SIGNED_IN, codes},
        },
    },
    service::{
        factors::change::{Caller, ChangeFactorsError},
        passkeys::{
            PasskeyError, manage,
            register::{self, RegisterPasskeyError},
        },
        request_origin::RequestOrigin,
    },
    state::AppState,
};

/// The passkeys of the caller's account: register, list, rename and remove them.
pub struct PasskeysApi;

#[derive(ApiResponse)]
enum ListResponse {
    /// The passkeys.
    #[oai(status = 200)]
    Ok(Json<PasskeysResponse>),
}

#[derive(ApiResponse)]
enum AddedResponse {
    /// The passkey was registered, and all former sessions of the account have ended. The body has the new session's tokens.
    #[oai(status = 201)]
    Created(
        Json<PasskeyAddedResponse>,
        /// The refresh cookie, if the calling session had the transport `cookie`.
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
enum RenamedResponse {
    /// The passkey.
    #[oai(status = 200)]
    Ok(Json<PasskeyResponse>),
}

#[derive(ApiResponse)]
enum RemovedResponse {
    /// The passkey was removed, and all former sessions of the account have ended. The body has the new session's tokens.
    #[oai(status = 200)]
    Ok(
        Json<TokensResponse>,
        /// The refresh cookie, if the calling session had the transport `cookie`.
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

/// The errors of listing passkeys.
struct ListProblems;

impl Problems for ListProblems {
    const CODES: &'static [Code] = SIGNED_IN;
}

/// The errors of beginning a registration.
struct AddOptionsProblems;

impl Problems for AddOptionsProblems {
    const CODES: &'static [Code] = codes![RECENT, [Code::LoginMethodOff, Code::TooManyPasskeys, Code::TooManyRequests]];
}

/// The errors of a registration.
struct AddProblems;

impl Problems for AddProblems {
    const CODES: &'static [Code] = codes![
        JSON_BODY,
        RECENT,
        COOKIE,
        [
            Code::LoginMethodOff,
            Code::PasskeyModelNotAllowed,
            Code::PasskeyExists,
            Code::TooManyPasskeys,
            Code::PasskeyRejected,
            Code::TooManyRequests
        ]
    ];
}

impl From<RegisterPasskeyError> for ProblemError {
    fn from(error: RegisterPasskeyError) -> Self {
        match error {
            RegisterPasskeyError::Off => passkeys_off(),
            RegisterPasskeyError::Refused => {
                Self::new(Code::PasskeyRejected, "The authenticator's response was not accepted. Begin again.")
            }
            RegisterPasskeyError::ModelNotAllowed => {
                let detail = "Use another authenticator: this model can't be registered (passkeys.allowed_aaguids).";
                Self::new(Code::PasskeyModelNotAllowed, detail)
            }
            RegisterPasskeyError::Exists => {
                Self::new(Code::PasskeyExists, "This passkey is registered already. Use another authenticator.")
            }
            RegisterPasskeyError::TooMany(maximum) => {
                let detail = format!("The account has the maximum of {maximum} passkeys. Remove one first.");
                Self::new(Code::TooManyPasskeys, detail)
            }
            RegisterPasskeyError::Change(error) => passkey_change_problem(error),
            RegisterPasskeyError::Service(error) => error.into(),
        }
    }
}

/// The errors of renaming a passkey.
struct RenameProblems;

impl Problems for RenameProblems {
    const CODES: &'static [Code] = codes![JSON_BODY, RECENT, [Code::UnknownPasskey, Code::TooManyRequests]];
}

/// The errors of removing a passkey.
struct RemoveProblems;

impl Problems for RemoveProblems {
    const CODES: &'static [Code] = codes![
        RECENT,
        COOKIE,
        [Code::MalformedRequest, Code::UnknownPasskey, Code::FactorRequired, Code::TooManyRequests]
    ];
}

impl From<PasskeyError> for ProblemError {
    fn from(error: PasskeyError) -> Self {
        match error {
            PasskeyError::Off => passkeys_off(),
            PasskeyError::Refused => invalid_passkey(),
            PasskeyError::Service(error) => error.into(),
        }
    }
}

/// The refusal of a passkey at a sign-in or as a second factor.
pub(super) fn invalid_passkey() -> ProblemError {
    ProblemError::new(Code::InvalidPasskey, "The passkey was not accepted. Begin again with new options.")
}

/// The refusal of a call that needs passkeys while passkeys are off.
pub(super) fn passkeys_off() -> ProblemError {
    let detail =
        "Passkeys are off (passkeys.enabled), or the issuer has no domain that they could belong to (passkeys.rp_id).";
    ProblemError::new(Code::LoginMethodOff, detail)
}

/// Converts an error of changing factors to a problem that names a passkey.
pub(in crate::http) fn passkey_change_problem(error: ChangeFactorsError) -> ProblemError {
    match error {
        ChangeFactorsError::UnknownFactor => {
            ProblemError::new(Code::UnknownPasskey, "The account has no passkey with this id.")
        }
        error => error.into(),
    }
}

#[OpenApi(tag = "Tag::Passkeys")]
impl PasskeysApi {
    /// Begin to register a passkey
    ///
    /// Options for `navigator.credentials.create`. Their challenge works once, within {passkeys.timeout}, and for the calling
    /// session only. Needs a session that was authenticated within the last {session.recent}.
    #[oai(path = "/v1/me/passkeys/options", method = "post", operation_id = "passkey_registration_options")]
    async fn add_options(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        SignedIn(claims): SignedIn,
    ) -> Result<OptionsResponse, Failed<AddOptionsProblems>> {
        // this call replaces no session, so it accepts any transport
        let caller = Caller { claims: &claims, origin: &origin, accepted: AcceptedTransport::Any };
        let options = register::options(state, &caller).await?;
        Ok(OptionsResponse::Ok(Json(options.into())))
    }

    /// Register a passkey
    ///
    /// Completes a registration with the credential that the authenticator has made. All other sessions of the account end in the same
    /// step, and a new one takes the place of the calling session. An account may have {passkeys.max_per_account} passkeys.
    /// Needs a session that was authenticated within the last {session.recent}.
    #[oai(path = "/v1/me/passkeys", method = "post", operation_id = "add_passkey")]
    async fn add(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        cookie_refusal: CookieRefusal,
        SignedIn(claims): SignedIn,
        Body(request): Body<AddPasskeyRequest>,
    ) -> Result<AddedResponse, Failed<AddProblems>> {
        let name = parse_name(&request.name)?;
        let caller = Caller { claims: &claims, origin: &origin, accepted: cookie_refusal.accepted_transport() };
        let registered = register::register(state, &caller, request.credential.0, name).await;
        let registered = registered.map_err(|error| cookie_refusal.with_reason(error))?;
        let (tokens, cookie) = TokensResponse::split(registered.tokens);
        let codes: Vec<String> = registered.recovery_codes.iter().map(|code| code.expose().to_owned()).collect();
        // The member is absent if the account keeps its recovery codes.
        let recovery_codes = (!codes.is_empty()).then_some(codes);
        let added = PasskeyAddedResponse { passkey: registered.passkey.into(), tokens, recovery_codes };
        Ok(AddedResponse::Created(Json(added), cookie))
    }

    /// List passkeys
    ///
    /// The passkeys of the account, oldest first.
    #[oai(path = "/v1/me/passkeys", method = "get", operation_id = "list_passkeys")]
    async fn list(
        &self,
        Data(state): Data<&Arc<AppState>>,
        SignedIn(claims): SignedIn,
    ) -> Result<ListResponse, Failed<ListProblems>> {
        let passkeys = manage::list(state, &claims).await?;
        let passkeys = passkeys.into_iter().map(Into::into).collect();
        Ok(ListResponse::Ok(Json(PasskeysResponse { passkeys })))
    }

    /// Rename a passkey
    ///
    /// Needs a session that was authenticated within the last {session.recent}.
    #[oai(path = "/v1/me/passkeys/:id", method = "patch", operation_id = "rename_passkey")]
    async fn rename(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        SignedIn(claims): SignedIn,
        /// The passkey's id.
        Path(id): Path<Uuid>,
        Body(request): Body<RenamePasskeyRequest>,
    ) -> Result<RenamedResponse, Failed<RenameProblems>> {
        let name = parse_name(&request.name)?;
        // this call replaces no session, so it accepts any transport
        let caller = Caller { claims: &claims, origin: &origin, accepted: AcceptedTransport::Any };
        let renamed = manage::rename(state, &caller, PasskeyId(id), &name).await.map_err(passkey_change_problem)?;
        Ok(RenamedResponse::Ok(Json(renamed.into())))
    }

    /// Remove a passkey
    ///
    /// The passkey stops working at once. All other sessions of the account end in the same step, and a new one takes the place of
    /// the calling session. Needs a session that was authenticated within the last {session.recent}.
    #[oai(path = "/v1/me/passkeys/:id", method = "delete", operation_id = "remove_passkey")]
    async fn remove(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        cookie_refusal: CookieRefusal,
        SignedIn(claims): SignedIn,
        /// The passkey's id.
        Path(id): Path<Uuid>,
    ) -> Result<RemovedResponse, Failed<RemoveProblems>> {
        let caller = Caller { claims: &claims, origin: &origin, accepted: cookie_refusal.accepted_transport() };
        let removed = manage::remove(state, &caller, PasskeyId(id)).await.map_err(passkey_change_problem);
        let new_tokens = removed.map_err(|error| cookie_refusal.with_reason(error))?;
        let (tokens, cookie) = TokensResponse::split(new_tokens);
        Ok(RemovedResponse::Ok(Json(tokens), cookie))
    }
}
