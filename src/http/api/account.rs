//! `POST /v1/users`, `POST /v1/me/password`.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json, types::Example};

use super::{Tag, login::TokensResponse, me::AccountResponse};
use crate::{
    domain::{
        account::{Email, Roles, Username},
        secret::SecretText,
    },
    http::{
        extract::{
            auth::{MaybeSignedIn, SignedIn},
            cookie_refusal::CookieRefusal,
            json::Body,
        },
        problem::{
            Code, Failed, FieldCode, FieldError, ProblemError, Problems,
            groups::{COOKIE, JSON_BODY, RECENT, codes},
            sentence,
        },
        raw_json::RawJson,
        types::Secret,
    },
    password::WeakPassword,
    service::{
        authenticate::AuthenticateError,
        change_password::{self, ChangePasswordError},
        register::{self, Register, RegisterError},
        request_origin::RequestOrigin,
    },
    state::AppState,
};

/// The account API.
pub struct AccountApi;

/// A new account.
#[derive(Object)]
#[oai(example)]
struct RegisterRequest {
    /// The account's e-mail address. Unique, regardless of case.
    #[oai(validator(min_length = 1, max_length = 254))]
    email: String,
    /// A second identifier to sign in with: letters, digits, `.`, `_` and `-`. Unique, regardless of case.
    #[oai(validator(min_length = 1, max_length = 64))]
    username: Option<String>,
    /// The password: {password.min_length} to {password.max_length} characters of any kind, 15 or more recommended. Common
    /// and guessable passwords are refused.
    password: Secret,
}

impl Example for RegisterRequest {
    fn example() -> Self {
        Self { email: "ada@example.com".to_owned(), username: Some("ada".to_owned()), password: Secret::masked() }
    }
}

/// The current and the new password.
#[derive(Object)]
#[oai(example)]
struct ChangePasswordRequest {
    /// The current password.
    current_password: Secret,
    /// The new password: {password.min_length} to {password.max_length} characters of any kind, 15 or more recommended.
    /// Common and guessable passwords are refused.
    new_password: Secret,
}

impl Example for ChangePasswordRequest {
    fn example() -> Self {
        Self { current_password: Secret::masked(), new_password: Secret::masked() }
    }
}

#[derive(ApiResponse)]
enum RegisteredResponse {
    /// The account was created.
    #[oai(status = 201)]
    Created(Json<AccountResponse>),
}

#[derive(ApiResponse)]
enum ChangedResponse {
    /// The password was changed, and all former sessions of the account have ended. The body has the tokens of the new session.
    #[oai(status = 200)]
    Ok(
        RawJson<TokensResponse>,
        /// The refresh cookie, if the calling session had the transport `cookie`.
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

/// The errors of a registration.
struct RegisterProblems;

impl Problems for RegisterProblems {
    const CODES: &'static [Code] = codes![
        JSON_BODY,
        [
            Code::InvalidToken,
            Code::ClaimsChanged,
            Code::RegistrationClosed,
            Code::EmailTaken,
            Code::UsernameTaken,
            Code::WeakPassword,
            Code::TooManyRequests
        ]
    ];
}

/// The refusal of a weak password that was sent as `field`.
pub(in crate::http) fn weak_password(field: &str, reason: &WeakPassword) -> ProblemError {
    ProblemError::fields(Code::WeakPassword, vec![FieldError::new(field, reason.into(), reason.to_string())])
}

impl From<RegisterError> for ProblemError {
    fn from(error: RegisterError) -> Self {
        let taken = |code, field: &str, error: &RegisterError| {
            Self::fields(code, vec![FieldError::new(field, FieldCode::Taken, error.to_string())])
        };
        match error {
            RegisterError::Closed => Self::new(Code::RegistrationClosed, "Only an admin may register accounts."),
            RegisterError::EmailTaken => taken(Code::EmailTaken, "email", &error),
            RegisterError::UsernameTaken => taken(Code::UsernameTaken, "username", &error),
            RegisterError::UsernameNotYet => {
                // A taken username would reveal an account (`registration.conceal`).
                let detail = "A username can be chosen after the first sign-in.";
                let field = FieldError::new("username", FieldCode::UsernameNotYet, detail);
                Self::fields(Code::InvalidFields, vec![field])
            }
            RegisterError::UsernameReserved => {
                let field = FieldError::new("username", FieldCode::UsernameReserved, "The username is reserved.");
                Self::fields(Code::InvalidFields, vec![field])
            }
            RegisterError::WeakPassword(reason) => weak_password("password", &reason),
            RegisterError::Service(error) => error.into(),
        }
    }
}

/// The errors of changing the password.
struct ChangePasswordProblems;

impl Problems for ChangePasswordProblems {
    const CODES: &'static [Code] =
        codes![JSON_BODY, RECENT, COOKIE, [Code::WrongPassword, Code::WeakPassword, Code::TooManyRequests]];
}

impl From<ChangePasswordError> for ProblemError {
    fn from(error: ChangePasswordError) -> Self {
        match error {
            ChangePasswordError::NoAccount | ChangePasswordError::SessionEnded => {
                AuthenticateError::InvalidToken.into()
            }
            ChangePasswordError::CookieNotAccepted => ProblemError::cookie_not_accepted(),
            ChangePasswordError::WrongPassword => {
                let detail = "This is not the current password.";
                let field = FieldError::new("current_password", FieldCode::WrongPassword, detail);
                Self::fields(Code::WrongPassword, vec![field])
            }
            ChangePasswordError::WeakPassword(reason) => weak_password("new_password", &reason),
            ChangePasswordError::Service(error) => error.into(),
        }
    }
}

#[OpenApi(tag = "Tag::Account")]
impl AccountApi {
    /// Register an account
    ///
    /// Open to anyone, or to admins only if registration is closed. The response to an invalid request lists all invalid fields.
    #[oai(path = "/v1/users", method = "post", operation_id = "register")]
    async fn register(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        MaybeSignedIn(token): MaybeSignedIn,
        Body(request): Body<RegisterRequest>,
    ) -> Result<RegisteredResponse, Failed<RegisterProblems>> {
        let caller = token.as_deref().map(|token| &token.claims);
        // First, so that a closed registration is reported before invalid fields.
        register::check_may_register(state, caller).await?;
        let RegisterRequest { email, username, password } = request;
        let input = parse_register(state, RegisterFields { email, username, password: password.0 })?;
        let account = register::register_for_client(state, input, caller, origin).await?;
        Ok(RegisteredResponse::Created(Json(account.into())))
    }

