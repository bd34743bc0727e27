//! The Lua scripts, one typed function each in [`super::sessions`] and [`super::limits`].

use fred::{
    clients::Client,
    types::{Value, scripts::Script},
};

use super::connection::RedisError;

/// Every script, loaded by its SHA-1; `lib.lua` stands before each that is about sessions.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) create: Script,
    pub(super) rotate: Script,
    pub(super) revoke: Script,
    pub(super) revoke_all: Script,
    pub(super) key_retired: Script,
    pub(super) limit: Script,
    pub(super) attempt: Script,
    pub(super) vouch: Script,
    pub(super) withdraw: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        const LIB: &str = include_str!("lua/lib.lua");
        let script = |body: &str| Script::from_lua(format!("{LIB}\n{body}"));
        Self {
            create: script(include_str!("lua/create.lua")),
            rotate: script(include_str!("lua/rotate.lua")),
            revoke: script(include_str!("lua/revoke.lua")),
            revoke_all: script(include_str!("lua/revoke_all.lua")),
            key_retired: script(include_str!("lua/key_retired.lua")),
            limit: Script::from_lua(include_str!("lua/limit.lua")),
            attempt: Script::from_lua(include_str!("lua/attempt.lua")),
            vouch: Script::from_lua(include_str!("lua/vouch.lua")),
            withdraw: Script::from_lua(include_str!("lua/withdraw.lua")),
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
    // fred's futures are several kilobytes, which would be moved with those of all callers
    Ok(Box::pin(script.evalsha_with_reload(client, keys, arguments)).await?)
}
