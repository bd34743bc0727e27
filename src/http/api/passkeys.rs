//! `/v1/me/passkeys`: the passkeys of the caller's account.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json, types::Example};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Tag, account::sentence, login::TokensResponse};
use crate::{
    domain::{
        clock::Timestamp,
        ids::PasskeyId,
        passkey::{Passkey, PasskeyName},
        session::Accepted,
    },
    http::{
        extract::{
            auth::{CookieCheck, CsrfCheck, SignedIn},
            client_info::MailOrigin,
            json::Body,
        },
        problem::{Code, Failed, FieldCode, FieldError, ProblemError, Problems},
        types::{JsonObject, Time},
    },
    service::{
        authenticate::AuthenticateError,
        factors::change::{Caller, ChangeFactorsError},
        passkeys::{
            PasskeyError, PasskeyOptions, manage,
            register::{self, RegisterPasskeyError},
        },
    },
    state::AppState,
};

/// The passkeys of the caller's account: register, list, rename and remove them.
pub struct PasskeysApi;

/// The options of a ceremony for `navigator.credentials`.
#[derive(Object)]
#[oai(rename = "PasskeyOptions", example)]
pub(super) struct PasskeyOptionsResponse {
    /// The options in the JSON form of WebAuthn: `PublicKeyCredential.parseCreationOptionsFromJSON` or
    /// `parseRequestOptionsFromJSON` reads them.
    public_key: JsonObject,
    /// How many seconds the response is accepted.
    expires_in: u64,
}

impl Example for PasskeyOptionsResponse {
    fn example() -> Self {
        let options = json!({
            "challenge": "WzXw7Y2bCk4hE0cQm5ZrN1uP8sT6vLxAaDdFfGgHhJk",
            "timeout": 300_000,
            "rpId": "auth.example.com",
            "allowCredentials": [],
            "userVerification": "required",
        });
        Self { public_key: members(options), expires_in: 300 }
    }
}

impl From<PasskeyOptions> for PasskeyOptionsResponse {
    fn from(options: PasskeyOptions) -> Self {
        Self { public_key: JsonObject(options.public_key), expires_in: options.expires_in }
    }
}

/// A registered passkey.
#[derive(Object)]
#[oai(rename = "Passkey", skip_serializing_if_is_none, example)]
struct PasskeyResponse {
    /// The passkey's id.
    id: Uuid,
    /// The name that the owner gave to it.
    name: String,
    /// The model of the authenticator, as it claims: all zeros if it does not say.
    aaguid: Uuid,
    /// How the browser may reach the authenticator: `internal`, `hybrid`, `usb`, `nfc`, `ble`.
    transports: Vec<String>,
    /// Whether the passkey can be used without a username. Absent if the browser did not say.
    discoverable: Option<bool>,
    /// Whether its key can be copied to a backup or another device.
    backup_eligible: bool,
    /// Whether there was a copy at the last use.
    backed_up: bool,
    /// When it was registered.
    created_at: Time,
    /// When it was last used to sign in. Absent before the first time.
    last_used_at: Option<Time>,
}

impl Example for PasskeyResponse {
    fn example() -> Self {
        let then = |secs: i64| Time(Timestamp::from_millis((1_767_225_600 + secs) * 1000));
        Self {
            id: Uuid::from_u128(0x019b_7a63_2c00_7b1e_8c55_0d6f_3a1b_9e22),
            name: "Ada's phone".to_owned(),
            aaguid: Uuid::from_u128(0xea9b_8d66_4d01_1d21_3ce4_b6b4_8cb5_75d4),
            transports: vec!["hybrid".to_owned(), "internal".to_owned()],
            discoverable: Some(true),
            backup_eligible: true,
            backed_up: true,
            created_at: then(0),
            last_used_at: Some(then(3600)),
        }
    }
}

impl From<Passkey> for PasskeyResponse {
    fn from(passkey: Passkey) -> Self {
        let transports = passkey.transports.split(' ').filter(|hint| !hint.is_empty());
        Self {
            id: passkey.id.0,
            name: passkey.name.as_str().to_owned(),
            aaguid: passkey.aaguid.0,
            transports: transports.map(str::to_owned).collect(),
            discoverable: passkey.discoverable,
            backup_eligible: passkey.backup_eligible,
            backed_up: passkey.backed_up,
            created_at: passkey.created_at.into(),
            last_used_at: passkey.last_used_at.map(Into::into),
        }
    }
}

