//! `POST /v1/users`, `GET /v1/me`, `POST /v1/me/password`.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json, types::Example};
use uuid::Uuid;

use super::Tag;
use crate::{
    domain::{
        account::{Account, Email, Roles, Username},
        clock::Timestamp,
    },
    http::{
        extract::auth::{MaybeSignedIn, SignedIn},
        extract::client_info::ClientInfo,
        extract::json::Body,
        problem::{Code, Failed, FieldError, ProblemError, Problems},
        types::{Secret, Time},
    },
    password::WeakPassword,
    service::{
        authenticate::{self, AuthenticateError},
        change_password::{self, ChangePasswordError},
        register::{self, Register, RegisterError},
    },
    state::AppState,
};

/// Accounts, as their owners see them.
pub struct AccountApi;

/// Who wants to register.
#[derive(Object)]
#[oai(example)]
struct RegisterRequest {
    /// The account's e-mail address. Unique; upper and lower case are the same.
    #[oai(validator(max_length = 254))]
    email: String,
    /// A name to sign in with beside the e-mail address: letters, digits, `.`, `_` and `-`. Unique; upper and lower case
    /// are the same.
    #[oai(validator(max_length = 64))]
    username: Option<String>,
    /// The password: 8 to 128 characters of any kind, 15 or more advised. Common and guessable ones are refused.
    password: Secret,
}

impl Example for RegisterRequest {
    fn example() -> Self {
        Self {
            email: "ada@example.com".to_owned(),
            username: Some("ada".to_owned()),
            password: Secret("correct horse battery staple".into()),
        }
    }
}

/// A password and the one that shall take its place.
#[derive(Object)]
#[oai(example)]
struct ChangePasswordRequest {
    /// The password until now.
    current_password: Secret,
    /// The password from now on: 8 to 128 characters of any kind, 15 or more advised. Common and guessable ones are
    /// refused.
    new_password: Secret,
}

impl Example for ChangePasswordRequest {
    fn example() -> Self {
        Self {
            current_password: Secret("correct horse battery staple".into()),
            new_password: Secret("tidal engine verse marmalade".into()),
        }
    }
}

/// An account.
#[derive(Object)]
#[oai(skip_serializing_if_is_none, example)]
struct AccountResponse {
    /// Its id: the `sub` of its access tokens. Never another account's.
    id: Uuid,
    /// Its e-mail address, as it was written.
    email: String,
    /// Its username, if it has one.
    username: Option<String>,
    /// Its roles, as in the `roles` of its access tokens.
    roles: Vec<String>,
    /// When it was made.
    created_at: Time,
    /// When its password was last changed.
    password_changed_at: Time,
}

impl Example for AccountResponse {
    fn example() -> Self {
        let then = Timestamp::from_millis(1_767_225_600_000);
        Self {
            id: Uuid::from_u128(0x019b_7a63_2c00_7b1e_8c55_0d6f_3a1b_9e21),
            email: "ada@example.com".to_owned(),
            username: Some("ada".to_owned()),
            roles: Vec::new(),
            created_at: then.into(),
            password_changed_at: then.into(),
        }
    }
}

impl From<Account> for AccountResponse {
    fn from(account: Account) -> Self {
        Self {
            id: account.id.0,
            email: account.email.as_str().to_owned(),
            username: account.username.map(|name| name.as_str().to_owned()),
            roles: account.roles.names().to_vec(),
            created_at: account.created_at.into(),
            password_changed_at: account.password_changed_at.into(),
        }
    }
}

#[derive(ApiResponse)]
enum RegisteredResponse {
    /// The account was made.
    #[oai(status = 201)]
    Created(Json<AccountResponse>),
}

#[derive(ApiResponse)]
enum MeResponse {
    /// The account.
    #[oai(status = 200)]
    Ok(Json<AccountResponse>),
}

#[derive(ApiResponse)]
enum ChangedResponse {
    /// The password was changed, and all other sessions of the account have ended.
    #[oai(status = 204)]
    Done,
}

/// What registering can be refused with.
struct RegisterProblems;

impl Problems for RegisterProblems {
    const CODES: &'static [Code] = &[
        Code::MalformedRequest,
        Code::InvalidToken,
        Code::RegistrationClosed,
        Code::EmailTaken,
        Code::UsernameTaken,
        Code::UnsupportedMediaType,
        Code::InvalidFields,
        Code::WeakPassword,
        Code::TooManyRequests,
    ];
}

fn weak(field: &str, weak: &WeakPassword) -> ProblemError {
    ProblemError::fields(Code::WeakPassword, vec![FieldError::new(field, weak.code(), weak.to_string())])
}

