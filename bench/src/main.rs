//! Measures Latchkey beside its limits and beside what people would pick instead: all in one run, one after another in
//! each of several rounds, on one machine, so that what the machine does to one it does to all.

mod footprint;
mod goals;
mod growth;
mod host;
mod load;
mod measurement;
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

/// What `make bench` and `make bench-growth` run.
#[derive(Parser)]
struct Arguments {
    /// How often everything is measured; with 64 connections three times as often, but not for --growth.
    #[arg(long, env = "ROUNDS", default_value_t = 3)]
    rounds: usize,
    /// How long each measurement lasts, in seconds, after a short warm-up.
    #[arg(long, env = "SECONDS_EACH", default_value_t = 1.0)]
    seconds: f64,
    /// Only those whose "target/scenario/connections" holds one of these words, separated by commas.
    #[arg(long, env = "ONLY", default_value = "")]
    only: String,
    /// How all Redis servers keep what they are told.
    #[arg(long, env = "PERSISTENCE", value_enum, default_value = "always")]
    persistence: Persistence,
    /// Sessions of each target.
    #[arg(long, env = "SESSIONS", default_value_t = 100_000)]
    sessions: usize,
    /// Measure instead what a request costs with more sessions, more nodes and a Redis Cluster.
    #[arg(long)]
    growth: bool,
    /// Where the results go.
    #[arg(long, env = "OUT", default_value = "target/bench/results")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.growth { growth::run(&arguments) } else { run::run(&arguments) }
}
