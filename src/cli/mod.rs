//! The command line: its definition, and the functions that all commands share. Each command has a file of its own.

pub mod apply;
pub mod audit;
pub mod backup;
pub mod bootstrap;
pub mod client;
pub mod config;
pub mod doctor;
pub mod healthcheck;
pub mod keys;
pub mod mail;
pub mod migrate;
pub mod openapi;
pub mod output;
pub mod prompt;
pub mod reference;
pub mod serve;
pub mod session;
pub mod user;

use std::{env, io, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{ArgAction, Args, Parser, Subcommand};

use crate::{
    config::{Config, ConfigError, Problem, Sources, load, load_existing},
    domain::entropy::Entropy,
    logging::{self, LogFilter},
    telemetry::Telemetry,
};

/// Sessions and authentication: accounts in SQL, sessions in Redis, access tokens as JWTs
#[derive(Debug, Parser)]
#[command(name = "latchkey", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// The options of every command.
    #[command(flatten)]
    pub global: Global,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Configuration")]
pub struct Global {
    /// Configuration file to read instead of ./latchkey.toml [env: LATCHKEY_CONFIG]
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Directory for the generated secret, SQLite database and embedded Redis [env: LATCHKEY_DATA_DIR]
    #[arg(long, global = true, value_name = "PATH")]
    pub data_dir: Option<PathBuf>,
    /// Set a configuration key (repeatable); `latchkey config --defaults` documents all keys
    #[arg(long, global = true, value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub set: Vec<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service
    Serve(serve::ServeArgs),
    /// Run database migrations (also done by `serve`)
    Migrate(migrate::MigrateArgs),
    /// Print the OpenAPI document
    Openapi(openapi::OpenapiArgs),
    /// Manage accounts: add, list, show, change, disable, delete, import
    #[command(subcommand)]
    User(user::UserCommand),
    /// List and revoke the sessions of an account
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Manage clients: services, and apps that sign users in
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Create and change clients and accounts as a file declares them; applying a file again changes nothing
    Apply(apply::ApplyArgs),
    /// Manage the keys that sign access tokens
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Show and retry mails, and preview their templates
    #[command(subcommand)]
    Mail(mail::MailCommand),
    /// Check configuration and dependencies, and suggest fixes
    Doctor(doctor::DoctorArgs),
    /// Copy the database, the secret and the sessions of the embedded Redis, also while the service runs
    Backup(backup::BackupArgs),
    /// Restore a backup into an empty data directory; without the sessions, unless --keep-sessions is given
    Restore(backup::RestoreArgs),
    /// Check whether the node on this machine is alive; exit code 1 if not
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Print the security audit log
    Audit(audit::AuditArgs),
    /// Print the effective configuration with secrets masked and the origin of every value, or check it
    Config(config::ConfigArgs),
    /// Print a completion script for a shell
    Completions(reference::CompletionsArgs),
    /// Print the manual page
    Man(reference::ManArgs),
}

/// The inputs of `latchkey serve`.
pub struct ServiceStart {
    /// The configuration.
    pub config: Config,
    /// The trace exporter, if one is configured.
    pub telemetry: Option<Telemetry>,
    /// The handle that replaces the log filter while the service runs.
    pub log_filter: LogFilter,
}

impl Global {
    /// The configuration sources of the process.
    ///
    /// # Errors
    /// If the working directory no longer exists. Relative paths start there, so the error counts as a problem of the configuration.
    pub fn sources(&self) -> Result<Sources, ConfigError> {
        Ok(Sources {
            working_dir: env::current_dir().map_err(|error| Problem::new("working directory", error.to_string()))?,
            config_file: self.config.clone(),
            environment: env::vars_os().collect(),
            data_dir: self.data_dir.clone(),
            set: self.set.clone(),
        })
    }

    /// Loads the configuration, creates the data directory and the secret if they are missing, and starts logging.
    ///
    /// # Errors
    /// If the configuration can't be used.
    pub fn load_config(&self, entropy: &Entropy) -> anyhow::Result<Config> {
        let config = load(&self.sources()?, entropy)?;
        start_logging(&config, None)?;
        Ok(config)
    }

    /// Loads the configuration of an existing service, and starts logging. Creates nothing.
    ///
    /// # Errors
    /// If the configuration can't be used, or the data directory has no service's files.
    pub fn load_existing_config(&self) -> anyhow::Result<Config> {
        let config = load_existing(&self.sources()?)?;
        start_logging(&config, None)?;
        Ok(config)
    }

    /// Like [`Global::load_config`], for `latchkey serve`: also starts to export traces if an endpoint is configured.
    ///
    /// # Errors
    /// If the configuration can't be used.
    pub fn start_service(&self, entropy: &Entropy) -> anyhow::Result<ServiceStart> {
        let config = load(&self.sources()?, entropy)?;
        let telemetry = Telemetry::start(&config.telemetry).context("telemetry.otlp_endpoint: can't export traces")?;
        let log_filter = start_logging(&config, telemetry.as_ref())?;
        Ok(ServiceStart { config, telemetry, log_filter })
    }
}

/// Starts logging, and logs the warnings of the configuration. `telemetry` is None if the command exports no traces.
fn start_logging(config: &Config, telemetry: Option<&Telemetry>) -> Result<LogFilter, ConfigError> {
    let log_filter = logging::init(&config.log, telemetry.map(Telemetry::tracer))?;
    for warning in &config.warnings {
        tracing::warn!("configuration: {warning}");
    }
    Ok(log_filter)
}

/// Runs a command.
///
/// # Errors
/// The error that stopped the command, with its causes.
pub fn run(cli: &Cli) -> anyhow::Result<()> {
    let Cli { command, global } = cli;
    match command {
        Command::Serve(args) => serve::run(args, global),
        Command::Migrate(args) => migrate::run(args, global),
        Command::Openapi(args) => openapi::run(args),
        Command::User(command) => user::run(command, global),
        Command::Session(command) => session::run(command, global),
        Command::Client(command) => client::run(command, global),
        Command::Apply(args) => apply::run(args, global),
        Command::Keys(command) => keys::run(command, global),
        Command::Mail(command) => mail::run(command, global),
        Command::Doctor(args) => doctor::run(args, global),
        Command::Backup(args) => backup::run(args, global),
        Command::Restore(args) => backup::restore(args, global),
        Command::Healthcheck(args) => healthcheck::run(*args, global),
        Command::Audit(args) => audit::run(args, global),
        Command::Config(args) => config::run(args, global),
        Command::Completions(args) => reference::print_completions(*args),
        Command::Man(args) => reference::print_man(args),
    }
}

/// Parses the arguments, runs the command, and prints an error to standard error. The exit code is 2 for an invalid command
/// line or configuration, and 1 for any other error.
pub fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        // the findings of the checks are printed already
        Err(error) if error.is::<doctor::ChecksFailed>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("latchkey: {}", logging::with_causes(&error));
            ExitCode::from(if error.is::<ConfigError>() { 2 } else { 1 })
        }
    }
}

