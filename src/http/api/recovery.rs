//! Links and codes of mails: `POST /v1/email/verification`, `/v1/email/verify`, `/v1/email/undo`, `/v1/password/forgot`,
//! `/v1/password/reset`, `/v1/account/secure`.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, types::Example};

use super::{Tag, account::weak_password, login::TokensResponse};
use crate::{
    domain::account::Identifier,
    http::{
        extract::{auth::MaybeSignedIn, cookie_refusal::CookieRefusal, json::Body},
        problem::{
            Code, Failed, FieldCode, FieldError, ProblemError, Problems,
            groups::{COOKIE, JSON_BODY, codes},
        },
        raw_json::RawJson,
        types::Secret,
    },
    service::{
        authenticate::AuthenticateError,
        change_email::{self, UndoError},
        forgot_password,
        one_time_tokens::PresentedToken,
        request_origin::RequestOrigin,
        reset_password::{self, ResetPasswordError},
        secure_account::{self, SecureAccountError},
        verify_email::{self, Proof, VerifyEmail, VerifyEmailError},
    },
    state::AppState,
};

/// Links and codes of mails.
pub struct RecoveryApi;

/// An e-mail address to verify.
#[derive(Object)]
#[oai(example)]
struct VerificationRequest {
    /// The address of an account.
    #[oai(validator(min_length = 1, max_length = 320))]
    email: String,
}

impl Example for VerificationRequest {
    fn example() -> Self {
        Self { email: "ada@example.com".to_owned() }
    }
}

/// A link or a code, and proof that the caller set up the account.
#[derive(Object)]
#[oai(example)]
struct VerifyEmailRequest {
    /// The token of the link. Without it, `email` and `code` are required.
    token: Option<Secret>,
    /// The address that the code was sent to.
    #[oai(validator(min_length = 1, max_length = 320))]
    email: Option<String>,
    /// The code, in any case, with or without the hyphen.
    code: Option<Secret>,
    /// The account's password. Not needed with an access token of the account.
    password: Option<Secret>,
    /// A new password, for a caller who does not know the account's. Ends all sessions of the account.
    new_password: Option<Secret>,
}

impl Example for VerifyEmailRequest {
    fn example() -> Self {
        Self {
            token: Some(Secret::masked()),
            email: None,
            code: None,
            password: Some(Secret::masked()),
            new_password: None,
        }
    }
}

/// An account whose owner has forgotten the password.
#[derive(Object)]
#[oai(example)]
struct ForgotPasswordRequest {
    /// The account's e-mail address or username, in any case.
    #[oai(validator(min_length = 1, max_length = 320))]
    identifier: String,
}

impl Example for ForgotPasswordRequest {
    fn example() -> Self {
        Self { identifier: "ada@example.com".to_owned() }
    }
}

/// A link or a code, and the new password.
#[derive(Object)]
#[oai(example)]
struct ResetPasswordRequest {
    /// The token of the link. Without it, `identifier` and `code` are required.
    token: Option<Secret>,
    /// The account's e-mail address or username.
    #[oai(validator(min_length = 1, max_length = 320))]
    identifier: Option<String>,
    /// The code, in any case, with or without the hyphen.
    code: Option<Secret>,
    /// The new password: {password.min_length} to {password.max_length} characters of any kind, 15 or more recommended.
    /// Common and guessable passwords are refused.
    new_password: Secret,
}

impl Example for ResetPasswordRequest {
    fn example() -> Self {
        Self { token: Some(Secret::masked()), identifier: None, code: None, new_password: Secret::masked() }
    }
}

/// The token of a link.
#[derive(Object)]
#[oai(example)]
struct LinkRequest {
    /// The token of the link.
    token: Secret,
}

impl Example for LinkRequest {
    fn example() -> Self {
        Self { token: Secret::masked() }
    }
}

#[derive(ApiResponse)]
enum SentResponse {
    /// If the account exists, a mail is on its way. The response is the same if it does not exist.
    #[oai(status = 202)]
    Accepted,
}

