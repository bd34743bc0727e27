//! `POST /v1/users/invite`, `POST /v1/users/reset`: for admins and service clients.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi, payload::Json, types::Example};
use uuid::Uuid;

use super::Tag;
use crate::{
    domain::{
        account::{Account, Email, Identifier, Roles, Username},
        ids::AccountId,
    },
    http::{
        extract::{
            auth::{AdminOrClient, Privileged},
            json::Body,
        },
        problem::{
            Code, Failed, FieldCode, FieldError, ProblemError, Problems,
            groups::{JSON_BODY, PRIVILEGED, codes},
            sentence,
        },
        types::Time,
    },
    service::{
        error::ServiceError,
        initiator::Initiator,
        invite_account::{self, Delivery, Invite, InviteError, InviteOrReset, SCOPE},
        recent_authentication::require_recent,
        register,
        request_origin::RequestOrigin,
    },
    state::AppState,
};

/// Invitations and resets.
pub struct InvitationApi;

/// How the link and the code reach the account's owner.
#[derive(Enum, Clone, Copy, Debug)]
#[oai(rename = "Delivery", rename_all = "snake_case")]
pub(super) enum DeliveryName {
    /// By mail.
    Mail,
    /// In the response, for a service client that sends its own mails.
    Return,
}

/// An account to invite.
#[derive(Object)]
#[oai(example)]
struct InviteRequest {
    /// The address of the account's owner.
    #[oai(validator(min_length = 1, max_length = 254))]
    email: String,
    /// A second identifier to sign in with.
    #[oai(validator(min_length = 1, max_length = 64))]
    username: Option<String>,
    /// How the link and the code reach the owner. Default: `mail`. Only service clients may ask for `return`.
    delivery: Option<DeliveryName>,
}

impl Example for InviteRequest {
    fn example() -> Self {
        Self { email: "grace@example.com".to_owned(), username: None, delivery: Some(DeliveryName::Mail) }
    }
}

/// An account whose password is to be reset.
#[derive(Object)]
#[oai(example)]
struct StartResetRequest {
    /// The account's id, e-mail address or username.
    // more than the longest identifier, an address of 254 characters
    #[oai(validator(min_length = 1, max_length = 320))]
    account: String,
    /// How the link and the code reach the owner. Default: `mail`. Only service clients may ask for `return`.
    delivery: Option<DeliveryName>,
}

impl Example for StartResetRequest {
    fn example() -> Self {
        Self { account: "grace@example.com".to_owned(), delivery: Some(DeliveryName::Mail) }
    }
}

/// A started invitation or reset.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct StartedResponse {
    /// The account's id.
    account_id: Uuid,
    /// With `return`: the link, with the token. `mail.links` configures its URL.
    link: Option<String>,
    /// With `return`: the token of the link, for `POST /v1/password/reset`.
    token: Option<String>,
    /// With `return`: the code.
    code: Option<String>,
    /// With `return`: when the link and the code stop working.
    expires_at: Option<Time>,
}

impl From<InviteOrReset> for StartedResponse {
    fn from(started: InviteOrReset) -> Self {
        let returned = started.returned.as_ref();
        Self {
            account_id: started.account.id.0,
            link: returned.map(|secrets| secrets.link.expose().to_owned()),
            token: returned.map(|secrets| secrets.token.expose().to_owned()),
            code: returned.map(|secrets| secrets.code.expose().to_owned()),
            expires_at: returned.map(|secrets| secrets.expires_at.into()),
        }
    }
}

#[derive(ApiResponse)]
enum AcceptedResponse {
    /// The mail is on its way, or the link and the code are in the response.
    #[oai(status = 202)]
    Accepted(Json<StartedResponse>),
}

/// The errors of an invitation.
struct InviteProblems;

impl Problems for InviteProblems {
    const CODES: &'static [Code] =
        codes![JSON_BODY, PRIVILEGED, [Code::EmailTaken, Code::UsernameTaken, Code::TooManyRequests]];
}

impl From<InviteError> for Failed<InviteProblems> {
    fn from(error: InviteError) -> Self {
        let taken = |code, field: &str, error: &InviteError| {
            ProblemError::fields(code, vec![FieldError::new(field, FieldCode::Taken, error.to_string())]).into()
        };
        match error {
            // `NotFound`: the account that had the address was deleted during the request. `NoAddress` does not occur.
            InviteError::EmailTaken | InviteError::NotFound | InviteError::NoAddress => {
                taken(Code::EmailTaken, "email", &error)
            }
            InviteError::UsernameTaken => taken(Code::UsernameTaken, "username", &error),
            InviteError::Service(error) => error.into(),
        }
    }
}

/// The errors of a reset.
struct ResetProblems;

impl Problems for ResetProblems {
    const CODES: &'static [Code] =
        codes![JSON_BODY, PRIVILEGED, [Code::UnknownAccount, Code::UnknownEmail, Code::TooManyRequests]];
}

