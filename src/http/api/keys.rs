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

/// A set of keys (RFC 7517, section 5).
#[derive(Object)]
#[oai(rename = "Jwks")]
struct JwksResponse {
    /// The keys, as JWKs: those that sign, that are about to, and whose tokens have not all expired yet.
    keys: Vec<Any<serde_json::Value>>,
}

#[derive(ApiResponse)]
enum KeysResponse {
    /// The keys.
    #[oai(status = 200)]
    Ok(
        Json<JwksResponse>,
        /// How long the answer may be kept.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

/// What reading the keys can be refused with: nothing of its own.
struct KeysProblems;

impl Problems for KeysProblems {
    const CODES: &'static [Code] = &[];
}

#[OpenApi(tag = "Tag::Keys")]
impl KeysApi {
    /// Read the public keys
    ///
    /// What access tokens are verified with (RFC 7517). A new key stands here before it signs, and a superseded one until
    /// its last token has expired.
    #[oai(path = "/.well-known/jwks.json", method = "get", operation_id = "jwks")]
    async fn jwks(&self, Data(state): Data<&Arc<AppState>>) -> Result<KeysResponse, Failed<KeysProblems>> {
        let jwks = state.keys.current().jwks(state.clock.now());
        let jwks: serde_json::Value = serde_json::from_str(&jwks).unwrap_or_default();
        let keys = jwks.get("keys").and_then(serde_json::Value::as_array).cloned();
        let keys = keys.ok_or_else(|| ProblemError::new(Code::InternalError, "The keys can't be read."))?;
        let keys = keys.into_iter().map(Any).collect();
        // Half of the time that a new key is published before it signs: caches know it by then.
        let max_age = (state.config.keys.publish_before / 2).as_secs();
        Ok(KeysResponse::Ok(Json(JwksResponse { keys }), format!("public, max-age={max_age}")))
    }
}