#[derive(ApiResponse)]
enum VerifiedResponse {
    /// A signed-in caller has verified another address than the primary one. All former sessions of the account have ended. The
    /// body has the tokens of the caller's new session.
    #[oai(status = 200)]
    Replaced(
        RawJson<TokensResponse>,
        /// The refresh cookie, if the calling session had the transport `cookie`.
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
    /// The address is verified.
    #[oai(status = 204)]
    Done,
}

#[derive(ApiResponse)]
enum DoneResponse {
    /// Done.
    #[oai(status = 204)]
    Done,
}

/// The errors of a request for a mail.
struct SendProblems;

impl Problems for SendProblems {
    const CODES: &'static [Code] = codes![JSON_BODY, [Code::TooManyRequests]];
}

/// The errors of a verification.
struct VerifyEmailProblems;

impl Problems for VerifyEmailProblems {
    const CODES: &'static [Code] = codes![
        JSON_BODY,
        COOKIE,
        [
            Code::InvalidToken,
            Code::ClaimsChanged,
            Code::InvalidCode,
            Code::ProofRequired,
            Code::WrongPassword,
            Code::EmailTaken,
            Code::WeakPassword,
            Code::TooManyRequests
        ]
    ];
}

impl From<VerifyEmailError> for ProblemError {
    fn from(error: VerifyEmailError) -> Self {
        let field_problem = |code, name: &str, field_code, detail: &str| {
            Self::fields(code, vec![FieldError::new(name, field_code, detail)])
        };
        match error {
            VerifyEmailError::InvalidToken => invalid_code(),
            VerifyEmailError::ProofRequired => Self::new(
                Code::ProofRequired,
                "Another person may have set up this account. Send an access token of the account or its password, or a \
                 new password, which ends all its sessions.",
            ),
            VerifyEmailError::WrongPassword => {
                let detail = "This is not the account's password.";
                field_problem(Code::WrongPassword, "password", FieldCode::WrongPassword, detail)
            }
            VerifyEmailError::WeakPassword(reason) => weak_password("new_password", &reason),
            VerifyEmailError::EmailTaken => {
                let detail = "Another account has verified this e-mail address.";
                field_problem(Code::EmailTaken, "email", FieldCode::Taken, detail)
            }
            VerifyEmailError::SessionEnded => AuthenticateError::InvalidToken.into(),
            VerifyEmailError::CookieNotAccepted => Self::cookie_not_accepted(),
            VerifyEmailError::Service(error) => error.into(),
        }
    }
}

/// The errors of a password reset.
struct ResetProblems;

impl Problems for ResetProblems {
    const CODES: &'static [Code] = codes![JSON_BODY, [Code::InvalidCode, Code::WeakPassword, Code::TooManyRequests]];
}

impl From<ResetPasswordError> for ProblemError {
    fn from(error: ResetPasswordError) -> Self {
        match error {
            ResetPasswordError::InvalidToken => invalid_code(),
            ResetPasswordError::WeakPassword(reason) => weak_password("new_password", &reason),
            ResetPasswordError::Service(error) => error.into(),
        }
    }
}

/// The errors of using a link.
struct LinkProblems;

impl Problems for LinkProblems {
    const CODES: &'static [Code] = codes![JSON_BODY, [Code::InvalidCode, Code::EmailTaken, Code::TooManyRequests]];
}

impl From<UndoError> for ProblemError {
    fn from(error: UndoError) -> Self {
        match error {
            UndoError::InvalidToken => invalid_code(),
            UndoError::EmailTaken => Self::new(Code::EmailTaken, "Another account has verified the former address."),
            UndoError::Service(error) => error.into(),
        }
    }
}

impl From<SecureAccountError> for ProblemError {
    fn from(error: SecureAccountError) -> Self {
        match error {
            SecureAccountError::InvalidToken => invalid_code(),
            SecureAccountError::Service(error) => error.into(),
        }
    }
}

/// The problem of a link or a code that does not work.
pub(in crate::http) fn invalid_code() -> ProblemError {
    let detail = "The link or the code was used before or has expired, or the account has changed. Ask for a new mail.";
    ProblemError::new(Code::InvalidCode, detail)
}

/// Returns the token of a link, or else a code with the account that it was sent to. `identifier_name` is the name of the field that
/// contains `identifier`.
pub(in crate::http) fn parse_link_or_code(
    token: Option<Secret>,
    identifier_name: &str,
    identifier: Option<String>,
    code: Option<Secret>,
) -> Result<PresentedToken, ProblemError> {
    match (token, identifier, code) {
        (Some(token), _, _) => Ok(PresentedToken::Link(token.0)),
        (None, Some(identifier), Some(code)) => {
            Ok(PresentedToken::Code { identifier: Identifier::parse(&identifier), code: code.0 })
        }
        _ => {
            let detail = format!("Send the token of the link, or {identifier_name} and code.");
            Err(ProblemError::fields(
                Code::InvalidFields,
                vec![FieldError::new("token", FieldCode::TokenOrCode, detail)],
            ))
        }
    }
}