impl From<InviteError> for Failed<ResetProblems> {
    fn from(error: InviteError) -> Self {
        match error {
            InviteError::Service(error) => error.into(),
            InviteError::NoAddress => {
                let detail =
                    "The account has no e-mail address. A service client may ask for the link and the code instead.";
                Self::new(Code::UnknownEmail, detail)
            }
            // `EmailTaken` and `UsernameTaken` do not occur: a reset creates no account.
            InviteError::NotFound | InviteError::EmailTaken | InviteError::UsernameTaken => {
                Self::new(Code::UnknownAccount, "There is no such account, or it is disabled or due for deletion.")
            }
        }
    }
}

/// Finds an account by its id, one of its e-mail addresses or its username.
pub(super) async fn find_account(state: &AppState, reference: &str) -> Result<Option<Account>, ServiceError> {
    match reference.parse::<AccountId>() {
        Ok(id) => invite_account::find_by_id(state, id).await,
        Err(_) => invite_account::find_by_identifier(state, &Identifier::parse(reference)).await,
    }
}

/// Checks that the caller is a service client with the scope [`SCOPE`], or an admin who has authenticated recently.
pub(super) async fn require_admin_or_scope(state: &AppState, caller: &Privileged) -> Result<Initiator, ProblemError> {
    match caller {
        Privileged::Client(client) => {
            let detail = format!("The service client needs the scope {SCOPE}.");
            Initiator::of_client(client, SCOPE).ok_or_else(|| ProblemError::new(Code::Forbidden, detail))
        }
        Privileged::Account(caller) => {
            let is_admin = register::is_admin(state, caller).await.map_err(ProblemError::from)?;
            if !is_admin {
                return Err(ProblemError::new(Code::Forbidden, "Only an admin or a service client may do this."));
            }
            require_recent(state, caller).await?;
            Ok(Initiator::Admin(caller.sub))
        }
    }
}

/// Like [`require_admin_or_scope`], and checks that the caller may choose this delivery. Returns the initiator and the delivery.
async fn authorize_delivery(
    state: &AppState,
    caller: &Privileged,
    delivery: Option<DeliveryName>,
) -> Result<(Initiator, Delivery), ProblemError> {
    let initiator = require_admin_or_scope(state, caller).await?;
    match (delivery, caller) {
        (Some(DeliveryName::Return), Privileged::Client(_)) => Ok((initiator, Delivery::ToCaller)),
        (Some(DeliveryName::Return), Privileged::Account(_)) => {
            let detail = "Only a service client may ask for the link and the code.";
            Err(ProblemError::new(Code::Forbidden, detail))
        }
        (Some(DeliveryName::Mail) | None, _) => Ok((initiator, Delivery::Mail)),
    }
}

#[OpenApi(tag = "Tag::Account")]
impl InvitationApi {
    /// Invite a user
    ///
    /// For admins, and for service clients with the scope `accounts:recover`. Creates an account without a password, and sends
    /// its owner a link and a code that set one (`POST /v1/password/reset`). Nobody else sees the password. A service
    /// client that sends its own mails gets the link and the code instead, by `delivery`.
    #[oai(path = "/v1/users/invite", method = "post", operation_id = "invite_user")]
    async fn invite(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        AdminOrClient(caller): AdminOrClient,
        Body(request): Body<InviteRequest>,
    ) -> Result<AcceptedResponse, Failed<InviteProblems>> {
        let (initiator, delivery) = authorize_delivery(state, &caller, request.delivery).await?;
        let mut errors = Vec::new();
        let email = Email::parse(&request.email);
        if let Err(error) = &email {
            errors.push(FieldError::new("email", error.into(), sentence(error)));
        }
        let username = request.username.as_deref().map(Username::parse).transpose();
        if let Err(error) = &username {
            errors.push(FieldError::new("username", error.into(), sentence(error)));
        }
        let (Ok(email), Ok(username)) = (email, username) else {
            return Err(ProblemError::fields(Code::InvalidFields, errors).into());
        };
        // No roles: only an operator may grant them.
        let input = Invite { email, username, roles: Roles::default() };
        let started = invite_account::invite(state, input, delivery, &initiator, &origin).await?;
        Ok(AcceptedResponse::Accepted(Json(started.into())))
    }

    /// Start a password reset
    ///
    /// For admins, and for service clients with the scope `accounts:recover`. Sends the owner of an account a link and a code
    /// that set a new password (`POST /v1/password/reset`). The current password works until then. A service client that
    /// sends its own mails gets the link and the code instead, by `delivery`.
    #[oai(path = "/v1/users/reset", method = "post", operation_id = "start_password_reset")]
    async fn reset(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        AdminOrClient(caller): AdminOrClient,
        Body(request): Body<StartResetRequest>,
    ) -> Result<AcceptedResponse, Failed<ResetProblems>> {
        let (initiator, delivery) = authorize_delivery(state, &caller, request.delivery).await?;
        let account = find_account(state, &request.account).await?.ok_or(InviteError::NotFound)?;
        let started = invite_account::start_reset(state, account, delivery, &initiator, &origin).await?;
        Ok(AcceptedResponse::Accepted(Json(started.into())))
    }
}
