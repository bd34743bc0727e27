//! `latchkey keys`: the keys that sign access tokens, from the command line.

use clap::{Args, Subcommand};

use super::{
    Global, block_on,
    bootstrap::{operators_database, redis_alone},
};
use crate::{
    crypto::key_rotation::Start,
    domain::{
        clock::{Clock, Timestamp},
        entropy::Entropy,
        key::StoredKey,
    },
    service::keys,
};

/// Commands about signing keys.
#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// List the keys, and what each is doing
    List,
    /// Make a new key; it is published at once and signs after keys.publish_before
    Rotate(RotateArgs),
    /// Take a key out of use at once: what it signed is refused from now on
    Retire(RetireArgs),
}

/// Arguments of `latchkey keys rotate`.
#[derive(Args, Clone, Copy, Debug)]
pub struct RotateArgs {
    /// Sign with the new key at once; those who cached the old keys refuse its tokens until they look again
    #[arg(long)]
    pub now: bool,
}

/// Arguments of `latchkey keys retire`.
#[derive(Args, Clone, Debug)]
pub struct RetireArgs {
    /// The key's id, as `latchkey keys list` shows it
    // one of 64 ids begins with a hyphen
    #[arg(allow_hyphen_values = true)]
    pub kid: String,
}

/// Runs a command about signing keys.
///
/// # Errors
/// If the key is unknown or still needed, or the database can't be reached.
pub fn run(command: &KeysCommand, global: &Global) -> anyhow::Result<()> {
    let config = global.start(&Entropy::system())?;
    block_on(async {
        let sql = operators_database(&config).await?;
        let clock = Clock::System;
        match command {
            KeysCommand::List => list(&keys::list(&sql).await?, clock.now()),
            KeysCommand::Rotate(RotateArgs { now }) => {
                let start = if *now { Start::Now } else { Start::WhenKnown };
                let key = keys::rotate(&config, &clock, &Entropy::system(), &sql, start).await?;
                println!("{} was made. It signs from {}.", key.kid, key.signs_from);
            }
            KeysCommand::Retire(RetireArgs { kid }) => {
                let (redis, private_redis) = redis_alone(&config).await?;
                let retired = keys::retire(&clock, &sql, &redis.revocation_log, kid).await;
                redis.close().await;
                if let Some(private_redis) = private_redis {
                    private_redis.stop().await;
                }
                retired?;
                println!("{kid} was retired. What it signed is refused from now on.");
            }
        }
        sql.close().await;
        Ok(())
    })
}

fn list(keys: &[StoredKey], now: Timestamp) {
    let believed = |key: &&StoredKey| key.verifies_until.is_none_or(|until| now < until);
    let signer = keys.iter().filter(believed).filter(|key| key.signs_from <= now).max_by_key(|key| key.signs_from);
    println!("{:<45} {:<9} {:<11} {:<26} VERIFIES UNTIL", "KEY", "ALGORITHM", "STATE", "SIGNS FROM");
    for key in keys {
        let state = match key {
            key if !believed(&key) => "retired",
            key if signer.is_some_and(|signer| signer.kid == key.kid) => "signing",
            key if key.signs_from > now => "published",
            _ => "verifying",
        };
        let until = key.verifies_until.map_or_else(|| "-".to_owned(), |until| until.to_string());
        println!(
            "{:<45} {:<9} {state:<11} {:<26} {until}",
            key.kid,
            key.algorithm.as_str(),
            key.signs_from.to_string()
        );
    }
}
