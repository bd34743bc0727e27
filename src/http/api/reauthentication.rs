//! `POST /v1/me/reauthenticate`.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json, types::Example};
use uuid::Uuid;

use super::{
    Tag,
    passkey_objects::OptionsResponse,
    second_factor::{MethodName, parse_factor},
};
use crate::{
    domain::authentication::Acr,
    http::{
        extract::{auth::SignedIn, client_info::ClientInfo, json::Body},
        problem::{
            Code, Failed, FieldCode, FieldError, ProblemError, Problems,
            groups::{JSON_BODY, SIGNED_IN, codes},
        },
        types::{JsonObject, Secret},
    },
    service::{
        authenticate::AuthenticateError,
        reauthenticate::{Reauthenticate, ReauthenticateError, Reauthenticated, passkey_options, reauthenticate},
        recent_authentication::InsufficientAuthentication,
    },
    state::AppState,
};

/// Step-up authentication.
pub struct ReauthenticationApi;

/// The password, the code or the passkey that the user shows again.
#[derive(Object)]
#[oai(example)]
struct ReauthenticateRequest {
    /// The password. Enough for an account without a second factor.
    password: Option<Secret>,
    /// The kind of `code`: `totp` or `recovery_code`. With `credential`: `passkey`, or nothing.
    method: Option<MethodName>,
    /// The code.
    code: Option<Secret>,
    /// A passkey: the `PublicKeyCredential` that `navigator.credentials.get` returns for the options of
    /// `POST /v1/me/reauthenticate/passkey/options`, in its JSON form (`toJSON`).
    credential: Option<JsonObject>,
}

impl Example for ReauthenticateRequest {
    fn example() -> Self {
        Self { password: Some(Secret::masked()), method: None, code: None, credential: None }
    }
}

/// An access token that names the new authentication.
#[derive(Object)]
#[oai(example)]
struct ReauthenticatedResponse {
    /// A JWT (RFC 9068). Send it as `Authorization: Bearer`.
    access_token: String,
    /// Always `Bearer` (RFC 6750).
    token_type: String,
    /// The lifetime of the access token in seconds.
    expires_in: u64,
    /// The session's id: the `sid` claim of its access tokens.
    session_id: Uuid,
    /// The level of the authentication: the claim `acr`.
    acr: String,
    /// When the user authenticated, in seconds since the Unix epoch: the claim `auth_time`.
    auth_time: i64,
}

impl Example for ReauthenticatedResponse {
    fn example() -> Self {
        Self {
            access_token: "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6Ii4uLiJ9.….…".to_owned(),
            token_type: "Bearer".to_owned(),
            expires_in: 300,
            session_id: Uuid::from_u128(0x5f0c_2f0e_7d1c_4a58_9a3b_2f1f_6a1e_0d42),
            acr: "aal1".to_owned(),
            auth_time: 1_795_406_910,
        }
    }
}

impl From<Reauthenticated> for ReauthenticatedResponse {
    fn from(Reauthenticated { token, authentication }: Reauthenticated) -> Self {
        Self {
            access_token: token.access_token.into_exposed(),
            token_type: "Bearer".to_owned(),
            expires_in: token.expires_in.as_secs(),
            session_id: token.session.0,
            acr: authentication.acr.as_str().to_owned(),
            auth_time: authentication.at.as_secs(),
        }
    }
}

#[derive(ApiResponse)]
enum ReauthenticateResponse {
    /// The session's new access token. The session's refresh token stays valid.
    #[oai(status = 200)]
    Ok(Json<ReauthenticatedResponse>),
}

/// The errors of the options for a step-up.
struct StepUpOptionsProblems;

impl Problems for StepUpOptionsProblems {
    const CODES: &'static [Code] = codes![SIGNED_IN, [Code::LoginMethodOff, Code::TooManyRequests]];
}

/// The errors of a step-up.
struct ReauthenticateProblems;

impl Problems for ReauthenticateProblems {
    const CODES: &'static [Code] = codes![
        JSON_BODY,
        SIGNED_IN,
        [Code::InsufficientUserAuthentication],
        [Code::InvalidCode, Code::InvalidPasskey, Code::LoginMethodOff, Code::WrongPassword, Code::TooManyRequests]
    ];
}

impl From<ReauthenticateError> for ProblemError {
    fn from(error: ReauthenticateError) -> Self {
        match error {
            ReauthenticateError::SessionEnded => AuthenticateError::InvalidToken.into(),
            ReauthenticateError::NothingPresented => {
                let field = FieldError::new("password", FieldCode::Required, "Send the password, a code or a passkey.");
                Self::fields(Code::InvalidFields, vec![field])
            }
            ReauthenticateError::WrongPassword => {
                let field = FieldError::new("password", FieldCode::WrongPassword, "This is not the password.");
                Self::fields(Code::WrongPassword, vec![field])
            }
            ReauthenticateError::SecondFactorRequired => {
                InsufficientAuthentication { acr: Some(Acr::Aal2), max_age: None }.into()
            }
            ReauthenticateError::WrongCode => Self::new(Code::InvalidCode, "The code is wrong or was used."),
            ReauthenticateError::Passkey(error) => error.into(),
            ReauthenticateError::Service(error) => error.into(),
        }
    }
}

#[OpenApi(tag = "Tag::SignIn")]
impl ReauthenticationApi {
    /// Prepare a step-up with a passkey
    ///
    /// Options for `navigator.credentials.get`. Their challenge works once, within {passkeys.timeout}, and for the calling session
    /// only.
    #[oai(path = "/v1/me/reauthenticate/passkey/options", method = "post", operation_id = "reauthenticate_options")]
    async fn options(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        SignedIn(caller): SignedIn,
    ) -> Result<OptionsResponse, Failed<StepUpOptionsProblems>> {
        let options = passkey_options(state, &caller, client.ip).await?;
        Ok(OptionsResponse::Ok(Json(options.into())))
    }

    /// Authenticate again (step-up)
    ///
    /// For a call that was refused with `insufficient_user_authentication`. Returns an access token with a new `auth_time`, and
    /// with the `acr` and `amr` of this authentication. The session's next refreshes keep them for {factors.step_up_ttl}. After that,
    /// `acr` and `amr` are those of the sign-in again. Failures are throttled like those of a sign-in.
    #[oai(path = "/v1/me/reauthenticate", method = "post", operation_id = "reauthenticate")]
    async fn reauthenticate(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        SignedIn(caller): SignedIn,
        Body(request): Body<ReauthenticateRequest>,
    ) -> Result<ReauthenticateResponse, Failed<ReauthenticateProblems>> {
        let factor = match request.method {
            // the passkey is in `credential`, which is passed on below
            Some(MethodName::Passkey) => None,
            // a code by mail does not raise the level of a session
            Some(MethodName::EmailCode) => {
                let detail = "A code by mail can't be used for a step-up. Send the password or another factor.";
                let field = FieldError::new("method", FieldCode::UnknownValue, detail);
                return Err(ProblemError::fields(Code::InvalidFields, vec![field]).into());
            }
            Some(method) => {
                let no_credential = None;
                Some(parse_factor(method, request.code, no_credential)?)
            }
            None => None,
        };
        let input = Reauthenticate {
            factor,
            password: request.password.map(|password| password.0),
            credential: request.credential.map(|credential| credential.0),
            device: client.device_token.clone(),
            origin: client.into_session_origin(),
        };
        let reauthenticated = reauthenticate(state, &caller, input).await?;
        Ok(ReauthenticateResponse::Ok(Json(reauthenticated.into())))
    }
}
