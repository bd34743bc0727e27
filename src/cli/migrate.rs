//! `latchkey migrate`: brings the database's schema up to date.

use clap::Args;

use super::{Global, block_on};
use crate::{domain::entropy::Entropy, store::sql::Sql};

/// Arguments of `latchkey migrate`.
#[derive(Args, Clone, Copy, Debug)]
pub struct MigrateArgs {}

/// Applies the migrations that are missing, over `database.migrate_url` if there is one.
///
/// # Errors
/// If the database can't be reached, or a migration fails.
pub fn run(_args: &MigrateArgs, global: &Global) -> anyhow::Result<()> {
    let config = global.start(&Entropy::system())?;
    let applied = block_on(async {
        let sql = Sql::connect(&config.database).await?;
        let applied = sql.migrate().await?;
        sql.close().await;
        Ok(applied)
    })?;
    match applied {
        0 => println!("The database is up to date."),
        count => println!("{count} migrations applied: the database is up to date."),
    }
    Ok(())
}
