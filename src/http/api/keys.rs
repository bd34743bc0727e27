//! `GET /.well-known/jwks.json`.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json, types::Any};

use super::Tag;
use crate::{
    http::problem::{Code, Failed, ProblemError, Problems},
    state::AppState,
};

/// The public keys of access tokens.
pub struct KeysApi;

/// A JSON Web Key Set (RFC 7517, section 5).
#[derive(Object)]
#[oai(rename = "Jwks")]
struct JwksResponse {
    /// The JSON Web Keys: the signing key, the next signing key, and superseded keys whose tokens have not all expired.
    keys: Vec<Any<serde_json::Value>>,
}

#[derive(ApiResponse)]
enum KeysResponse {
    /// The keys.
    #[oai(status = 200)]
    Ok(
        Json<JwksResponse>,
        /// How long the keys may be cached.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

/// The problem codes of this endpoint: none beyond those that every call can return.
struct KeysProblems;

impl Problems for KeysProblems {
    const CODES: &'static [Code] = &[];
}

#[OpenApi(tag = "Tag::Keys")]
impl KeysApi {
    /// Get the public keys
    ///
    /// The keys that verify access tokens (RFC 7517). A new key is published before it signs. A superseded key stays published until
    /// its last token has expired.
    #[oai(path = "/.well-known/jwks.json", method = "get", operation_id = "jwks")]
    async fn jwks(&self, Data(state): Data<&Arc<AppState>>) -> Result<KeysResponse, Failed<KeysProblems>> {
        let json = state.keys.current().jwks(state.clock.now());
        // `json` is valid JSON and has the member `keys`, so the error below is a bug
        let jwks: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        let keys = jwks.get("keys").and_then(serde_json::Value::as_array).cloned();
        let keys = keys.ok_or_else(|| ProblemError::internal_because("the public keys can't be serialized"))?;
        let keys = keys.into_iter().map(Any).collect();
        // half of the time between publishing and signing, so that caches have a new key before it signs
        let max_age = (state.config.keys.publish_before / 2).as_secs();
        Ok(KeysResponse::Ok(Json(JwksResponse { keys }), format!("public, max-age={max_age}")))
    }
}