/// The passkeys of an account.
#[derive(Object)]
#[oai(example)]
struct PasskeysResponse {
    /// The passkeys, oldest first.
    passkeys: Vec<PasskeyResponse>,
}

impl Example for PasskeysResponse {
    fn example() -> Self {
        Self { passkeys: vec![PasskeyResponse::example()] }
    }
}

/// A new passkey, and the tokens of the session that takes the place of the calling one.
#[derive(Object)]
#[oai(skip_serializing_if_is_none, example)]
struct PasskeyAddedResponse {
    /// The passkey.
    passkey: PasskeyResponse,
    /// The tokens, as after a sign-in.
    tokens: TokensResponse,
    /// Ten recovery codes, if the account had none: each replaces a second factor once. They are never shown again.
    recovery_codes: Option<Vec<String>>,
}

impl Example for PasskeyAddedResponse {
    fn example() -> Self {
        Self { passkey: PasskeyResponse::example(), tokens: TokensResponse::example(), recovery_codes: None }
    }
}

/// A passkey to register.
#[derive(Object)]
#[oai(example)]
pub(super) struct AddPasskeyRequest {
    /// A name for the passkey: 1 to 64 characters.
    #[oai(validator(min_length = 1, max_length = 64))]
    pub(super) name: String,
    /// The `PublicKeyCredential` of `navigator.credentials.create`, in its JSON form (`toJSON`).
    pub(super) credential: JsonObject,
}

impl Example for AddPasskeyRequest {
    fn example() -> Self {
        let response = json!({
            "clientDataJSON": "eyJ0eXBlIjoid2ViYXV0aG4uY3JlYXRlIiwi…",
            "attestationObject": "o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YVi…",
            "transports": ["internal"],
        });
        Self { name: "Ada's phone".to_owned(), credential: credential_example(&response) }
    }
}

/// A new name for a passkey.
#[derive(Object)]
#[oai(example)]
struct RenamePasskeyRequest {
    /// The name: 1 to 64 characters.
    #[oai(validator(min_length = 1, max_length = 64))]
    name: String,
}

impl Example for RenamePasskeyRequest {
    fn example() -> Self {
        Self { name: "Ada's old phone".to_owned() }
    }
}

/// An example of a credential in its JSON form.
pub(super) fn credential_example(response: &Value) -> JsonObject {
    let id = "t3JzWk0xQ9mJ8oN5bYv2Rg";
    members(json!({
        "id": id, "rawId": id, "type": "public-key", "response": response, "clientExtensionResults": {},
    }))
}

fn members(value: Value) -> JsonObject {
    match value {
        Value::Object(members) => JsonObject(members),
        _ => JsonObject(Map::new()),
    }
}

#[derive(ApiResponse)]
pub(super) enum OptionsResponse {
    /// The options. Their challenge works once.
    #[oai(status = 200)]
    Ok(Json<PasskeyOptionsResponse>),
}

#[derive(ApiResponse)]
enum ListResponse {
    /// The passkeys.
    #[oai(status = 200)]
    Ok(Json<PasskeysResponse>),
}

#[derive(ApiResponse)]
enum AddedResponse {
    /// The passkey was registered, and all former sessions of the account have ended. The tokens of the new session.
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
    /// The passkey was removed, and all former sessions of the account have ended. The tokens of the new session.
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
    const CODES: &'static [Code] = &[Code::AuthenticationRequired, Code::InvalidToken, Code::ClaimsChanged];
}

/// The errors of beginning a registration.
struct AddOptionsProblems;

impl Problems for AddOptionsProblems {
    const CODES: &'static [Code] = &[
        Code::AuthenticationRequired,
        Code::InvalidToken,
        Code::ClaimsChanged,
        Code::InsufficientUserAuthentication,
        Code::LoginMethodOff,
        Code::TooManyPasskeys,
        Code::TooManyRequests,
    ];
}

/// The errors of a registration.
struct AddProblems;

impl Problems for AddProblems {
    const CODES: &'static [Code] = &[
        Code::MalformedRequest,
        Code::AuthenticationRequired,
        Code::InvalidToken,
        Code::ClaimsChanged,
        Code::InsufficientUserAuthentication,
        Code::LoginMethodOff,
        Code::PasskeyModelNotAllowed,
        Code::CrossSiteRequest,
        Code::CookieCrossSite,
        Code::PasskeyExists,
        Code::TooManyPasskeys,
        Code::UnsupportedMediaType,
        Code::InvalidFields,
        Code::PasskeyRejected,
        Code::TooManyRequests,
    ];
}

