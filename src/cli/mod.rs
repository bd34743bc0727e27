//! The command line: its shape, and what all commands share. Each command has a file of its own.

pub mod audit;
pub mod bootstrap;
pub mod client;
pub mod config;
pub mod doctor;
pub mod keys;
pub mod migrate;
pub mod openapi;
pub mod password;
pub mod serve;
pub mod user;

use std::{env, io, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{ArgAction, Args, Parser, Subcommand};

use crate::{
    config::{Config, ConfigError, Sources, load},
    domain::entropy::Entropy,
    logging,
    telemetry::Telemetry,
};

/// Sessions and authentication: accounts in SQL, sessions in Redis, access tokens as JWTs.
#[derive(Debug, Parser)]
#[command(name = "latchkey", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How it is configured.
    #[command(flatten)]
    pub global: Global,
}

/// What every command understands.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Configuration")]
pub struct Global {
    /// Read this configuration file instead of ./latchkey.toml [env: LATCHKEY_CONFIG]
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Keep everything that has no place of its own in this folder [env: LATCHKEY_DATA_DIR]
    #[arg(long, global = true, value_name = "PATH")]
    pub data_dir: Option<PathBuf>,
    /// Set any key of the configuration, as often as needed; `latchkey config --defaults` explains them
    #[arg(long, global = true, value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub set: Vec<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service
    Serve(serve::ServeArgs),
    /// Bring the database up to date; `serve` does so too
    Migrate(migrate::MigrateArgs),
    /// Print the API's OpenAPI document
    Openapi(openapi::OpenapiArgs),
    /// Add, list, change and import accounts
    #[command(subcommand)]
    User(user::UserCommand),
    /// Add, list and disable other services, and change their secrets
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// List, change and retire the keys that sign access tokens
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Look at everything that the service needs, and say what to do about what is wrong
    Doctor(doctor::DoctorArgs),
    /// Show what happened that concerns security
    Audit(audit::AuditArgs),
    /// Print the configuration in effect, secrets masked, and where each value came from
    Config(config::ConfigArgs),
}

impl Global {
    /// The process's sources of configuration.
    ///
    /// # Errors
    /// If the working folder is gone.
    pub fn sources(&self) -> io::Result<Sources> {
        Ok(Sources {
            working_dir: env::current_dir()?,
            config_file: self.config.clone(),
            environment: env::vars_os().collect(),
            data_dir: self.data_dir.clone(),
            set: self.set.clone(),
        })
    }

    /// Loads the configuration, starts logging, and logs what the configuration warns of.
    ///
    /// # Errors
    /// If the configuration can't be used.
    pub fn start(&self, entropy: &Entropy) -> anyhow::Result<Config> {
        let config = load(&self.sources()?, entropy)?;
        Self::log(&config, None)?;
        Ok(config)
    }

    /// The same, and sends traces if the configuration says where.
    ///
    /// # Errors
    /// If the configuration can't be used.
    pub fn start_traced(&self, entropy: &Entropy) -> anyhow::Result<(Config, Option<Telemetry>)> {
        let config = load(&self.sources()?, entropy)?;
        let telemetry = Telemetry::start(&config.telemetry).context("telemetry.otlp_endpoint: traces can't be sent")?;
        Self::log(&config, telemetry.as_ref())?;
        Ok((config, telemetry))
    }

    fn log(config: &Config, telemetry: Option<&Telemetry>) -> Result<(), ConfigError> {
        logging::init(&config.log, telemetry.map(Telemetry::tracer))?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        Ok(())
    }
}

/// Runs a command.
///
/// # Errors
/// Whatever stopped it, with its causes.
pub fn run(cli: &Cli) -> anyhow::Result<()> {
    let Cli { command, global } = cli;
    match command {
        Command::Serve(args) => serve::run(args, global),
        Command::Migrate(args) => migrate::run(args, global),
        Command::Openapi(args) => openapi::run(args),
        Command::User(command) => user::run(command, global),
        Command::Client(command) => client::run(command, global),
        Command::Keys(command) => keys::run(command, global),
        Command::Doctor(args) => doctor::run(args, global),
        Command::Audit(args) => audit::run(args, global),
        Command::Config(args) => config::run(args, global),
    }
}

