//! Measures Latchkey, minimal programs that bound its speed, and its alternatives (the targets) in one run on one machine.
//!
//! Each round measures the targets one after another, so that disturbances on the machine affect all of them alike.

mod code_flow;
mod footprint;
mod goals;
mod growth;
mod host;
mod load;
mod measurement;
mod passkeys;
mod plot;
mod procfs;
mod resp;
mod results;
mod run;
mod sizing;
mod table;
mod target;
mod workload;

use std::path::PathBuf;

use clap::Parser;

use host::Persistence;

/// Arguments of `make bench` and `make bench-growth`.
#[derive(Parser)]
struct Arguments {
    /// Number of rounds. Without --growth, a round measures each scenario at 64 connections, as the goals require, three times.
    #[arg(long, env = "ROUNDS", default_value_t = 3)]
    rounds: usize,
    /// Duration of a measurement in seconds, without its warm-up. Without --growth, sign-ins at 64 connections take three times as long.
    #[arg(long, env = "SECONDS_EACH", default_value_t = 1.0)]
    seconds: f64,
    /// Only measurements whose "target/scenario/connections" contains one of these comma-separated words. Empty: all.
    #[arg(long, env = "ONLY", default_value = "")]
    only: String,
    /// Persistence of all Redis servers.
    #[arg(long, env = "PERSISTENCE", value_enum, default_value = "always")]
    persistence: Persistence,
    /// Sessions per target.
    #[arg(long, env = "SESSIONS", default_value_t = 100_000)]
    sessions: usize,
    /// The `latchkey` binary of an earlier version: the target "baseline". It is measured in turn with the current version.
    #[arg(long, env = "BASELINE")]
    baseline: Option<PathBuf>,
    /// Instead of the targets, measure how Latchkey's costs grow with its sessions and nodes, and in a Redis Cluster.
    #[arg(long)]
    growth: bool,
    /// Folder for the results.
    #[arg(long, env = "OUT", default_value = "target/bench/results")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.growth { growth::run(&arguments) } else { run::run(&arguments) }
}