    /// Change the password
    ///
    /// Requires the current password. All sessions of the account end in the same step, and a new one takes the place of the
    /// calling session: the response contains its tokens, as after a sign-in. The calling session's earlier tokens,
    /// copies included, stop working on every node.
    ///
    /// If the account has an authenticator app or a passkey, the session must have reached the level `aal2` within the last
    /// {session.recent}.
    #[oai(path = "/v1/me/password", method = "post", operation_id = "change_password")]
    async fn change_password(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        cookie_refusal: CookieRefusal,
        SignedIn(caller): SignedIn,
        Body(request): Body<ChangePasswordRequest>,
    ) -> Result<ChangedResponse, Failed<ChangePasswordProblems>> {
        let current = request.current_password.0;
        let new = request.new_password.0;
        let accepted_transport = cookie_refusal.accepted_transport();
        let changed = change_password::change_password(state, &caller, current, new, origin, accepted_transport).await;
        let tokens = changed.map_err(|error| cookie_refusal.with_reason(error))?;
        let (body, cookie) = TokensResponse::with_cookie(tokens);
        Ok(ChangedResponse::Ok(body, cookie))
    }
}

/// The fields of a registration, as they were sent.
pub(in crate::http) struct RegisterFields {
    /// The address.
    pub(in crate::http) email: String,
    /// The username, if one was chosen.
    pub(in crate::http) username: Option<String>,
    /// The password.
    pub(in crate::http) password: SecretText,
}

/// Parses the fields of a registration, and reports all invalid ones together. Later steps check the strength of the password, and
/// whether the address or the username is taken.
pub(in crate::http) fn parse_register(state: &AppState, request: RegisterFields) -> Result<Register, ProblemError> {
    let mut errors = Vec::new();
    let email = Email::parse(&request.email);
    if let Err(error) = &email {
        errors.push(FieldError::new("email", error.into(), sentence(error)));
    }
    let username = request.username.as_deref().map(Username::parse).transpose();
    if let Err(error) = &username {
        errors.push(FieldError::new("username", error.into(), sentence(error)));
    }
    let password = state.passwords.check_new(request.password);
    match (email, username, password) {
        (Ok(email), Ok(username), Ok(password)) => Ok(Register { email, username, password, roles: Roles::default() }),
        // If only the password is refused, the problem is `weak_password`. Otherwise it is `invalid_fields`.
        (Ok(_), Ok(_), Err(reason)) => Err(weak_password("password", &reason)),
        (_, _, password) => {
            if let Err(reason) = &password {
                errors.push(FieldError::new("password", reason.into(), reason.to_string()));
            }
            Err(ProblemError::fields(Code::InvalidFields, errors))
        }
    }
}