impl From<RegisterError> for Failed<RegisterProblems> {
    fn from(error: RegisterError) -> Self {
        let field = |code, name: &str, error: &RegisterError| {
            ProblemError::fields(code, vec![FieldError::new(name, "taken", error.to_string())]).into()
        };
        match error {
            RegisterError::Closed => Self::new(Code::RegistrationClosed, "Only an admin may make accounts here."),
            RegisterError::EmailTaken => field(Code::EmailTaken, "email", &error),
            RegisterError::UsernameTaken => field(Code::UsernameTaken, "username", &error),
            RegisterError::WeakPassword(reason) => weak("password", &reason).into(),
            RegisterError::Service(failure) => failure.into(),
        }
    }
}

/// What reading the account can be refused with.
struct MeProblems;

impl Problems for MeProblems {
    const CODES: &'static [Code] = &[Code::AuthenticationRequired, Code::InvalidToken];
}

impl From<AuthenticateError> for Failed<MeProblems> {
    fn from(error: AuthenticateError) -> Self {
        ProblemError::from(error).into()
    }
}

/// What changing the password can be refused with.
struct ChangePasswordProblems;

impl Problems for ChangePasswordProblems {
    const CODES: &'static [Code] = &[
        Code::MalformedRequest,
        Code::AuthenticationRequired,
        Code::InvalidToken,
        Code::WrongPassword,
        Code::UnsupportedMediaType,
        Code::InvalidFields,
        Code::WeakPassword,
        Code::TooManyRequests,
    ];
}

impl From<ChangePasswordError> for Failed<ChangePasswordProblems> {
    fn from(error: ChangePasswordError) -> Self {
        match error {
            ChangePasswordError::NoAccount | ChangePasswordError::SessionEnded => {
                ProblemError::from(AuthenticateError::InvalidToken).into()
            }
            ChangePasswordError::WrongPassword => {
                Self::new(Code::WrongPassword, "The current password is not the account's.")
            }
            ChangePasswordError::WeakPassword(reason) => weak("new_password", &reason).into(),
            ChangePasswordError::Service(failure) => failure.into(),
        }
    }
}

#[OpenApi(tag = "Tag::Account")]
impl AccountApi {
    /// Register an account
    ///
    /// Open to anyone, or to admins only where registration is closed.
    #[oai(path = "/v1/users", method = "post", operation_id = "register")]
    async fn register(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        MaybeSignedIn(caller): MaybeSignedIn,
        Body(request): Body<RegisterRequest>,
    ) -> Result<RegisteredResponse, Failed<RegisterProblems>> {
        let caller = caller.as_deref().map(|caller| &caller.claims);
        register::may_register(state, caller).await?;
        let input = parse(request)?;
        let account = register::register_from(state, input, caller, client.ip).await?;
        Ok(RegisteredResponse::Created(Json(account.into())))
    }

    /// Read the account
    ///
    /// The account of the access token.
    #[oai(path = "/v1/me", method = "get", operation_id = "me")]
    async fn me(
        &self,
        Data(state): Data<&Arc<AppState>>,
        SignedIn(caller): SignedIn,
    ) -> Result<MeResponse, Failed<MeProblems>> {
        Ok(MeResponse::Ok(Json(authenticate::me(state, &caller).await?.into())))
    }

    /// Change the password
    ///
    /// Needs the current password. All other sessions of the account end in the same step; the one that calls goes on.
    #[oai(path = "/v1/me/password", method = "post", operation_id = "change_password")]
    async fn change_password(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        SignedIn(caller): SignedIn,
        Body(request): Body<ChangePasswordRequest>,
    ) -> Result<ChangedResponse, Failed<ChangePasswordProblems>> {
        let (current, new) = (request.current_password.0, request.new_password.0);
        change_password::change_password(state, &caller, current, new, client.ip).await?;
        Ok(ChangedResponse::Done)
    }
}

fn parse(request: RegisterRequest) -> Result<Register, ProblemError> {
    let mut wrong = Vec::new();
    let email = Email::parse(&request.email);
    if let Err(error) = &email {
        wrong.push(FieldError::new("email", "invalid_email", format!("`email` {error}")));
    }
    let username = request.username.as_deref().map(Username::parse).transpose();
    if let Err(error) = &username {
        wrong.push(FieldError::new("username", "invalid_username", format!("`username` {error}")));
    }
    match (email, username) {
        (Ok(email), Ok(username)) => {
            Ok(Register { email, username, password: request.password.0, roles: Roles::default() })
        }
        _ => Err(ProblemError::fields(Code::InvalidFields, wrong)),
    }
}
