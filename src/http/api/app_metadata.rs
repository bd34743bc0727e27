//! `PUT /v1/users/{id}/app-metadata`: for admins and service clients.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json, types::Example};
use serde_json::Map;
use uuid::Uuid;

use super::Tag;
use crate::{
    domain::{ids::AccountId, profile::Metadata},
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
        types::JsonObject,
    },
    service::{
        app_metadata::{SCOPE, SetMetadataError, set_app_metadata},
        initiator::Initiator,
        recent_authentication::require_recent,
        register,
    },
    state::AppState,
};

/// The endpoint of the app metadata of accounts.
pub struct AppMetadataApi;

/// The app metadata of an account. Its owner can't write it.
#[derive(Object)]
#[oai(example)]
struct AppMetadata {
    /// A JSON object of at most 4096 bytes. Replaces the former object.
    app_metadata: JsonObject,
}

impl Example for AppMetadata {
    fn example() -> Self {
        let mut members = Map::new();
        members.insert("plan".to_owned(), "gold".into());
        Self { app_metadata: JsonObject(members) }
    }
}

#[derive(ApiResponse)]
enum AppMetadataResponse {
    /// The metadata is stored. If access tokens contain a changed member, the account's older tokens are refused.
    #[oai(status = 200)]
    Ok(Json<AppMetadata>),
}

/// The errors of setting metadata.
struct AppMetadataProblems;

impl Problems for AppMetadataProblems {
    const CODES: &'static [Code] = codes![JSON_BODY, PRIVILEGED, [Code::UnknownAccount, Code::TooManyRequests]];
}

impl From<SetMetadataError> for ProblemError {
    fn from(error: SetMetadataError) -> Self {
        match error {
            SetMetadataError::NotFound => Self::new(Code::UnknownAccount, "There is no such account."),
            SetMetadataError::Invalid(error) => {
                let field = FieldError::new("app_metadata", FieldCode::from(error), sentence(&error));
                Self::fields(Code::InvalidFields, vec![field])
            }
            SetMetadataError::TooLargeForTokens => {
                let field = FieldError::new("app_metadata", FieldCode::MetadataTooLarge, sentence(&error));
                Self::fields(Code::InvalidFields, vec![field])
            }
            SetMetadataError::Service(error) => error.into(),
        }
    }
}

#[OpenApi(tag = "Tag::Account")]
impl AppMetadataApi {
    /// Set the app metadata of an account
    ///
    /// For admins, and for service clients with the scope `accounts:metadata`. The owner of the account reads the object in
    /// `GET /v1/me` and can't write it. Access tokens contain the members that `token.app_metadata` names. If one of these changes, the
    /// account's older tokens are refused with `claims_changed` once the call has returned, and a refresh returns the new members.
    #[oai(path = "/v1/users/:id/app-metadata", method = "put", operation_id = "set_app_metadata")]
    async fn set(
        &self,
        Data(state): Data<&Arc<AppState>>,
        AdminOrClient(caller): AdminOrClient,
        /// The account's id.
        Path(id): Path<Uuid>,
        Body(request): Body<AppMetadata>,
    ) -> Result<AppMetadataResponse, Failed<AppMetadataProblems>> {
        let initiator = authorize(state, &caller).await?;
        let metadata = Metadata::new(request.app_metadata.0).map_err(SetMetadataError::Invalid)?;
        let profile = set_app_metadata(state, AccountId(id), metadata, &initiator).await?;
        let stored = AppMetadata { app_metadata: JsonObject(profile.app_metadata.into_members()) };
        Ok(AppMetadataResponse::Ok(Json(stored)))
    }
}

/// Checks that the caller may write metadata: a service client needs the scope, an admin a recent authentication. Returns the caller as
/// the initiator of the change.
async fn authorize(state: &AppState, caller: &Privileged) -> Result<Initiator, ProblemError> {
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
