//! `POST /v1/users/factors/reset`, `POST /v1/users/emails/remove`: admins and service clients help the owner of an account.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, types::Example};

use super::{
    Tag,
    emails::parse_email,
    invitation::{find_account, require_admin_or_scope},
};
use crate::{
    domain::account::Account,
    http::{
        extract::{auth::AdminOrClient, json::Body},
        problem::{
            Code, Failed, ProblemError, Problems,
            groups::{JSON_BODY, PRIVILEGED, codes},
        },
    },
    service::{
        emails::support::{self, RemoveEmailError},
        factors::reset,
        request_origin::RequestOrigin,
    },
    state::AppState,
};

/// Changes of an account that others make for its owner.
pub struct SupportApi;

/// The account whose factors are removed.
#[derive(Object)]
#[oai(example)]
struct ResetFactorsRequest {
    /// The account's id, e-mail address or username.
    #[oai(validator(min_length = 1, max_length = 320))]
    account: String,
}

impl Example for ResetFactorsRequest {
    fn example() -> Self {
        Self { account: "grace@example.com".to_owned() }
    }
}

/// The address that an account loses.
#[derive(Object)]
#[oai(example)]
struct RemoveAddressRequest {
    /// The account's id, e-mail address or username.
    #[oai(validator(min_length = 1, max_length = 320))]
    account: String,
    /// The secondary address.
    #[oai(validator(min_length = 1, max_length = 254))]
    email: String,
}

impl Example for RemoveAddressRequest {
    fn example() -> Self {
        Self { account: "grace@example.com".to_owned(), email: "grace@work.example".to_owned() }
    }
}

#[derive(ApiResponse)]
enum ResetFactorsResponse {
    /// The account has no second factor any more.
    #[oai(status = 204)]
    Done,
}

#[derive(ApiResponse)]
enum RemoveAddressResponse {
    /// The account does not have the address any more.
    #[oai(status = 204)]
    Done,
}

/// The errors of removing all factors.
struct ResetFactorsProblems;

impl Problems for ResetFactorsProblems {
    const CODES: &'static [Code] = codes![JSON_BODY, PRIVILEGED, [Code::UnknownAccount, Code::TooManyRequests]];
}

/// The errors of removing an address.
struct RemoveAddressProblems;

impl Problems for RemoveAddressProblems {
    const CODES: &'static [Code] = codes![
        JSON_BODY,
        PRIVILEGED,
        [Code::UnknownAccount, Code::UnknownEmail, Code::PrimaryEmail, Code::TooManyRequests],
    ];
}

impl From<RemoveEmailError> for ProblemError {
    fn from(error: RemoveEmailError) -> Self {
        match error {
            RemoveEmailError::NoAccount => unknown_account(),
            RemoveEmailError::Unknown => Self::new(Code::UnknownEmail, "The account has no such e-mail address."),
            RemoveEmailError::IsPrimary => {
                Self::new(Code::PrimaryEmail, "This is the primary address of the account, which can't be removed.")
            }
            RemoveEmailError::Service(error) => error.into(),
        }
    }
}

fn unknown_account() -> ProblemError {
    ProblemError::new(Code::UnknownAccount, "There is no such account.")
}

/// Finds the account that a request names by its id, e-mail address or username. Call it after [`require_admin_or_scope`]: other callers
/// must not learn which accounts exist.
async fn require_account(state: &AppState, account: &str) -> Result<Account, ProblemError> {
    find_account(state, account).await?.ok_or_else(unknown_account)
}

#[OpenApi]
impl SupportApi {
    /// Remove all second factors of an account
    ///
    /// Admins and service clients with the scope `accounts:recover` help an owner who has lost all factors and recovery codes.
    /// First verify that the owner asks for the reset. The reset ends all sessions of the account, and sends the owner a mail. If the
    /// account must have a second factor, the next sign-in sets one up.
    #[oai(path = "/v1/users/factors/reset", method = "post", operation_id = "reset_factors", tag = "Tag::Factors")]
    async fn reset_factors(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        AdminOrClient(caller): AdminOrClient,
        Body(request): Body<ResetFactorsRequest>,
    ) -> Result<ResetFactorsResponse, Failed<ResetFactorsProblems>> {
        let initiator = require_admin_or_scope(state, &caller).await?;
        let account = require_account(state, &request.account).await?;
        // The account may have been deleted after it was found.
        let existed = reset::reset(state, &account, &initiator, &origin).await?;
        if !existed {
            return Err(unknown_account().into());
        }
        Ok(ResetFactorsResponse::Done)
    }

    /// Remove an e-mail address of an account
    ///
    /// Admins and service clients with the scope `accounts:recover` help an owner who has lost access to a secondary address, or
    /// whose account has one that another person added. First verify that the owner asks for the removal. If the address was
    /// verified, all sessions of the account end, and the primary and the removed address get a mail.
    #[oai(
        path = "/v1/users/emails/remove",
        method = "post",
        operation_id = "remove_email_of_user",
        tag = "Tag::Account"
    )]
    async fn remove_email(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        AdminOrClient(caller): AdminOrClient,
        Body(request): Body<RemoveAddressRequest>,
    ) -> Result<RemoveAddressResponse, Failed<RemoveAddressProblems>> {
        let initiator = require_admin_or_scope(state, &caller).await?;
        let email = parse_email("email", &request.email)?;
        let account = require_account(state, &request.account).await?;
        support::remove(state, account.id, &email, &initiator, origin.ip).await?;
        Ok(RemoveAddressResponse::Done)
    }
}
