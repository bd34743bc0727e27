//! `latchkey keys`: manages the keys that sign access tokens.

use clap::{Args, Subcommand};

use super::{
    Global, block_on,
    bootstrap::{connect_redis, open_existing_database},
};
use crate::{
    crypto::key_rotation::SigningStart,
    domain::{
        clock::{Clock, Timestamp},
        entropy::Entropy,
        key::StoredKey,
    },
    service::keys,
};

/// Subcommands of `latchkey keys`.
#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// List the keys and their states
    List,
    /// Create a new key; it is published at once, and signs once keys.publish_before has passed
    Rotate(RotateArgs),
    /// Retire a key at once: tokens that it signed are refused from now on
    Retire(RetireArgs),
}

/// Arguments of `latchkey keys rotate`.
#[derive(Args, Clone, Copy, Debug)]
pub struct RotateArgs {
    /// Sign with the new key at once; verifiers with a cached JWKS reject its tokens until they refetch
    #[arg(long)]
    pub now: bool,
}

/// Arguments of `latchkey keys retire`.
#[derive(Args, Clone, Debug)]
pub struct RetireArgs {
    /// Id of the key (kid), as `latchkey keys list` prints it
    // one in 64 ids begins with a hyphen, since ids are base64url
    #[arg(allow_hyphen_values = true)]
    pub kid: String,
}

/// Runs a subcommand of `latchkey keys`.
///
/// # Errors
/// If the key does not exist or still signs, or a store is unreachable.
pub fn run(command: &KeysCommand, global: &Global) -> anyhow::Result<()> {
    let config = global.load_existing_config()?;
    block_on(async {
        let sql = open_existing_database(&config).await?;
        let clock = Clock::System;
        match command {
            KeysCommand::List => print_keys(&keys::list(&sql).await?, clock.now()),
            KeysCommand::Rotate(args) => {
                let start = if args.now { SigningStart::Now } else { SigningStart::AfterPublication };
                let key = keys::rotate(&config, &clock, &Entropy::system(), &sql, start).await?;
                println!("Created the key {}. It signs from {}.", key.kid, key.signs_from);
            }
            KeysCommand::Retire(RetireArgs { kid }) => {
                let (redis, embedded_redis) = connect_redis(&config).await?;
                let retired = keys::retire(&clock, &sql, &redis.revocation_log, kid).await;
                // Redis is closed before an error is returned.
                redis.close().await;
                if let Some(embedded_redis) = embedded_redis {
                    embedded_redis.stop().await;
                }
                retired?;
                println!("Retired the key {kid}. Tokens that it signed are refused from now on.");
            }
        }
        sql.close().await;
        Ok(())
    })
}

fn print_keys(keys: &[StoredKey], now: Timestamp) {
    let is_trusted = |key: &StoredKey| key.verifies_until.is_none_or(|until| now < until);
    // Of the keys that may sign, the one with the latest start signs.
    let may_sign = |key: &&StoredKey| is_trusted(key) && key.signs_from <= now;
    let signer = keys.iter().filter(may_sign).max_by_key(|key| key.signs_from);
    println!("{:<45} {:<9} {:<11} {:<26} VERIFIES UNTIL", "KEY", "ALGORITHM", "STATE", "SIGNS FROM");
    for key in keys {
        let state = if !is_trusted(key) {
            "retired"
        } else if signer.is_some_and(|signer| signer.kid == key.kid) {
            "signing"
        } else if key.signs_from > now {
            "published"
        } else {
            "verifying"
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
