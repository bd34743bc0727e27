//! `POST /v1/login/enrolment/…`: sets up the second factor that a sign-in waits for.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json, types::Example};

use super::{
    Tag,
    factors::FactorTokensResponse,
    login::printable,
    passkey_objects::{AddPasskeyRequest, OptionsResponse, parse_name},
    second_factor::continuation,
    totp::TotpEnrolmentResponse,
};
use crate::{
    http::{
        extract::{auth::ReplacedCookie, client_info::ClientInfo, cookie_refusal::CookieRefusal, json::Body},
        problem::{
            Code, Failed, ProblemError, Problems,
            groups::{COOKIE, JSON_BODY, codes},
        },
        raw_json::RawJson,
        types::{JsonObject, Secret},
    },
    service::{
        request_origin::RequestOrigin,
        sign_in::enrolment::{self, EnrolPasskeyError, Enrolled},
    },
    state::AppState,
};

/// Sets up the second factor that an account must have and lacks.
pub struct EnrolmentApi;

/// A challenge for setting up an authenticator app.
#[derive(Object)]
#[oai(example)]
struct StartEnrolmentRequest {
    /// The `challenge` of the response `403 factor_enrolment_required`.
    challenge: Secret,
    /// A name for the app or the device that it is on.
    #[oai(validator(max_length = 64))]
    label: Option<String>,
}

impl Example for StartEnrolmentRequest {
    fn example() -> Self {
        Self { challenge: Secret::masked(), label: Some("Ada's phone".to_owned()) }
    }
}

/// A challenge for setting up an authenticator app, and the app's first code.
#[derive(Object)]
#[oai(example)]
struct ConfirmEnrolmentRequest {
    /// The `challenge` of the response `403 factor_enrolment_required`.
    challenge: Secret,
    /// The code that the app shows.
    code: Secret,
}

impl Example for ConfirmEnrolmentRequest {
    fn example() -> Self {
        Self { challenge: Secret::masked(), code: Secret::masked() }
    }
}

/// A challenge for setting up a passkey.
#[derive(Object)]
#[oai(example)]
struct PasskeyEnrolmentOptionsRequest {
    /// The `challenge` of the response `403 factor_enrolment_required`.
    challenge: Secret,
}

impl Example for PasskeyEnrolmentOptionsRequest {
    fn example() -> Self {
        Self { challenge: Secret::masked() }
    }
}

/// A challenge for setting up a passkey, and the passkey.
#[derive(Object)]
#[oai(example)]
struct EnrolPasskeyRequest {
    /// The `challenge` of the response `403 factor_enrolment_required`.
    challenge: Secret,
    /// A name for the passkey: 1 to 64 characters.
    #[oai(validator(min_length = 1, max_length = 64))]
    name: String,
    /// The `PublicKeyCredential` of `navigator.credentials.create`, in its JSON form (`toJSON`).
    credential: JsonObject,
}

impl Example for EnrolPasskeyRequest {
    fn example() -> Self {
        let AddPasskeyRequest { name, credential } = AddPasskeyRequest::example();
        Self { challenge: Secret::masked(), name, credential }
    }
}

#[derive(ApiResponse)]
enum EnrolmentStartedResponse {
    /// The secret, to be opened in an authenticator app.
    #[oai(status = 200)]
    Ok(Json<TotpEnrolmentResponse>),
}

#[derive(ApiResponse)]
enum EnrolledResponse {
    /// The session's tokens, and the recovery codes, which are never shown again.
    #[oai(status = 200)]
    Ok(
        RawJson<FactorTokensResponse>,
        /// The refresh cookie, with the transport `cookie`.
        #[oai(header = "Set-Cookie")]
        Option<String>,
        /// A token by which the account recognizes this device, as after a sign-in.
        #[oai(header = "X-Device-Token")]
        Option<String>,
    ),
}

/// The errors of setting up an authenticator app at a sign-in.
struct TotpProblems;

impl Problems for TotpProblems {
    const CODES: &'static [Code] =
        codes![JSON_BODY, COOKIE, [Code::InvalidChallenge, Code::InvalidCode, Code::TooManyRequests]];
}

/// The errors of setting up a passkey at a sign-in.
struct PasskeyProblems;

impl Problems for PasskeyProblems {
    const CODES: &'static [Code] = codes![
        JSON_BODY,
        COOKIE,
        [
            Code::InvalidChallenge,
            Code::LoginMethodOff,
            Code::PasskeyModelNotAllowed,
            Code::PasskeyExists,
            Code::TooManyPasskeys,
            Code::PasskeyRejected,
            Code::TooManyRequests
        ]
    ];
}