impl<P: Problems> From<RegisterPasskeyError> for Failed<P> {
    fn from(error: RegisterPasskeyError) -> Self {
        match error {
            RegisterPasskeyError::Off => passkeys_off().into(),
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
            RegisterPasskeyError::TooMany(most) => {
                let detail = format!("The account has the maximum of {most} passkeys. Remove one first.");
                Self::new(Code::TooManyPasskeys, detail)
            }
            RegisterPasskeyError::Change(error) => change_failed(error).into(),
            RegisterPasskeyError::Service(error) => error.into(),
        }
    }
}

/// The errors of renaming a passkey.
struct RenameProblems;

impl Problems for RenameProblems {
    const CODES: &'static [Code] = &[
        Code::MalformedRequest,
        Code::AuthenticationRequired,
        Code::InvalidToken,
        Code::ClaimsChanged,
        Code::InsufficientUserAuthentication,
        Code::UnknownPasskey,
        Code::UnsupportedMediaType,
        Code::InvalidFields,
        Code::TooManyRequests,
    ];
}

/// The errors of removing a passkey.
struct RemoveProblems;

impl Problems for RemoveProblems {
    const CODES: &'static [Code] = &[
        Code::MalformedRequest,
        Code::AuthenticationRequired,
        Code::InvalidToken,
        Code::ClaimsChanged,
        Code::InsufficientUserAuthentication,
        Code::CrossSiteRequest,
        Code::CookieCrossSite,
        Code::UnknownPasskey,
        Code::FactorRequired,
        Code::TooManyRequests,
    ];
}

impl<P: Problems> From<PasskeyError> for Failed<P> {
    fn from(error: PasskeyError) -> Self {
        match error {
            PasskeyError::Off => passkeys_off().into(),
            PasskeyError::Refused => invalid_passkey().into(),
            PasskeyError::Service(error) => error.into(),
        }
    }
}

/// The refusal of a passkey.
pub(super) fn invalid_passkey() -> ProblemError {
    ProblemError::new(Code::InvalidPasskey, "The passkey was not accepted. Begin again with new options.")
}

/// The refusal where passkeys are off.
pub(super) fn passkeys_off() -> ProblemError {
    let detail =
        "Passkeys are off (passkeys.enabled), or the issuer has no domain that they could belong to (passkeys.rp_id).";
    ProblemError::new(Code::LoginMethodOff, detail)
}

/// The refusal of a change of passkeys.
pub(in crate::http) fn change_failed(error: ChangeFactorsError) -> ProblemError {
    match error {
        ChangeFactorsError::NoAccount | ChangeFactorsError::SessionEnded => AuthenticateError::InvalidToken.into(),
        ChangeFactorsError::CookieNotAccepted => ProblemError::new(
            Code::CrossSiteRequest,
            "A page of another site must not replace the cookie of the session.",
        ),
        ChangeFactorsError::MustKeep => {
            ProblemError::new(Code::FactorRequired, "The account must have a second factor. Add another one first.")
        }
        // the others belong to authenticator apps, recovery codes and codes by mail
        ChangeFactorsError::UnknownFactor
        | ChangeFactorsError::TooMany
        | ChangeFactorsError::WrongCode
        | ChangeFactorsError::NoFactor
        | ChangeFactorsError::EmailCodeOff
        | ChangeFactorsError::EmailCodeOn
        | ChangeFactorsError::EmailNotVerified
        | ChangeFactorsError::NoPassword => {
            ProblemError::new(Code::UnknownPasskey, "The account has no passkey with this id.")
        }
        ChangeFactorsError::Service(error) => error.into(),
    }
}

pub(super) fn parse_name(text: &str) -> Result<PasskeyName, ProblemError> {
    PasskeyName::parse(text).map_err(|error| {
        let field = FieldError::new("name", FieldCode::InvalidPasskeyName, sentence(&error));
        ProblemError::fields(Code::InvalidFields, vec![field])
    })
}

