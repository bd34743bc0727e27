//! `latchkey doctor`: checks everything that the service needs, and names a remedy for each problem. The doctor shares the readiness
//! checks with the service. The doctor creates no data: it reports a data directory without data as a problem of the configuration.
//! While the service is not running, the doctor starts the embedded Redis and stops it again.

mod keys;
mod machine;
mod mail;
mod proxy;
mod stores;

use std::{
    fmt,
    io::{self, Write},
};

use clap::Args;
use serde::Serialize;

use super::{Global, block_on, output::write_json_line};
use crate::{
    config::{Config, load_existing},
    domain::{account::Email, clock::Clock},
};

/// Arguments of `latchkey doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Fail on warnings too
    #[arg(long)]
    pub strict: bool,
    /// Send a test mail to this address
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub test_mail: Option<Email>,
}

fn parse_address(text: &str) -> Result<Email, String> {
    Email::parse(text).map_err(|rule| rule.to_string())
}

/// A check failed, or warned with `--strict`. The findings have been printed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("at least one check failed")]
pub struct ChecksFailed;

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// No problem.
    Ok,
    /// Works, with a problem to fix.
    Warn,
    /// Does not work.
    Fail,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// A line of the output: what a check has found.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    /// The name of the check, such as `configuration`.
    check: &'static str,
    status: Status,
    /// The finding. For a problem, also the remedy.
    detail: String,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, detail: detail.into() }
    }

    fn warn(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, status: Status::Warn, detail: detail.into() }
    }

    fn fail(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, status: Status::Fail, detail: detail.into() }
    }
}

/// Runs all checks and prints their findings.
///
/// # Errors
/// [`ChecksFailed`] if a check fails, or warns with `--strict`.
pub fn run(args: &DoctorArgs, global: &Global) -> anyhow::Result<()> {
    let findings = match global.sources().and_then(|sources| load_existing(&sources)) {
        Err(error) => {
            error.problems.iter().map(|problem| Finding::fail("configuration", problem.to_string())).collect()
        }
        Ok(config) => {
            let mut findings = check_configuration(&config);
            findings.extend(machine::check(&config));
            findings.extend(proxy::check(&config));
            block_on(async {
                findings.extend(stores::check(&config, &Clock::System).await);
                findings.extend(mail::check(&config, &Clock::System, args.test_mail.as_ref()).await);
                Ok(())
            })?;
            findings
        }
    };
    print(&findings, args.json)?;
    let is_failure = |finding: &Finding| match finding.status {
        Status::Ok => false,
        Status::Warn => args.strict,
        Status::Fail => true,
    };
    if findings.iter().any(is_failure) { Err(ChecksFailed.into()) } else { Ok(()) }
}

/// The warnings of the configuration, such as connections in clear text, weak hashing, and files to which other users have access.
fn check_configuration(config: &Config) -> Vec<Finding> {
    if config.warnings.is_empty() {
        return vec![Finding::ok("configuration", format!("for {}", config.issuer))];
    }
    config.warnings.iter().map(|warning| Finding::warn("configuration", warning.clone())).collect()
}

fn print(findings: &[Finding], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for finding in findings {
        if json {
            write_json_line(&mut out, finding)?;
        } else {
            writeln!(out, "{:<4}  {:<13}  {}", finding.status, finding.check, finding.detail)?;
        }
    }
    out.flush()
}