impl From<EnrolPasskeyError> for ProblemError {
    fn from(error: EnrolPasskeyError) -> Self {
        match error {
            EnrolPasskeyError::SignIn(error) => error.into(),
            EnrolPasskeyError::Passkey(error) => error.into(),
            EnrolPasskeyError::Service(error) => error.into(),
        }
    }
}

/// The response to a sign-in that is complete because the factor was set up.
fn enrolled_response<P: Problems>(state: &AppState, enrolled: Enrolled) -> Result<EnrolledResponse, Failed<P>> {
    let Enrolled { signed_in, recovery_codes } = enrolled;
    let tokens = signed_in.issue_tokens(state)?;
    let (body, cookie) = FactorTokensResponse::with_cookie(tokens, recovery_codes);
    let device_token = signed_in.device.expose().to_owned();
    Ok(EnrolledResponse::Ok(body, cookie, Some(device_token)))
}

#[OpenApi(tag = "Tag::SignIn")]
impl EnrolmentApi {
    /// Start to set up a required authenticator app
    ///
    /// For a sign-in that was answered with `403 factor_enrolment_required`: the account must have a second factor and has none.
    /// Returns the secret for an authenticator app. The challenge allows nothing but setting up one of the `methods` of the `403` response.
    #[oai(path = "/v1/login/enrolment/totp", method = "post", operation_id = "start_totp_enrolment")]
    async fn start_totp(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        cookie_refusal: CookieRefusal,
        Body(request): Body<StartEnrolmentRequest>,
    ) -> Result<EnrolmentStartedResponse, Failed<TotpProblems>> {
        let replaced = None; // This call starts no session.
        let input = continuation(client, request.challenge, &cookie_refusal, replaced);
        match enrolment::start_totp(state, &input, request.label.map(printable)).await {
            Ok(enrolment) => Ok(EnrolmentStartedResponse::Ok(Json(enrolment.into()))),
            Err(error) => Err(cookie_refusal.with_reason(error).into()),
        }
    }

    /// Confirm a required authenticator app
    ///
    /// Completes the sign-in with the app's first code. Also returns ten recovery codes, each of which replaces the app once.
    #[oai(path = "/v1/login/enrolment/totp/confirm", method = "post", operation_id = "confirm_totp_enrolment")]
    async fn confirm_totp(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        origin: RequestOrigin,
        cookie_refusal: CookieRefusal,
        ReplacedCookie(replaced): ReplacedCookie,
        Body(request): Body<ConfirmEnrolmentRequest>,
    ) -> Result<EnrolledResponse, Failed<TotpProblems>> {
        let input = continuation(client, request.challenge, &cookie_refusal, replaced);
        match enrolment::confirm_totp(state, &input, &request.code.0, &origin).await {
            Ok(enrolled) => enrolled_response(state, enrolled),
            Err(error) => Err(cookie_refusal.with_reason(error).into()),
        }
    }

    /// Begin to register a required passkey
    ///
    /// Options for `navigator.credentials.create`, for a sign-in that was answered with `403 factor_enrolment_required` and the
    /// method `passkey`. Their challenge works once, within {passkeys.timeout}, and for this sign-in only. The challenge of the
    /// sign-in is not consumed.
    #[oai(path = "/v1/login/enrolment/passkey/options", method = "post", operation_id = "passkey_enrolment_options")]
    async fn passkey_options(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        cookie_refusal: CookieRefusal,
        Body(request): Body<PasskeyEnrolmentOptionsRequest>,
    ) -> Result<OptionsResponse, Failed<PasskeyProblems>> {
        let replaced = None; // This call starts no session.
        let input = continuation(client, request.challenge, &cookie_refusal, replaced);
        match enrolment::passkey_options(state, &input).await {
            Ok(options) => Ok(OptionsResponse::Ok(Json(options.into()))),
            Err(error) => Err(cookie_refusal.with_reason(error).into()),
        }
    }

    /// Register a required passkey
    ///
    /// Completes the sign-in with the credential that the authenticator has made. Also returns ten recovery codes, each of which
    /// replaces the passkey once. A refused credential leaves the challenge of the sign-in as it is: begin again with new options.
    #[oai(path = "/v1/login/enrolment/passkey", method = "post", operation_id = "enrol_passkey")]
    async fn register_passkey(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        origin: RequestOrigin,
        cookie_refusal: CookieRefusal,
        ReplacedCookie(replaced): ReplacedCookie,
        Body(request): Body<EnrolPasskeyRequest>,
    ) -> Result<EnrolledResponse, Failed<PasskeyProblems>> {
        let name = parse_name(&request.name)?;
        let input = continuation(client, request.challenge, &cookie_refusal, replaced);
        match enrolment::register_passkey(state, &input, request.credential.0, name, &origin).await {
            Ok(enrolled) => enrolled_response(state, enrolled),
            Err(error) => Err(cookie_refusal.with_reason(error).into()),
        }
    }
}
