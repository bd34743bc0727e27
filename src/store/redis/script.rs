//! The Lua scripts, one typed function each in [`super::sessions`] and [`super::limits`].

use std::time::Duration;

use fred::{bytes::Bytes, clients::Client, error::Error as FredError, types::Value};
use tracing::Instrument;

use super::{batch::ScriptBatcher, connection::RedisError};
use crate::{
    domain::clock::Timestamp,
    metrics::{RedisMetrics, Timed},
    telemetry,
};

/// A script, and what is counted of it.
#[derive(Debug)]
pub(super) struct Script {
    name: &'static str,
    script: fred::types::scripts::Script,
    timed: Timed,
}

/// Every script, loaded by its SHA-1; `lib.lua` stands before each that is about sessions.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) create: ScriptBatcher,
    pub(super) rotate: ScriptBatcher,
    pub(super) revoke: ScriptBatcher,
    pub(super) revoke_all: Script,
    pub(super) set_roles: Script,
    pub(super) key_retired: Script,
    pub(super) limit: Script,
    pub(super) login_throttle: Script,
    pub(super) trust_device: Script,
    pub(super) refund: Script,
}

impl Scripts {
    /// For so many connections.
    pub(super) fn new(metrics: &RedisMetrics, connections: usize) -> Self {
        const LIB: &str = include_str!("lua/lib.lua");
        const USUAL: &str = include_str!("lua/rotate_fast.lua");
        let alone = |name: &'static str, body: &str| Script {
            name,
            script: fred::types::scripts::Script::from_lua(body),
            timed: metrics.timed(name),
        };
        let script = |name: &'static str, body: &str| alone(name, &format!("{LIB}\n{body}"));
        let together = |script| ScriptBatcher::new(script, connections);
        Self {
            create: together(script("create", include_str!("lua/create.lua"))),
            // its usual case before the library, of which it needs nothing
            rotate: together(alone("rotate", &format!("{USUAL}\n{LIB}\n{}", include_str!("lua/rotate.lua")))),
            revoke: together(script("revoke", include_str!("lua/revoke.lua"))),
            revoke_all: script("revoke_all", include_str!("lua/revoke_all.lua")),
            set_roles: script("set_roles", include_str!("lua/set_roles.lua")),
            key_retired: script("key_retired", include_str!("lua/key_retired.lua")),
            limit: alone("limit", include_str!("lua/limit.lua")),
            login_throttle: alone("login_throttle", include_str!("lua/login_throttle.lua")),
            trust_device: alone("trust_device", include_str!("lua/trust_device.lua")),
            refund: alone("refund", include_str!("lua/refund.lua")),
        }
    }
}

/// Runs a script in one round trip; a server that doesn't know it yet (restarted, failed over) is taught it first.
pub(super) async fn run(
    script: &Script,
    client: &Client,
    keys: Vec<String>,
    arguments: Vec<Value>,
) -> Result<Value, RedisError> {
    watch(script, async { Ok(call(script, client, keys, arguments).await?) }).await
}

/// The same, and nothing is counted of it.
pub(super) async fn call(
    script: &Script,
    client: &Client,
    keys: Vec<String>,
    arguments: Vec<Value>,
) -> Result<Value, FredError> {
    // fred's futures are several kilobytes, which would be moved with those of all callers
    Box::pin(script.script.evalsha_with_reload(client, keys, arguments)).await
}

/// Waits for a script's answer, counts it and traces it.
pub(super) async fn watch(
    script: &Script,
    answer: impl Future<Output = Result<Value, RedisError>>,
) -> Result<Value, RedisError> {
    let span = tracing::trace_span!(
        target: telemetry::TARGET,
        "redis script",
        otel.kind = "client",
        db.system.name = "redis",
        db.operation.name = script.name,
    );
    script.timed.watch(answer).instrument(span).await
}

/// A time as a script's argument.
pub(super) fn millis(time: Timestamp) -> Value {
    Value::Integer(time.as_millis())
}

/// A duration as a script's argument, in milliseconds.
pub(super) fn duration(duration: Duration) -> Value {
    Value::Integer(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// The first argument of every session script (`lua/lib.lua`): how streams are trimmed, by length or by time.
pub(super) fn event_trim_args(retention: Duration, channel: &str) -> [Bytes; 2] {
    ["MAXLEN", "MINID"].map(|trim| format!("{} {trim} {channel}", retention.as_millis()).into())
}

/// The error for a script's answer of the wrong type.
pub(super) fn unexpected(script: &str, answer: &Value) -> RedisError {
    RedisError::Unexpected(format!("{script} answered with {:?}", answer.kind()))
}
