//! The JSON objects of passkeys: options, credentials, and the passkeys of an account.

use std::time::Duration;

use poem_openapi::{ApiResponse, Object, payload::Json, types::Example};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::login::TokensResponse;
use crate::{
    domain::{
        clock::Timestamp,
        passkey::{Passkey, PasskeyName},
    },
    http::{
        problem::{Code, FieldCode, FieldError, ProblemError, sentence},
        types::{JsonObject, Time},
    },
    service::passkeys::PasskeyOptions,
};

/// The options of a ceremony for `navigator.credentials`.
#[derive(Object)]
#[oai(rename = "PasskeyOptions", example)]
pub(super) struct PasskeyOptionsResponse {
    /// The options in the JSON form of WebAuthn: `PublicKeyCredential.parseCreationOptionsFromJSON` or
    /// `parseRequestOptionsFromJSON` reads them.
    public_key: JsonObject,
    /// For how many seconds the authenticator's response is accepted.
    expires_in: u64,
}

impl Example for PasskeyOptionsResponse {
    fn example() -> Self {
        let options = json!({
            "challenge": "WzXw7Y2bCk4hE0cQm5ZrN1uP8sT6vLxAaDdFfGgHhJk",
            "timeout": 300_000,
            "rpId": "auth.example.com",
            "allowCredentials": [],
            "userVerification": "required",
        });
        Self { public_key: json_object(options), expires_in: 300 }
    }
}

impl From<PasskeyOptions> for PasskeyOptionsResponse {
    fn from(options: PasskeyOptions) -> Self {
        Self { public_key: JsonObject(options.public_key), expires_in: options.expires_in }
    }
}

/// A registered passkey.
#[derive(Object)]
#[oai(rename = "Passkey", skip_serializing_if_is_none, example)]
pub(super) struct PasskeyResponse {
    /// The passkey's id.
    id: Uuid,
    /// The name that the owner gave to it.
    name: String,
    /// The model of the authenticator, as it claims: all zeros if it does not say.
    aaguid: Uuid,
    /// How the browser may reach the authenticator: `internal`, `hybrid`, `usb`, `nfc`, `ble`.
    transports: Vec<String>,
    /// Whether the passkey can be used without a username. Absent if the browser did not say.
    discoverable: Option<bool>,
    /// Whether its key can be copied to a backup or another device.
    backup_eligible: bool,
    /// Whether a copy of its key existed at the last use.
    backed_up: bool,
    /// When it was registered.
    created_at: Time,
    /// When it was last used to sign in. Absent before the first time.
    last_used_at: Option<Time>,
}

impl Example for PasskeyResponse {
    fn example() -> Self {
        let registered_at = Timestamp::from_millis(1_767_225_600_000); // 2026-01-01T00:00:00Z
        Self {
            id: Uuid::from_u128(0x019b_7a63_2c00_7b1e_8c55_0d6f_3a1b_9e22),
            name: "Ada's phone".to_owned(),
            // Google Password Manager
            aaguid: Uuid::from_u128(0xea9b_8d66_4d01_1d21_3ce4_b6b4_8cb5_75d4),
            transports: vec!["hybrid".to_owned(), "internal".to_owned()],
            discoverable: Some(true),
            backup_eligible: true,
            backed_up: true,
            created_at: Time(registered_at),
            last_used_at: Some(Time(registered_at + Duration::from_hours(1))),
        }
    }
}

impl From<Passkey> for PasskeyResponse {
    fn from(passkey: Passkey) -> Self {
        Self {
            id: passkey.id.0,
            name: passkey.name.as_str().to_owned(),
            aaguid: passkey.aaguid.0,
            transports: passkey.transports.split_ascii_whitespace().map(str::to_owned).collect(),
            discoverable: passkey.discoverable,
            backup_eligible: passkey.backup_eligible,
            backed_up: passkey.backed_up,
            created_at: passkey.created_at.into(),
            last_used_at: passkey.last_used_at.map(Into::into),
        }
    }
}

/// The passkeys of an account.
#[derive(Object)]
#[oai(example)]
pub(super) struct PasskeysResponse {
    /// The passkeys, oldest first.
    pub(super) passkeys: Vec<PasskeyResponse>,
}

impl Example for PasskeysResponse {
    fn example() -> Self {
        Self { passkeys: vec![PasskeyResponse::example()] }
    }
}

/// A new passkey, and the tokens of the session that takes the place of the calling one.
#[derive(Object)]
#[oai(skip_serializing_if_is_none, example)]
pub(super) struct PasskeyAddedResponse {
    /// The passkey.
    pub(super) passkey: PasskeyResponse,
    /// The tokens, as after a sign-in.
    pub(super) tokens: TokensResponse,
    /// Ten recovery codes, if the account had none, or no other second factor than codes by mail. Each replaces a second factor once. They
    /// are never shown again.
    pub(super) recovery_codes: Option<Vec<String>>,
}

impl Example for PasskeyAddedResponse {
    fn example() -> Self {
        Self { passkey: PasskeyResponse::example(), tokens: TokensResponse::example(), recovery_codes: None }
    }
}

/// A passkey to register.
#[derive(Object)]
#[oai(example)]
pub(super) struct AddPasskeyRequest {
    /// A name for the passkey: 1 to 64 characters.
    #[oai(validator(min_length = 1, max_length = 64))]
    pub(super) name: String,
    /// The `PublicKeyCredential` of `navigator.credentials.create`, in its JSON form (`toJSON`).
    pub(super) credential: JsonObject,
}

impl Example for AddPasskeyRequest {
    fn example() -> Self {
        let response = json!({
            "clientDataJSON": "eyJ0eXBlIjoid2ViYXV0aG4uY3JlYXRlIiwi…",
            "attestationObject": "o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YVi…",
            "transports": ["internal"],
        });
        Self { name: "Ada's phone".to_owned(), credential: credential_example(&response) }
    }
}

/// A new name for a passkey.
#[derive(Object)]
#[oai(example)]
pub(super) struct RenamePasskeyRequest {
    /// The name: 1 to 64 characters.
    #[oai(validator(min_length = 1, max_length = 64))]
    pub(super) name: String,
}

impl Example for RenamePasskeyRequest {
    fn example() -> Self {
        Self { name: "Ada's old phone".to_owned() }
    }
}

/// An example of a credential in its JSON form, with this authenticator's response.
pub(super) fn credential_example(response: &Value) -> JsonObject {
    let id = "t3JzWk0xQ9mJ8oN5bYv2Rg";
    json_object(json!({
        "id": id, "rawId": id, "type": "public-key", "response": response, "clientExtensionResults": {},
    }))
}

/// Converts a value that must be a JSON object: any other becomes an empty object.
fn json_object(value: Value) -> JsonObject {
    match value {
        Value::Object(members) => JsonObject(members),
        _ => JsonObject(Map::new()),
    }
}

#[derive(ApiResponse)]
pub(super) enum OptionsResponse {
    /// The options. Their challenge works once.
    #[oai(status = 200)]
    Ok(Json<PasskeyOptionsResponse>),
}

/// Reads the name of a passkey.
pub(in crate::http) fn parse_name(text: &str) -> Result<PasskeyName, ProblemError> {
    PasskeyName::parse(text).map_err(|error| {
        let field = FieldError::new("name", FieldCode::InvalidPasskeyName, sentence(&error));
        ProblemError::fields(Code::InvalidFields, vec![field])
    })
}
