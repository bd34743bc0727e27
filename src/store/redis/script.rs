//! The Lua scripts, and the functions that run them. Each script has a typed function in one of the stores.

use std::{sync::Arc, time::Duration};

use fred::{bytes::Bytes, error::Error as FredError, types::Value};
use tracing::Instrument;

use super::{
    batch::ScriptBatcher,
    connection::{RedisConnection, RedisError},
    record,
};
use crate::{
    domain::clock::Timestamp,
    metrics::{RedisMetrics, Timed},
    telemetry,
};

/// A script and its metrics.
#[derive(Debug)]
pub(super) struct Script {
    name: &'static str,
    script: fred::types::scripts::Script,
    timed: Timed,
}

/// Every script, called by its SHA-1. The first lines of each file in `lua/` describe the script. `lib.lua` precedes each script that
/// uses session records or appends events. `tree.lua` precedes each script that reads or ends the sessions beneath a browser's session.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) create: ScriptBatcher,
    pub(super) rotate: ScriptBatcher,
    pub(super) revoke: ScriptBatcher,
    pub(super) revoke_all: Script,
    pub(super) set_claims: Script,
    pub(super) step_up: Script,
    pub(super) key_retired: Script,
    pub(super) limit: Script,
    pub(super) login_throttle: Script,
    pub(super) trust_device: Script,
    pub(super) forget_devices: Script,
    pub(super) refund: Script,
    pub(super) issue_token: Script,
    pub(super) use_token: Script,
    pub(super) take_passkey_challenge: Script,
    pub(super) exchange: Script,
    pub(super) revoke_tree: Script,
    pub(super) touch: Script,
    pub(super) adopt: Script,
    pub(super) take_challenge: Script,
    pub(super) factor_throttle: Script,
    pub(super) factor_refund: Script,
}

impl Scripts {
    /// The scripts. The most frequent ones are batched, separately for each of the pool's `connections`.
    pub(super) fn new(metrics: &RedisMetrics, connections: usize) -> Self {
        const LIB: &str = include_str!("lua/lib.lua");
        const TREE: &str = include_str!("lua/tree.lua");
        const CREATE: &str = include_str!("lua/create_session.lua");
        const ROTATE_FAST: &str = include_str!("lua/rotate_fast.lua");
        let constants = record::lua_constants();
        // A script without the library.
        let standalone = |name: &'static str, body: &str| Script {
            name,
            script: fred::types::scripts::Script::from_lua(body),
            timed: metrics.timed(name),
        };
        let with_library = |name: &'static str, body: &str| standalone(name, &format!("{constants}{LIB}\n{body}"));
        let with_tree = |name: &'static str, body: &str| with_library(name, &format!("{TREE}\n{body}"));
        let batched = |script| ScriptBatcher::new(script, connections);
        Self {
            create: batched(with_tree("create", &format!("{CREATE}\n{}", include_str!("lua/create.lua")))),
            // The fast path precedes the library, which it does not need: it usually returns before the library's definitions run.
            rotate: batched(standalone(
                "rotate",
                &format!("{constants}{ROTATE_FAST}\n{LIB}\n{}", include_str!("lua/rotate.lua")),
            )),
            revoke: batched(with_library("revoke", include_str!("lua/revoke.lua"))),
            revoke_all: with_library("revoke_all", include_str!("lua/revoke_all.lua")),
            set_claims: with_library("set_claims", include_str!("lua/set_claims.lua")),
            step_up: with_library("step_up", include_str!("lua/step_up.lua")),
            key_retired: with_library("key_retired", include_str!("lua/key_retired.lua")),
            limit: standalone("limit", include_str!("lua/limit.lua")),
            login_throttle: standalone("login_throttle", include_str!("lua/login_throttle.lua")),
            trust_device: standalone("trust_device", include_str!("lua/trust_device.lua")),
            forget_devices: standalone("forget_devices", include_str!("lua/forget_devices.lua")),
            refund: standalone("refund", include_str!("lua/refund.lua")),
            issue_token: standalone("issue_token", include_str!("lua/issue_token.lua")),
            use_token: standalone("use_token", include_str!("lua/use_token.lua")),
            take_passkey_challenge: standalone(
                "take_passkey_challenge",
                include_str!("lua/take_passkey_challenge.lua"),
            ),
            exchange: with_tree("exchange", &format!("{CREATE}\n{}", include_str!("lua/exchange.lua"))),
            revoke_tree: with_tree("revoke_tree", include_str!("lua/revoke_tree.lua")),
            touch: with_library("touch", include_str!("lua/touch.lua")),
            adopt: with_tree("adopt", include_str!("lua/adopt.lua")),
            take_challenge: standalone("take_challenge", include_str!("lua/take_challenge.lua")),
            factor_throttle: standalone("factor_throttle", include_str!("lua/factor_throttle.lua")),
            factor_refund: standalone("factor_refund", include_str!("lua/factor_refund.lua")),
        }
    }
}

/// Runs a script in one round trip. If the server does not know the script, as after a restart or a failover, further round trips load
/// the script and run it.
pub(super) async fn run(
    script: &Script,
    connection: &Arc<RedisConnection>,
    keys: Vec<String>,
    arguments: Vec<Value>,
) -> Result<Value, RedisError> {
    measured(script, async { Ok(call(script, connection, keys, arguments).await?) }).await
}

/// Runs a script as [`run`] does, without metrics.
pub(super) async fn call(
    script: &Script,
    connection: &Arc<RedisConnection>,
    keys: Vec<String>,
    arguments: Vec<Value>,
) -> Result<Value, FredError> {
    let client = connection.client_for_request()?;
    // Boxed: fred's futures have several kilobytes, which would be moved with the futures of all callers.
    let answer = Box::pin(script.script.evalsha_with_reload(client, keys, arguments)).await;
    answer.inspect_err(|error| connection.reconnect_if_demoted(error))
}

/// Waits for a script's answer, with metrics and a trace span.
pub(super) async fn measured(
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
    script.timed.measure(answer).instrument(span).await
}

/// A time as a script's argument, in milliseconds since the Unix epoch.
pub(super) fn millis(time: Timestamp) -> Value {
    Value::Integer(time.as_millis())
}

/// A duration as a script's argument, in milliseconds.
pub(super) fn duration_millis(duration: Duration) -> Value {
    Value::Integer(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// The first argument of every script with `lib.lua`: how long events are kept, and where they are published. In two forms: Redis before
/// 6.2 trims streams by length, later releases by age.
pub(super) fn event_trim_args(retention: Duration, channel: &str) -> [Bytes; 2] {
    ["MAXLEN", "MINID"].map(|trim| format!("{} {trim} {channel}", retention.as_millis()).into())
}

/// The error for a script's answer of the wrong type.
pub(super) fn unexpected(script: &str, answer: &Value) -> RedisError {
    RedisError::Unexpected(format!("{script} answered with {:?}", answer.kind()))
}
