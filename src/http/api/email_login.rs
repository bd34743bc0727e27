//! `POST /v1/login/code`, `POST /v1/login/code/verify`: sign-in by a code or a link from a mail.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json, types::Example};

use super::{
    Tag,
    login::{SignedInResponse, TransportName, printable},
    recovery::{invalid_code, parse_link_or_code},
};
use crate::{
    domain::{one_time_token::TokenPurpose, session::Transport},
    http::{
        extract::{client_info::ClientInfo, cookie_refusal::CookieRefusal, json::Body},
        problem::{
            Code, Failed, ProblemError, Problems,
            groups::{COOKIE, JSON_BODY, codes},
        },
        types::Secret,
    },
    service::{
        email_login::{self, EmailLoginError},
        request_origin::RequestOrigin,
    },
    state::AppState,
};

/// Sign-in by a code or a link from a mail.
pub struct EmailLoginApi;

/// The address of the account to sign in to.
#[derive(Object)]
#[oai(example)]
struct LoginCodeRequest {
    /// The address.
    #[oai(validator(min_length = 1, max_length = 320))]
    email: String,
}

impl Example for LoginCodeRequest {
    fn example() -> Self {
        Self { email: "ada@example.com".to_owned() }
    }
}

/// The secret that the code and the link of the mail need.
#[derive(Object)]
#[oai(example)]
struct LoginCodeResponse {
    /// Send this secret with the code or the link. Keep it in the browser or app that requested the mail.
    request: String,
    /// The number of seconds for which the code and the link work.
    expires_in: u64,
}

impl Example for LoginCodeResponse {
    fn example() -> Self {
        Self { request: "lk_lr_6Zb…".to_owned(), expires_in: 600 }
    }
}

/// A code or a link, and the secret of the request.
#[derive(Object)]
#[oai(example)]
struct VerifyLoginCodeRequest {
    /// The `request` of the response to `POST /v1/login/code`.
    request: Secret,
    /// The token of the link. Without `token`, `email` and `code` are required.
    token: Option<Secret>,
    /// The address that the code was sent to.
    #[oai(validator(min_length = 1, max_length = 320))]
    email: Option<String>,
    /// The code, in upper or lower case, with or without the hyphen.
    code: Option<Secret>,
    /// How the refresh token is delivered. Default: `bearer`.
    transport: Option<TransportName>,
    /// A name for the device, shown in the list of sessions.
    #[oai(validator(max_length = 64))]
    device: Option<String>,
}

impl Example for VerifyLoginCodeRequest {
    fn example() -> Self {
        Self {
            request: Secret::masked(),
            token: None,
            email: Some("ada@example.com".to_owned()),
            code: Some(Secret::masked()),
            transport: Some(TransportName::Bearer),
            device: None,
        }
    }
}

#[derive(ApiResponse)]
enum LoginCodeSentResponse {
    /// If an account has this address, a mail is on its way. If no account has it, the response has the same form.
    #[oai(status = 202)]
    Accepted(Json<LoginCodeResponse>),
}

/// The errors of a request for a sign-in mail.
struct LoginCodeProblems;

impl Problems for LoginCodeProblems {
    const CODES: &'static [Code] = codes![JSON_BODY, [Code::LoginMethodOff, Code::TooManyRequests]];
}

/// The errors of a sign-in by mail.
struct VerifyLoginCodeProblems;

impl Problems for VerifyLoginCodeProblems {
    const CODES: &'static [Code] = codes![
        JSON_BODY,
        COOKIE,
        [
            Code::InvalidCode,
            Code::LoginMethodOff,
            Code::SecondFactorRequired,
            Code::FactorEnrolmentRequired,
            Code::PasswordRequired,
            Code::TooManyRequests
        ]
    ];
}

impl From<EmailLoginError> for ProblemError {
    fn from(error: EmailLoginError) -> Self {
        match error {
            EmailLoginError::Off => Self::new(Code::LoginMethodOff, "Sign-in by mail is off (login.email_code)."),
            EmailLoginError::InvalidToken => invalid_code(),
            EmailLoginError::SecondFactorRequired(challenge) => Self::second_factor_required(*challenge),
            EmailLoginError::EnrolmentRequired(challenge) => Self::enrolment_required(*challenge),
            EmailLoginError::PasswordRequired => password_required(),
            EmailLoginError::Service(error) => error.into(),
        }
    }
}

/// The refusal of a sign-in by mail to an account whose second factor is a code by mail: one mailbox would prove both factors.
pub(in crate::http) fn password_required() -> ProblemError {
    let detail = "The second factor of the account is a code by mail. Sign in with the password.";
    ProblemError::new(Code::PasswordRequired, detail)
}

#[OpenApi(tag = "Tag::SignIn")]
impl EmailLoginApi {
    /// Send a sign-in mail
    ///
    /// Sends a code and a link for a sign-in. Needs `login.email_code`. They work once, and only with the `request` of this
    /// response: in the browser or app that requested the mail. The response does not reveal whether an account has
    /// the address.
    #[oai(path = "/v1/login/code", method = "post", operation_id = "send_login_code")]
    async fn send(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        Body(request): Body<LoginCodeRequest>,
    ) -> Result<LoginCodeSentResponse, Failed<LoginCodeProblems>> {
        let secret = email_login::request(state, &request.email, origin).await?;
        Ok(LoginCodeSentResponse::Accepted(Json(LoginCodeResponse {
            request: secret.expose().to_owned(),
            expires_in: TokenPurpose::Login.ttl().as_secs(),
        })))
    }

    /// Sign in with a code
    ///
    /// Starts a session with a code or a link of a sign-in mail. If the address was unverified, the sign-in verifies it,
    /// removes the account's password and ends its earlier sessions: another person may have set them up. An account whose second
    /// factor is a code by mail must sign in with its password (`403 password_required`).
    #[oai(path = "/v1/login/code/verify", method = "post", operation_id = "verify_login_code")]
    async fn verify(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        cookie_refusal: CookieRefusal,
        Body(request): Body<VerifyLoginCodeRequest>,
    ) -> Result<SignedInResponse, Failed<VerifyLoginCodeProblems>> {
        let transport = request.transport.map_or(Transport::Bearer, Transport::from);
        cookie_refusal.check(transport)?;
        let presented = parse_link_or_code(request.token, "email", request.email, request.code)?;
        let request_secret = request.request.0.into();
        let known_device = client.device_token.clone();
        let origin = client.into_session_origin_with_device(request.device.map(printable));
        let (tokens, device_token) =
            email_login::verify(state, &presented, &request_secret, transport, origin, known_device.as_ref()).await?;
        Ok(SignedInResponse::new(tokens, Some(device_token)))
    }
}