/// Parses the process's arguments, runs the command, and says on standard error what went wrong. The exit code is 2 for
/// a wrong command line or configuration, 1 for anything else.
pub fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<doctor::ChecksFailed>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("latchkey: {}", explain(&error));
            ExitCode::from(if error.is::<ConfigError>() { 2 } else { 1 })
        }
    }
}

/// An error and its causes as one message; a cause that its effect has quoted already isn't repeated.
fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text += &format!(": {cause}");
        }
    }
    text
}

/// Whether it only means that nobody reads our output any more, as in `latchkey user list | head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Runs an asynchronous command to its end, with as many threads as the machine has cores.
///
/// # Errors
/// If the threads can't be started, or whatever the command returned.
pub fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_id_of_a_key_may_begin_with_a_hyphen() {
        for kid in ["-nzUWoeZLhGoTr8xojBXH6CD1B5yfJQt87xx-Bx8Ui8", "--conf", "-h5yfJQt"] {
            let parsed = parse(&format!("latchkey keys retire {kid} --data-dir d")).unwrap();
            let Command::Keys(keys) = parsed.command else { panic!("{parsed:?}") };
            assert!(format!("{keys:?}").contains(kid), "{keys:?}");
        }
        assert_eq!(parse("latchkey keys retire --help").unwrap_err().kind(), ErrorKind::DisplayHelp);
    }

    #[test]
    fn every_command_is_understood() {
        for line in [
            "latchkey serve",
            "latchkey serve --config a.toml --data-dir d --set session.grace=0s --set log.format=json",
            "latchkey --data-dir d migrate",
            "latchkey openapi",
            "latchkey openapi --yaml",
            "latchkey openapi --check openapi/openapi.json",
            "latchkey user add bob@example.com",
            "latchkey user add bob@example.com --username bob --role admin --role ops --password-stdin",
            "latchkey user list",
            "latchkey user list --json",
            "latchkey user disable bob",
            "latchkey user enable bob@example.com",
            "latchkey user delete 0192f0c1-7a2b-7000-8000-000000000001",
            "latchkey user import accounts.jsonl --batch 500",
            "latchkey user import -",
            "latchkey client add billing",
            "latchkey client add billing --scope read --scope write --audience api --public-key key.pem",
            "latchkey client add billing --jwks keys.json",
            "latchkey client list --json",
            "latchkey client disable billing",
            "latchkey client rotate-secret billing --grace 1h",
            "latchkey keys list",
            "latchkey keys rotate",
            "latchkey keys rotate --now",
            "latchkey keys retire abc",
            "latchkey doctor",
            "latchkey doctor --json",
            "latchkey audit",
            "latchkey audit --since 2h --until 2027-01-15T08:00:00Z --event sign_in --account ann --address ::1 --limit 5 --json",
            "latchkey config",
            "latchkey config --defaults",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for (line, kind) in [
            ("latchkey", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("latchkey dance", ErrorKind::InvalidSubcommand),
            ("latchkey user add", ErrorKind::MissingRequiredArgument),
            ("latchkey user import", ErrorKind::MissingRequiredArgument),
            ("latchkey user import - --batch 0", ErrorKind::ValueValidation),
            ("latchkey audit --event dance", ErrorKind::ValueValidation),
            ("latchkey audit --since soon", ErrorKind::ValueValidation),
            ("latchkey keys retire", ErrorKind::MissingRequiredArgument),
            ("latchkey client add", ErrorKind::MissingRequiredArgument),
            ("latchkey client add a --jwks a --public-key b", ErrorKind::ArgumentConflict),
            ("latchkey client rotate-secret a --grace 1y", ErrorKind::ValueValidation),
            ("latchkey client rotate-secret a --grace 400d", ErrorKind::ValueValidation),
            ("latchkey serve --port 80", ErrorKind::UnknownArgument),
        ] {
            assert_eq!(parse(line).unwrap_err().kind(), kind, "{line}");
        }
    }

    #[test]
    fn every_command_and_argument_has_help() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {} has no help", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn causes_are_told_once() {
        let error = anyhow::anyhow!("disk full").context("can't write a: disk full").context("no backup made");
        assert_eq!(explain(&error), "no backup made: can't write a: disk full");
    }
}
