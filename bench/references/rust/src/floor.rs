//! The floor is a server that does only the indispensable work of a refresh, an introspection and a sign-out, in plain poem
//! handlers. A refresh is one Redis script and one signature, an introspection one verification and one `GET`, and a sign-out
//! one `DEL`. The benchmark creates the sessions in Redis.
//!
//! There is no MAC on the refresh token, no rate limit, no log and no batching of Redis calls. A service that batches them
//! can therefore be faster than the floor.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fred::{
    clients::Pool,
    interfaces::{ClientLike, KeysInterface},
    types::{
        Builder, RespVersion, Value,
        config::{Config, ReconnectPolicy},
        scripts::Script,
    },
};
use poem::{
    EndpointExt, Route, Server,
    error::ResponseError,
    get, handler,
    http::StatusCode,
    listener::TcpListener,
    post,
    web::{Data, Json},
};
use serde::{Deserialize, Serialize};

const IDLE_TIMEOUT_MS: i64 = 7 * 24 * 3600 * 1000;
const ACCESS_TTL_S: i64 = 3600;
/// As many as a Latchkey node opens by default (`redis.pool_size`).
const REDIS_CONNECTIONS: usize = 4;

struct Floor {
    redis: Pool,
    rotate: Script,
    signing_key: EcdsaKeyPair,
    public_key: ParsedPublicKey,
    /// The header of every access token, as base64url.
    header: String,
}

/// The same claims as in Latchkey's access tokens, so that signatures take as long as there. The floor has no accounts and no
/// token ids: `sub` and `jti` are the session id.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    client_id: String,
    iat: i64,
    exp: i64,
    jti: String,
    sid: String,
    auth_time: i64,
    acr: String,
    amr: Vec<String>,
    scope: String,
}

#[derive(Deserialize)]
struct RefreshToken {
    refresh_token: String,
}

#[derive(Serialize)]
struct Tokens {
    access_token: String,
    token_type: &'static str,
    expires_in: i64,
    refresh_token: String,
    refresh_expires_in: i64,
    session_id: String,
}

#[derive(Serialize)]
struct Introspection {
    active: bool,
    token_type: &'static str,
    #[serde(flatten)]
    claims: Claims,
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn saturating_i64(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// The refresh token is the session id, a dot and the generation.
#[handler]
async fn refresh(Data(floor): Data<&Arc<Floor>>, Json(request): Json<RefreshToken>) -> Result<Json<Tokens>, Failed> {
    let (sid, generation) = request.refresh_token.split_once('.').ok_or(Failed)?;
    let generation: i64 = generation.parse().map_err(|_| Failed)?;
    let now = since_epoch();
    let (now_ms, now_s) = (saturating_i64(now.as_millis()), saturating_i64(now.as_secs()));
    let answer: Value = floor
        .rotate
        .evalsha(
            floor.redis.next(),
            vec![sid],
            vec![Value::Integer(generation), Value::Integer(now_ms), Value::Integer(IDLE_TIMEOUT_MS)],
        )
        .await
        .map_err(|_| Failed)?;
    if answer.is_null() {
        // the session has ended, or the generation is not the current one
        return Err(Failed);
    }
    let claims = Claims {
        iss: "https://auth.example.com".to_owned(),
        sub: sid.to_owned(),
        aud: "latchkey".to_owned(),
        client_id: "latchkey".to_owned(),
        iat: now_s,
        exp: now_s + ACCESS_TTL_S,
        jti: sid.to_owned(),
        sid: sid.to_owned(),
        auth_time: now_s,
        acr: "aal1".to_owned(),
        amr: vec!["pwd".to_owned()],
        scope: "account".to_owned(),
    };
    Ok(Json(Tokens {
        access_token: floor.sign(&claims).ok_or(Failed)?,
        token_type: "Bearer",
        expires_in: ACCESS_TTL_S,
        refresh_token: format!("{sid}.{}", generation + 1),
        refresh_expires_in: IDLE_TIMEOUT_MS / 1000,
        session_id: sid.to_owned(),
    }))
}

/// Ends the session of a refresh token of any generation.
#[handler]
async fn logout(Data(floor): Data<&Arc<Floor>>, Json(request): Json<RefreshToken>) -> Result<StatusCode, Failed> {
    let (sid, _) = request.refresh_token.split_once('.').ok_or(Failed)?;
    let removed: i64 = floor.redis.next().del(sid).await.map_err(|_| Failed)?;
    if removed == 1 { Ok(StatusCode::NO_CONTENT) } else { Err(Failed) }
}

#[handler]
async fn introspect(Data(floor): Data<&Arc<Floor>>, body: String) -> Result<Json<Introspection>, Failed> {
    // a token has no character that a form would escape
    let token = body.strip_prefix("token=").ok_or(Failed)?;
    let claims = floor.verify(token).ok_or(Failed)?;
    let record: Value = floor.redis.next().get(&claims.sid).await.map_err(|_| Failed)?;
    if record.is_null() || claims.exp <= saturating_i64(since_epoch().as_secs()) {
        return Err(Failed);
    }
    Ok(Json(Introspection { active: true, token_type: "Bearer", claims }))
}

#[handler]
fn livez() -> &'static str {
    "alive"
}

/// The 401 response to every failure, also of Redis.
#[derive(Debug)]
struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Failed {}

impl ResponseError for Failed {
    fn status(&self) -> StatusCode {
        StatusCode::UNAUTHORIZED
    }
}

impl Floor {
    fn sign(&self, claims: &Claims) -> Option<String> {
        let json = serde_json::to_vec(claims).ok()?;
        // every token fits
        let mut token = String::with_capacity(768);
        token.push_str(&self.header);
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(&json, &mut token);
        let signature = self.signing_key.sign(&SystemRandom::new(), token.as_bytes()).ok()?;
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Some(token)
    }

