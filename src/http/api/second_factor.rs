//! `/v1/login/second-factor`, `/v1/login/second-factor/options`, `/v1/login/second-factor/code`: the second step of a sign-in.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi, payload::Json, types::Example};

use super::{
    Tag,
    login::SignedInResponse,
    passkey_objects::PasskeyOptionsResponse,
    passkeys::{invalid_passkey, passkeys_off},
};
use crate::{
    domain::secret::SecretText,
    http::{
        extract::{auth::ReplacedCookie, client_info::ClientInfo, cookie_refusal::CookieRefusal, json::Body},
        problem::{
            Code, Failed, FieldCode, FieldError, ProblemError, Problems,
            groups::{COOKIE, JSON_BODY, codes},
        },
        types::{JsonObject, Secret},
    },
    service::{
        request_origin::RequestOrigin,
        sign_in::second_factor::{self, Continuation, SecondFactor, SecondFactorError},
    },
    state::AppState,
};

/// The second step of a sign-in.
pub struct SecondFactorApi;

/// A second factor.
#[derive(Enum, Clone, Copy, Debug)]
#[oai(rename = "SecondFactorMethod", rename_all = "snake_case")]
pub(super) enum MethodName {
    /// A code of an authenticator app.
    Totp,
    /// A recovery code.
    RecoveryCode,
    /// A passkey.
    Passkey,
    /// A code that `POST /v1/login/second-factor/code` has sent.
    EmailCode,
}

/// A challenge, and the second factor that it asks for.
#[derive(Object)]
#[oai(example)]
struct SecondFactorRequest {
    /// The `challenge` of the response `403 second_factor_required`.
    challenge: Secret,
    /// The factor: one of the `methods` of that response.
    method: MethodName,
    /// With `totp`, `recovery_code` and `email_code`: the code.
    code: Option<Secret>,
    /// With `passkey`: the `PublicKeyCredential` of `navigator.credentials.get`, in its JSON form (`toJSON`).
    credential: Option<JsonObject>,
    /// Whether the device skips the second factor from now on, for the number of seconds in `remember_device_for` of the first step's
    /// response. Has no effect if that response has no such field, or if the first step was not the password. The answer to this request
    /// has a new device token, which the device sends with its next sign-ins. Default: false.
    remember_device: Option<bool>,
}

impl Example for SecondFactorRequest {
    fn example() -> Self {
        Self {
            challenge: Secret::masked(),
            method: MethodName::Totp,
            code: Some(Secret::masked()),
            credential: None,
            remember_device: Some(true),
        }
    }
}

/// A challenge that a passkey will answer.
#[derive(Object)]
#[oai(example)]
struct SecondFactorOptionsRequest {
    /// The `challenge` of the response `403 second_factor_required`.
    challenge: Secret,
}

impl Example for SecondFactorOptionsRequest {
    fn example() -> Self {
        Self { challenge: Secret::masked() }
    }
}

/// A challenge that a code by mail will answer.
#[derive(Object)]
#[oai(example)]
struct SendCodeRequest {
    /// The `challenge` of the response `403 second_factor_required`.
    challenge: Secret,
}

impl Example for SendCodeRequest {
    fn example() -> Self {
        Self { challenge: Secret::masked() }
    }
}

/// A code is on its way.
#[derive(Object)]
#[oai(example)]
struct CodeSentBody {
    /// The number of seconds for which the code works.
    expires_in: u64,
}

impl Example for CodeSentBody {
    fn example() -> Self {
        Self { expires_in: 600 }
    }
}

#[derive(ApiResponse)]
enum CodeSentResponse {
    /// A mail with the code is on its way. A code that was sent earlier for the challenge stops working.
    #[oai(status = 202)]
    Accepted(Json<CodeSentBody>),
}

#[derive(ApiResponse)]
enum SecondFactorOptionsResponse {
    /// The options. Their challenge works once, and for this sign-in only.
    #[oai(status = 200)]
    Ok(Json<PasskeyOptionsResponse>),
}

/// The errors of the second step of a sign-in.
struct SecondFactorProblems;

impl Problems for SecondFactorProblems {
    const CODES: &'static [Code] = codes![
        JSON_BODY,
        COOKIE,
        [
            Code::InvalidChallenge,
            Code::InvalidCode,
            Code::InvalidPasskey,
            Code::FactorEnrolmentRequired,
            Code::LoginMethodOff,
            Code::TooManyRequests
        ]
    ];
}

impl From<SecondFactorError> for ProblemError {
    fn from(error: SecondFactorError) -> Self {
        match error {
            SecondFactorError::InvalidChallenge => Self::new(
                Code::InvalidChallenge,
                "The challenge was used, has expired or has another purpose. Sign in again.",
            ),
            SecondFactorError::WrongCode => {
                Self::new(Code::InvalidCode, "The code is wrong, was used or has expired. Try again with another code.")
            }
            SecondFactorError::WrongPasskey => invalid_passkey(),
            SecondFactorError::PasskeysOff => passkeys_off(),
            SecondFactorError::EmailCodeNotOffered => Self::new(
                Code::LoginMethodOff,
                "This sign-in can't continue with a code by mail. Use one of the methods of its challenge.",
            ),
            SecondFactorError::EnrolmentRequired(challenge) => Self::enrolment_required(*challenge),
            SecondFactorError::CookieNotAccepted => Self::cookie_not_accepted(),
            SecondFactorError::Service(error) => error.into(),
        }
    }
}

