//! `latchkey doctor`: looks at everything that the service needs, and says what to do about what is wrong. What the
//! service checks by itself is checked by the same code. It changes nothing, but starts the private Redis if the service
//! doesn't run, and makes the data folder and the secret where the service would.

mod keys;
mod machine;
mod stores;

use std::{
    fmt,
    io::{self, Write},
};

use clap::Args;
use serde::Serialize;

use super::{Global, block_on};
use crate::{
    config::{Config, load},
    domain::{clock::Clock, entropy::Entropy},
};

/// Arguments of `latchkey doctor`.
#[derive(Args, Clone, Copy, Debug)]
pub struct DoctorArgs {
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Fail on warnings too
    #[arg(long)]
    pub strict: bool,
}

/// Something doesn't work. What it is has been printed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("something doesn't work")]
pub struct ChecksFailed;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// All is well.
    Ok,
    /// It works, but should be mended.
    Warn,
    /// It doesn't work.
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

/// What was found: how it is and, where it isn't well, what to do about it.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: &'static str,
    status: Status,
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

/// Looks at everything and prints what it finds.
///
/// # Errors
/// [`ChecksFailed`] if a check fails, or warns with `--strict`.
pub fn run(args: &DoctorArgs, global: &Global) -> anyhow::Result<()> {
    let findings = match load(&global.sources()?, &Entropy::system()) {
        Err(error) => {
            error.problems.iter().map(|problem| Finding::fail("configuration", problem.to_string())).collect()
        }
        Ok(config) => {
            let mut findings = configuration(&config);
            findings.extend(machine::look(&config));
            findings.extend(block_on(stores::look(&config, &Clock::System))?);
            findings
        }
    };
    print(&findings, args.json)?;
    let fails = |finding: &Finding| finding.status == Status::Fail || args.strict && finding.status == Status::Warn;
    if findings.iter().any(fails) { Err(ChecksFailed.into()) } else { Ok(()) }
}

/// What the configuration warns of: clear text, weak hashing, files that others can read.
fn configuration(config: &Config) -> Vec<Finding> {
    if config.warnings.is_empty() {
        return vec![Finding::ok("configuration", format!("for {}", config.issuer))];
    }
    config.warnings.iter().map(|warning| Finding::warn("configuration", warning.clone())).collect()
}

fn print(findings: &[Finding], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for finding in findings {
        if json {
            serde_json::to_writer(&mut out, finding).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{:<4}  {:<13}  {}", finding.status, finding.check, finding.detail)?;
        }
    }
    out.flush()
}
