//! `latchkey client`: manages clients, which are services, and apps that sign users in.

mod args;
mod dynamic;
mod output;

use anyhow::Context;

pub use self::args::{
    AddArgs, AuthMethodArg, ClientCommand, DeleteArgs, GrantArg, KindArg, ListArgs, NameArgs, RotateArgs, ShowArgs,
};
use self::output::{print_addresses, print_client, print_clients, print_issuer_origin, print_secret};
use super::{Global, block_on, bootstrap::open_existing_database, prompt};
use crate::{
    config::{SettingOrigin, inspect},
    domain::{app_client::ClientKind, clock::Clock, entropy::Entropy},
    service::clients::{self, DEFAULT_GRACE},
};

/// Runs a subcommand of `latchkey client`.
///
/// # Errors
/// If the client does not exist, the name is taken, an argument is invalid, or the database is unreachable.
pub fn run(command: &ClientCommand, global: &Global) -> anyhow::Result<()> {
    let config = global.load_existing_config()?;
    let (clock, entropy) = (Clock::System, Entropy::system());
    block_on(async {
        let sql = open_existing_database(&config).await?;
        match command {
            ClientCommand::Add(args) => {
                let new_client = args.to_new_client()?;
                let added = clients::add(&config.token, &clock, &entropy, &sql, new_client).await;
                let (client, secret) = added.with_context(|| format!("{:?}", args.name))?;
                if client.kind == ClientKind::Public {
                    println!("client_id: {}", client.id);
                } else {
                    print_secret(&client.id, &secret)?;
                }
                if !client.is_service() {
                    print_addresses(&config.issuer, &client);
                    print_issuer_origin(&issuer_origin(global)?);
                }
            }
            ClientCommand::List(args) if args.dynamic => dynamic::list(&clients::list_dynamic(&sql).await?, args.json)?,
            ClientCommand::List(args) => print_clients(&clients::list(&sql).await?, args.json, clock.now())?,
            ClientCommand::Show(args) => {
                let client = clients::show(&sql, &args.name).await.with_context(|| format!("{:?}", args.name))?;
                print_client(&client, args.json, clock.now())?;
            }
            ClientCommand::Disable(args) => {
                clients::disable(&clock, &sql, &args.name).await.with_context(|| format!("{:?}", args.name))?;
                println!("Disabled {}. Running nodes apply this within seconds.", args.name);
            }
            ClientCommand::Enable(args) => {
                clients::enable(&clock, &sql, &args.name).await.with_context(|| format!("{:?}", args.name))?;
                println!("Enabled {}. Running nodes apply this within seconds.", args.name);
            }
            ClientCommand::Delete(args) => {
                // fails before the question if there is no such client
                clients::show(&sql, &args.name).await.with_context(|| format!("{:?}", args.name))?;
                prompt::confirm(&format!("Delete the client {} permanently?", args.name), args.yes)?;
                clients::delete(&clock, &sql, &args.name).await.with_context(|| format!("{:?}", args.name))?;
                println!("Deleted {}. Running nodes apply this within seconds.", args.name);
            }
            ClientCommand::RotateSecret(args) => {
                let grace = args.grace.unwrap_or(DEFAULT_GRACE);
                let rotated = clients::rotate_secret(&clock, &entropy, &sql, &args.name, grace).await;
                let (id, secret) = rotated.with_context(|| format!("{:?}", args.name))?;
                print_secret(&id, &secret)?;
                eprintln!("The old secret stays valid until {}.", clock.now() + grace);
            }
        }
        sql.close().await;
        Ok(())
    })
}

/// Where the issuer in this command's configuration is set. This command does not know the configuration of the running service, which
/// may have another issuer.
fn issuer_origin(global: &Global) -> anyhow::Result<SettingOrigin> {
    let (settings, _warnings) = inspect(&global.sources()?)?;
    let issuer = settings.into_iter().find(|setting| setting.key == "issuer");
    Ok(issuer.map_or(SettingOrigin::Default, |setting| setting.origin))
}