    /// Verifies the signature only: the caller checks the expiry.
    fn verify(&self, token: &str) -> Option<Claims> {
        let (message, signature) = token.rsplit_once('.')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.public_key.verify_sig(message.as_bytes(), &signature).ok()?;
        let (_, claims) = message.split_once('.')?;
        let json = BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

/// Serves until the process is killed.
pub(crate) async fn serve(port: u16, redis_port: u16) -> anyhow::Result<()> {
    let mut config = Config::from_url(&format!("redis://127.0.0.1:{redis_port}"))?;
    config.version = RespVersion::RESP3;
    let redis = Builder::from_config(config)
        .with_performance_config(|performance| performance.default_command_timeout = Duration::from_secs(1))
        .with_connection_config(|connection| {
            connection.max_command_attempts = 1;
            connection.tcp.nodelay = Some(true);
        })
        .set_policy({
            let (unlimited_attempts, min_delay_ms, max_delay_ms, factor) = (0, 20, 1000, 2);
            ReconnectPolicy::new_exponential(unlimited_attempts, min_delay_ms, max_delay_ms, factor)
        })
        .build_pool(REDIS_CONNECTIONS)?;
    redis.init().await?;
    let rotate = Script::from_lua(include_str!("rotate.lua"));
    rotate.load(redis.next()).await?;
    let signing_key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let public_key = signing_key.public_key().as_ref();
    let public_key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public_key).ok().context("the public key")?;
    // the placeholder for `kid` is as long as Latchkey's key ids (RFC 7638)
    let header = r#"{"alg":"ES256","typ":"at+jwt","kid":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;
    let header = BASE64_URL_SAFE_NO_PAD.encode(header);
    let floor = Arc::new(Floor { redis, rotate, signing_key, public_key, header });
    let routes = Route::new()
        .at("/v1/refresh", post(refresh))
        .at("/v1/logout", post(logout))
        .at("/oauth2/introspect", post(introspect))
        .at("/livez", get(livez))
        .data(floor);
    Ok(Server::new(TcpListener::bind(("127.0.0.1", port))).run(routes).await?)
}
