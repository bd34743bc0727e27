//! `GET /v1/me/devices`, `DELETE /v1/me/devices`, `DELETE /v1/me/devices/{id}`: the remembered devices of the caller's account.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json, types::Example};
use uuid::Uuid;

use super::Tag;
use crate::{
    domain::{clock::Timestamp, ids::RememberedDeviceId},
    http::{
        extract::{auth::SignedIn, client_info::ClientInfo},
        problem::{
            Code, Failed, Problems,
            groups::{SIGNED_IN, codes},
        },
        types::Time,
    },
    service::remembered_devices::{self, DeviceEntry},
    state::AppState,
};

/// The remembered devices of the caller's account.
pub struct DevicesApi;

/// A device that may skip the second factor.
#[derive(Object)]
#[oai(skip_serializing_if_is_none, rename = "RememberedDevice")]
struct DeviceResponse {
    /// The device's id.
    id: Uuid,
    /// The name that the user gave the device at the sign-in.
    name: Option<String>,
    /// The user agent with which the device was remembered.
    user_agent: Option<String>,
    /// When the device showed a second factor.
    created_at: Time,
    /// When the device has to show a second factor again.
    expires_at: Time,
    /// When the device last skipped the second factor. Absent before the first time.
    last_used_at: Option<Time>,
    /// Whether this is the calling device, by its `X-Device-Token` or cookie.
    current: bool,
}

impl From<DeviceEntry> for DeviceResponse {
    fn from(DeviceEntry { device, is_current }: DeviceEntry) -> Self {
        Self {
            id: device.id.0,
            name: device.name,
            user_agent: device.user_agent,
            created_at: device.created_at.into(),
            expires_at: device.expires_at.into(),
            last_used_at: device.last_used_at.map(Time::from),
            current: is_current,
        }
    }
}

/// The remembered devices of an account.
#[derive(Object)]
#[oai(example)]
struct DevicesResponse {
    /// The devices, the newest first.
    devices: Vec<DeviceResponse>,
}

impl Example for DevicesResponse {
    fn example() -> Self {
        // 2026-01-01, in seconds since the Unix epoch
        let start: i64 = 1_767_225_600;
        let after_days = |days: i64| Timestamp::from_millis((start + days * 86_400) * 1000).into();
        Self {
            devices: vec![DeviceResponse {
                id: Uuid::from_u128(0x019a_c001_7d1c_7a58_9a3b_2f1f_6a1e_0d42),
                name: Some("Ada's laptop".to_owned()),
                user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned()),
                created_at: after_days(0),
                expires_at: after_days(30),
                last_used_at: Some(after_days(1)),
                current: true,
            }],
        }
    }
}

/// The number of devices that were forgotten.
#[derive(Object)]
#[oai(example)]
struct ForgottenResponse {
    /// The number of devices that were forgotten.
    forgotten: u64,
}

impl Example for ForgottenResponse {
    fn example() -> Self {
        Self { forgotten: 2 }
    }
}

#[derive(ApiResponse)]
enum ListResponse {
    /// The devices.
    #[oai(status = 200)]
    Ok(Json<DevicesResponse>),
}

#[derive(ApiResponse)]
enum ForgetAllResponse {
    /// The devices are forgotten: each needs a second factor at its next sign-in.
    #[oai(status = 200)]
    Ok(Json<ForgottenResponse>),
}

#[derive(ApiResponse)]
enum ForgetResponse {
    /// The device is forgotten: it needs a second factor at its next sign-in.
    #[oai(status = 204)]
    Done,
}

/// The errors of listing devices.
struct ListProblems;

impl Problems for ListProblems {
    const CODES: &'static [Code] = SIGNED_IN;
}

/// The errors of forgetting one device.
struct ForgetProblems;

impl Problems for ForgetProblems {
    // The request is malformed if the id is not a UUID.
    const CODES: &'static [Code] = codes![SIGNED_IN, [Code::MalformedRequest, Code::UnknownDevice]];
}

/// The errors of forgetting all devices.
struct ForgetAllProblems;

impl Problems for ForgetAllProblems {
    const CODES: &'static [Code] = SIGNED_IN;
}

#[OpenApi(tag = "Tag::Factors")]
impl DevicesApi {
    /// List the remembered devices
    ///
    /// Lists the devices that may sign in with the password alone, newest first. Each may do so until its `expires_at`. A change
    /// of the account's password, factors, address or roles forgets them.
    #[oai(path = "/v1/me/devices", method = "get", operation_id = "list_devices")]
    async fn list(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        SignedIn(caller): SignedIn,
    ) -> Result<ListResponse, Failed<ListProblems>> {
        let devices = remembered_devices::list(state, caller.sub, client.device_token.as_ref()).await?;
        let devices = devices.into_iter().map(DeviceResponse::from).collect();
        Ok(ListResponse::Ok(Json(DevicesResponse { devices })))
    }

    /// Forget all remembered devices
    ///
    /// Every device, the calling one included, needs a second factor at its next sign-in. Sessions continue.
    #[oai(path = "/v1/me/devices", method = "delete", operation_id = "forget_devices")]
    async fn forget_all(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        SignedIn(caller): SignedIn,
    ) -> Result<ForgetAllResponse, Failed<ForgetAllProblems>> {
        let forgotten = remembered_devices::forget_all(state, &caller, client.ip).await?;
        Ok(ForgetAllResponse::Ok(Json(ForgottenResponse { forgotten })))
    }

    /// Forget a remembered device
    ///
    /// The device needs a second factor at its next sign-in. Its sessions continue: end them with `DELETE /v1/sessions/{id}`.
    #[oai(path = "/v1/me/devices/:id", method = "delete", operation_id = "forget_device")]
    async fn forget(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        SignedIn(caller): SignedIn,
        /// The device's id.
        Path(id): Path<Uuid>,
    ) -> Result<ForgetResponse, Failed<ForgetProblems>> {
        let found = remembered_devices::forget(state, &caller, RememberedDeviceId(id), client.ip).await?;
        if found {
            Ok(ForgetResponse::Done)
        } else {
            Err(Failed::new(Code::UnknownDevice, "The account has no remembered device with this id."))
        }
    }
}