#[OpenApi(tag = "Tag::Account")]
impl RecoveryApi {
    /// Send a verification mail
    ///
    /// Sends a link and a code that verify the address of an account. The response is always the same.
    #[oai(path = "/v1/email/verification", method = "post", operation_id = "send_email_verification")]
    async fn send_verification(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        Body(request): Body<VerificationRequest>,
    ) -> Result<SentResponse, Failed<SendProblems>> {
        verify_email::request(state, &request.email, origin).await?;
        Ok(SentResponse::Accepted)
    }

    /// Verify an e-mail address
    ///
    /// Verifies the address of an account, or confirms its new address, with the link or the code that was sent there. A link
    /// and a code work once.
    ///
    /// Another person may have registered the address, and wait for its owner to verify it. So the caller also shows that they
    /// set up the account, by an access token or the password. Otherwise the caller sets a new password: the former password
    /// stops working, and all sessions end.
    #[oai(path = "/v1/email/verify", method = "post", operation_id = "verify_email")]
    async fn verify(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        cookie_refusal: CookieRefusal,
        MaybeSignedIn(caller): MaybeSignedIn,
        Body(request): Body<VerifyEmailRequest>,
    ) -> Result<VerifiedResponse, Failed<VerifyEmailProblems>> {
        // With a new password, the caller need not know the account's. The field `password` is then ignored.
        let proof = match (request.new_password, request.password) {
            (Some(new), _) => {
                let new = state.passwords.check_new(new.0).map_err(|reason| weak_password("new_password", &reason))?;
                Proof::NewPassword(new)
            }
            (None, Some(password)) => Proof::Password(password.0),
            (None, None) => Proof::None,
        };
        let input = VerifyEmail {
            presented: parse_link_or_code(request.token, "email", request.email, request.code)?,
            proof,
            caller: caller.as_deref().map(|caller| &caller.claims),
            accepted: cookie_refusal.accepted_transport(),
            origin,
        };
        let result = verify_email::verify_email(state, input).await;
        let new_session = result.map_err(|error| cookie_refusal.with_reason(error))?;
        Ok(match new_session {
            Some(tokens) => {
                let (body, cookie) = TokensResponse::with_cookie(tokens);
                VerifiedResponse::Replaced(body, cookie)
            }
            None => VerifiedResponse::Done,
        })
    }

    /// Undo a change of the e-mail address
    ///
    /// Uses the link in the mail to the former address. The account has the former address again, its password stops working,
    /// and all its sessions end. The former address gets a mail with a link that sets a new password.
    #[oai(path = "/v1/email/undo", method = "post", operation_id = "undo_email_change")]
    async fn undo(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        Body(request): Body<LinkRequest>,
    ) -> Result<DoneResponse, Failed<LinkProblems>> {
        change_email::undo(state, &request.token.0, &origin).await?;
        Ok(DoneResponse::Done)
    }

    /// Send a password reset mail
    ///
    /// Sends a link and a code that set a new password. The response is always the same.
    #[oai(path = "/v1/password/forgot", method = "post", operation_id = "forgot_password")]
    async fn forgot(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        Body(request): Body<ForgotPasswordRequest>,
    ) -> Result<SentResponse, Failed<SendProblems>> {
        forgot_password::forgot_password(state, &Identifier::parse(&request.identifier), origin).await?;
        Ok(SentResponse::Accepted)
    }

    /// Reset the password
    ///
    /// Sets a new password with the link or the code of a mail: after a forgotten password, an invitation, or an import without
    /// passwords. The address is verified, all sessions of the account end, and the owner gets a mail. Each link and code works
    /// once.
    #[oai(path = "/v1/password/reset", method = "post", operation_id = "reset_password")]
    async fn reset(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        Body(request): Body<ResetPasswordRequest>,
    ) -> Result<DoneResponse, Failed<ResetProblems>> {
        let new = state
            .passwords
            .check_new(request.new_password.0)
            .map_err(|reason| weak_password("new_password", &reason))?;
        let presented = parse_link_or_code(request.token, "identifier", request.identifier, request.code)?;
        reset_password::reset_password(state, &presented, new, &origin).await?;
        Ok(DoneResponse::Done)
    }

    /// Report an action as not yours
    ///
    /// Uses the link of a notice, such as the mail about a new device. The password stops working, all sessions end, and a mail
    /// with a link that sets a new password goes to the account's address.
    #[oai(path = "/v1/account/secure", method = "post", operation_id = "secure_account")]
    async fn secure(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        Body(request): Body<LinkRequest>,
    ) -> Result<DoneResponse, Failed<LinkProblems>> {
        secure_account::secure_account(state, &request.token.0, &origin).await?;
        Ok(DoneResponse::Done)
    }
}