/// Returns whether the reader has closed the output of the command, as in `latchkey user list | head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Runs an asynchronous command on a multi-threaded runtime.
///
/// # Errors
/// The error of the command, or the reason why the threads can't be started.
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
    fn command_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn key_id_may_begin_with_a_hyphen() {
        // key ids are in base64url, whose characters include the hyphen; `--conf` is the start of an option's name
        for kid in ["-nzUWoeZLhGoTr8xojBXH6CD1B5yfJQt87xx-Bx8Ui8", "--conf", "-h5yfJQt"] {
            let parsed = parse(&format!("latchkey keys retire {kid} --data-dir d")).unwrap();
            let Command::Keys(keys) = parsed.command else { panic!("{parsed:?}") };
            assert!(format!("{keys:?}").contains(kid), "{keys:?}");
        }
        // the exact name of an option is no key id
        assert_eq!(parse("latchkey keys retire --help").unwrap_err().kind(), ErrorKind::DisplayHelp);
    }

    #[test]
    fn every_command_parses() {
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
            "latchkey user list --contains ann --role admin --state disabled --limit 5 --after 0192f0c1-7a2b-7000-8000-000000000001",
            "latchkey user show username:0192f0c1-7a2b-7000-8000-000000000001 --json",
            "latchkey user roles bob --add admin --add ops --remove support",
            "latchkey user set-password bob",
            "latchkey user set-password bob --password-stdin",
            // an alias of `--password-stdin`
            "latchkey user set-password bob --stdin",
            "latchkey user set-email bob new@example.com",
            "latchkey user disable bob",
            "latchkey user enable bob@example.com",
            "latchkey user delete 0192f0c1-7a2b-7000-8000-000000000001",
            "latchkey user delete bob --yes",
            "latchkey user import accounts.jsonl --batch 500",
            "latchkey user import -",
            "latchkey client add billing",
            "latchkey client add billing --scope read --scope write --audience api --public-key key.pem",
            "latchkey client add billing --jwks keys.json",
            "latchkey client add grafana --kind web --redirect-uri https://grafana.example.com/login/generic_oauth",
            "latchkey client add spa --kind public --redirect-uri https://app.example.com/ --consent --display-name App",
            "latchkey client add app --kind web --redirect-uri https://a.example/ --auth-method client_secret_post",
            "latchkey client list --json",
            "latchkey client show billing --json",
            "latchkey client disable billing",
            "latchkey client enable billing",
            "latchkey client delete billing --yes",
            "latchkey client rotate-secret billing --grace 1h",
            "latchkey session list bob --json",
            "latchkey session revoke bob 0192f0c1-7a2b-4000-8000-000000000001",
            "latchkey session revoke bob --all",
            "latchkey session revoke --everyone --yes",
            "latchkey apply setup.toml",
            "latchkey apply setup.toml --dry-run",
            "latchkey keys list",
            "latchkey keys rotate",
            "latchkey keys rotate --now",
            "latchkey keys retire abc",
            "latchkey mail list",
            "latchkey mail list --state failed --limit 5 --json",
            "latchkey mail show 0192f0c1-7a2b-7000-8000-000000000001 --json",
            "latchkey mail retry 0192f0c1-7a2b-7000-8000-000000000001",
            "latchkey mail retry --all",
            "latchkey mail preview password_reset --locale de",
            "latchkey mail preview new_device --text --output mail.txt",
            "latchkey doctor",
            "latchkey doctor --test-mail ann@example.com",
            "latchkey doctor --json",
            "latchkey doctor --strict",
            "latchkey backup /backup/today",
            "latchkey backup /backup/today --no-sessions",
            "latchkey restore /backup/today --keep-sessions",
            "latchkey healthcheck",
            "latchkey healthcheck --ready",
            "latchkey audit",
            "latchkey audit --since 2h --until 2027-01-15T08:00:00Z --event sign_in --account ann --address ::1 --limit 5 --json",
            "latchkey audit --follow",
            "latchkey config",
            "latchkey config --defaults",
            "latchkey config check",
            "latchkey completions zsh",
            "latchkey man --dir pages",
            "latchkey man --markdown",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn invalid_command_line_is_refused() {
        for (line, kind) in [
            ("latchkey", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("latchkey dance", ErrorKind::InvalidSubcommand),
            ("latchkey user add", ErrorKind::MissingRequiredArgument),
            ("latchkey user import", ErrorKind::MissingRequiredArgument),
            ("latchkey user import - --batch 0", ErrorKind::ValueValidation),
            ("latchkey user roles bob", ErrorKind::MissingRequiredArgument),
            ("latchkey user list --limit 0", ErrorKind::ValueValidation),
            ("latchkey user list --state sleepy", ErrorKind::InvalidValue),
            ("latchkey session revoke bob", ErrorKind::MissingRequiredArgument),
            ("latchkey session revoke bob all", ErrorKind::ValueValidation), // not a session's id
            ("latchkey session revoke bob --everyone", ErrorKind::ArgumentConflict),
            ("latchkey audit --follow --until 1h", ErrorKind::ArgumentConflict),
            ("latchkey audit --event dance", ErrorKind::ValueValidation),
            ("latchkey audit --since soon", ErrorKind::ValueValidation),
            ("latchkey mail retry", ErrorKind::MissingRequiredArgument),
            ("latchkey mail preview dance", ErrorKind::ValueValidation),
            ("latchkey mail preview test --locale nl", ErrorKind::ValueValidation),
            ("latchkey doctor --test-mail ann", ErrorKind::ValueValidation),
            ("latchkey keys retire", ErrorKind::MissingRequiredArgument),
            ("latchkey client add", ErrorKind::MissingRequiredArgument),
            ("latchkey client add a --jwks a --public-key b", ErrorKind::ArgumentConflict),
            ("latchkey client rotate-secret a --grace 1y", ErrorKind::ValueValidation), // an unknown unit
            ("latchkey client rotate-secret a --grace 400d", ErrorKind::ValueValidation), // more than a year
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
}