/// The sessions that may be replaced: only bearer sessions, if the response must not set a cookie.
fn accepted(refused: Option<&ProblemError>) -> Accepted {
    if refused.is_some() { Accepted::Bearer } else { Accepted::Any }
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
        MailOrigin(origin): MailOrigin,
        SignedIn(claims): SignedIn,
    ) -> Result<OptionsResponse, Failed<AddOptionsProblems>> {
        let caller = Caller { claims: &claims, origin: &origin, accepted: Accepted::Any };
        let options = register::options(state, &caller).await?;
        Ok(OptionsResponse::Ok(Json(options.into())))
    }

    /// Register a passkey
    ///
    /// Ends a registration with the credential that the authenticator has made. All other sessions of the account end in the same
    /// step, and a new one takes the place of the calling session. An account may have {passkeys.max_per_account} passkeys.
    #[oai(path = "/v1/me/passkeys", method = "post", operation_id = "add_passkey")]
    async fn add(
        &self,
        Data(state): Data<&Arc<AppState>>,
        MailOrigin(origin): MailOrigin,
        CsrfCheck(cross_site): CsrfCheck,
        CookieCheck(unusable): CookieCheck,
        SignedIn(claims): SignedIn,
        Body(request): Body<AddPasskeyRequest>,
    ) -> Result<AddedResponse, Failed<AddProblems>> {
        let name = parse_name(&request.name)?;
        let refused = cross_site.or(unusable);
        let caller = Caller { claims: &claims, origin: &origin, accepted: accepted(refused.as_ref()) };
        match (register::register(state, &caller, request.credential.0, name).await, refused) {
            (Err(RegisterPasskeyError::Change(ChangeFactorsError::CookieNotAccepted)), Some(refused)) => {
                Err(refused.into())
            }
            (outcome, _) => {
                let registered = outcome?;
                let (tokens, cookie) = TokensResponse::split(registered.tokens);
                let codes: Vec<String> =
                    registered.recovery_codes.iter().map(|code| code.expose().to_owned()).collect();
                let recovery_codes = Some(codes).filter(|codes| !codes.is_empty());
                let added = PasskeyAddedResponse { passkey: registered.passkey.into(), tokens, recovery_codes };
                Ok(AddedResponse::Created(Json(added), cookie))
            }
        }
    }

    /// List passkeys
    ///
    /// The passkeys of the account, oldest first.
    #[oai(path = "/v1/me/passkeys", method = "get", operation_id = "list_passkeys")]
    async fn list(
        &self,
        Data(state): Data<&Arc<AppState>>,
        SignedIn(caller): SignedIn,
    ) -> Result<ListResponse, Failed<ListProblems>> {
        let passkeys = manage::list(state, &caller).await?;
        Ok(ListResponse::Ok(Json(PasskeysResponse { passkeys: passkeys.into_iter().map(Into::into).collect() })))
    }

    /// Rename a passkey
    ///
    /// Needs a session that was authenticated within the last {session.recent}.
    #[oai(path = "/v1/me/passkeys/:id", method = "patch", operation_id = "rename_passkey")]
    async fn rename(
        &self,
        Data(state): Data<&Arc<AppState>>,
        MailOrigin(origin): MailOrigin,
        SignedIn(claims): SignedIn,
        /// The passkey's id.
        Path(id): Path<Uuid>,
        Body(request): Body<RenamePasskeyRequest>,
    ) -> Result<RenamedResponse, Failed<RenameProblems>> {
        let name = parse_name(&request.name)?;
        let caller = Caller { claims: &claims, origin: &origin, accepted: Accepted::Any };
        let renamed = manage::rename(state, &caller, PasskeyId(id), &name).await.map_err(change_failed)?;
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
        MailOrigin(origin): MailOrigin,
        CsrfCheck(cross_site): CsrfCheck,
        CookieCheck(unusable): CookieCheck,
        SignedIn(claims): SignedIn,
        /// The passkey's id.
        Path(id): Path<Uuid>,
    ) -> Result<RemovedResponse, Failed<RemoveProblems>> {
        let refused = cross_site.or(unusable);
        let caller = Caller { claims: &claims, origin: &origin, accepted: accepted(refused.as_ref()) };
        match (manage::remove(state, &caller, PasskeyId(id)).await, refused) {
            (Err(ChangeFactorsError::CookieNotAccepted), Some(refused)) => Err(refused.into()),
            (outcome, _) => {
                let (tokens, cookie) = TokensResponse::split(outcome.map_err(change_failed)?);
                Ok(RemovedResponse::Ok(Json(tokens), cookie))
            }
        }
    }
}
