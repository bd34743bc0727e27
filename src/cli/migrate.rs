//! `latchkey migrate`: runs the database migrations.

use anyhow::Context;
use clap::Args;

use super::{Global, block_on, bootstrap::migration_label};
use crate::{domain::entropy::Entropy, store::sql::Sql};

/// Arguments of `latchkey migrate`.
#[derive(Args, Clone, Copy, Debug)]
pub struct MigrateArgs {}

/// Applies the missing migrations, through `database.migrate_url` if that is set.
///
/// # Errors
/// If the database is unreachable, or a migration fails.
pub fn run(_args: &MigrateArgs, global: &Global) -> anyhow::Result<()> {
    let config = global.load_config(&Entropy::system())?;
    let applied_migrations = block_on(async {
        let sql = Sql::connect(&config.database).await?;
        // the error names the database, which may be that of `database.migrate_url`
        let count = sql.migrate().await.with_context(|| migration_label(&config, &sql))?;
        sql.close().await;
        Ok(count)
    })?;
    match applied_migrations {
        0 => println!("The database is up to date."),
        1 => println!("Applied 1 migration. The database is up to date."),
        count => println!("Applied {count} migrations. The database is up to date."),
    }
    Ok(())
}