/// The challenge, and the client that continues the sign-in. `replaces` is the refresh token of the session that the new
/// session replaces, if any.
pub(super) fn continuation(
    client: ClientInfo,
    challenge: Secret,
    cookie_refusal: &CookieRefusal,
    replaces: Option<String>,
) -> Continuation {
    Continuation {
        challenge: challenge.0,
        device: client.device_token.clone(),
        origin: client.into_session_origin(),
        accepted: cookie_refusal.accepted_transports_of_sign_in(),
        replaces,
    }
}

/// Reads the second factor of a request, whose method determines the field that must be present.
pub(super) fn parse_factor(
    method: MethodName,
    code: Option<Secret>,
    credential: Option<JsonObject>,
) -> Result<SecondFactor, ProblemError> {
    let code: Option<SecretText> = code.map(|code| code.0);
    let missing = |field: &str| {
        let error = FieldError::new(field, FieldCode::Required, "This field is required with this method.");
        ProblemError::fields(Code::InvalidFields, vec![error])
    };
    let missing_code = || missing("code");
    Ok(match method {
        MethodName::Totp => SecondFactor::Totp(code.ok_or_else(missing_code)?),
        MethodName::RecoveryCode => SecondFactor::RecoveryCode(code.ok_or_else(missing_code)?),
        MethodName::EmailCode => SecondFactor::EmailCode(code.ok_or_else(missing_code)?),
        MethodName::Passkey => SecondFactor::Passkey(credential.ok_or_else(|| missing("credential"))?.0),
    })
}

#[OpenApi(tag = "Tag::SignIn")]
impl SecondFactorApi {
    /// Show a second factor
    ///
    /// Continues a sign-in that was answered with `403 second_factor_required`. The challenge works once, for the same device
    /// (`X-Device-Token` or its cookie), and with the transport of the first step. A wrong code does not consume the
    /// challenge. After many wrong codes, the next attempts are delayed. A code works once.
    #[oai(path = "/v1/login/second-factor", method = "post", operation_id = "second_factor")]
    async fn second_factor(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        cookie_refusal: CookieRefusal,
        ReplacedCookie(replaced): ReplacedCookie,
        Body(request): Body<SecondFactorRequest>,
    ) -> Result<SignedInResponse, Failed<SecondFactorProblems>> {
        let factor = parse_factor(request.method, request.code, request.credential)?;
        let remember_device = request.remember_device.unwrap_or(false);
        let input = continuation(client, request.challenge, &cookie_refusal, replaced);
        match second_factor::continue_with(state, &input, &factor, remember_device).await {
            Ok(signed_in) => Ok(SignedInResponse::new(signed_in.issue_tokens(state)?, Some(signed_in.device))),
            // explains why the request's cookie was not accepted, if that is the error
            Err(error) => Err(cookie_refusal.with_reason(error).into()),
        }
    }

    /// Begin to show a passkey as the second factor
    ///
    /// Options for `navigator.credentials.get` with the passkeys of the account, for a sign-in that was answered with
    /// `403 second_factor_required`. The challenge of the sign-in is not consumed.
    #[oai(path = "/v1/login/second-factor/options", method = "post", operation_id = "second_factor_options")]
    async fn passkey_options(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        cookie_refusal: CookieRefusal,
        Body(request): Body<SecondFactorOptionsRequest>,
    ) -> Result<SecondFactorOptionsResponse, Failed<SecondFactorProblems>> {
        let replaces = None; // this call starts no session
        let input = continuation(client, request.challenge, &cookie_refusal, replaces);
        match second_factor::passkey_options(state, &input).await {
            Ok(options) => Ok(SecondFactorOptionsResponse::Ok(Json(options.into()))),
            Err(error) => Err(cookie_refusal.with_reason(error).into()),
        }
    }

    /// Send a code as the second factor
    ///
    /// Sends a code by mail, for a sign-in that was answered with `403 second_factor_required` and the method `email_code`. The code
    /// works with this challenge only. The challenge is not consumed.
    #[oai(path = "/v1/login/second-factor/code", method = "post", operation_id = "send_second_factor_code")]
    async fn send_code(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        origin: RequestOrigin,
        cookie_refusal: CookieRefusal,
        Body(request): Body<SendCodeRequest>,
    ) -> Result<CodeSentResponse, Failed<SecondFactorProblems>> {
        let replaces = None; // this call starts no session
        let input = continuation(client, request.challenge, &cookie_refusal, replaces);
        // `origin` is stated in the mail. `input.origin` is for the session, which a later call starts.
        match second_factor::send_email_code(state, &input, &origin).await {
            Ok(expires_at) => {
                let expires_in = expires_at.saturating_since(state.clock.now()).as_secs();
                Ok(CodeSentResponse::Accepted(Json(CodeSentBody { expires_in })))
            }
            Err(error) => Err(cookie_refusal.with_reason(error).into()),
        }
    }
}
