//! Compares rotation rules: false sign-outs of honest holders, and the time until a thief is detected.
//!
//! Needs no server. `make bench-rotation` compiles this file alone and runs it. docs/rotation.md contains the printed tables.
#![allow(missing_docs, unreachable_pub)]

#[path = "../tests/it/rotation/simulation/mod.rs"]
mod simulation;

use std::time::Instant;

use simulation::{
    Detection,
    honest::{Honest, Moves},
    policies::Policy,
    rule::{DEFAULTS, Settings},
    thief::{Owner, Thief},
};

const SEED: u64 = 19;
/// The simulated refreshes of each honest holder under each policy.
const REFRESHES: u64 = 4_000_000;
/// The simulated thefts by each thief under each policy.
const THEFTS: u64 = 20_000;

fn main() {
    let began = Instant::now();
    let names: Vec<&str> = Policy::ALL.iter().map(|(name, _)| *name).collect();
    println!("False sign-outs per million refreshes ({REFRESHES} refreshes each, seed {SEED})\n");
    row("holder", &names);
    row("---", &["---:"; Policy::ALL.len()]);
    for (name, honest) in Honest::ALL {
        let cells = Policy::ALL.map(|(_, policy)| per_million(honest.false_sign_outs(policy, REFRESHES, SEED)));
        row(name, &cells);
    }

    println!("\nThe owner's refreshes until the session ends: median / 99.9 % ({THEFTS} thefts each, seed {SEED})\n");
    row("thief", &names);
    row("---", &["---:"; Policy::ALL.len()]);
    for (name, thief) in Thief::DETECTABLE {
        detection_row(name, thief, Owner::Desk);
    }
    for (suffix, owner) in [("the owner moves", Owner::Moving), ("the owner has three tabs", Owner::Tabs)] {
        let thieves =
            [("shadows", Thief::Shadows), ("refreshes first, twice", Thief::FirstTwice), ("mixes", Thief::Mixes)];
        for (name, thief) in thieves {
            detection_row(&format!("{name}; {suffix}"), thief, owner);
        }
    }
    for (name, thief) in Thief::UNDETECTABLE {
        detection_row(name, thief, Owner::Desk);
    }

    println!(
        "\nLatchkey by `session.counted_repeats_limit`: false sign-outs per million refreshes, and the owner's refreshes until \
         the session ends\n"
    );
    row("limit", &["phone, 5 % lost", "phone, 20 % lost", "each retry from a new network", "shadowing thief"]);
    row("---:", &["---:"; 4]);
    for limit in 2..=6 {
        let policy = Policy::Latchkey(Settings { counted_repeats_limit: limit, ..DEFAULTS });
        let phone = |loss, moves| per_million(Honest::Phone(loss, moves).false_sign_outs(policy, REFRESHES, SEED));
        let few_lost = phone(0.05, Moves::Hourly);
        let many_lost = phone(0.20, Moves::Hourly);
        let new_networks = phone(0.05, Moves::AfterEachLoss);
        let shadowing_thief = detection_cell(Detection::of(Thief::Shadows, Owner::Desk, policy, THEFTS, SEED));
        row(&limit.to_string(), &[few_lost, many_lost, new_networks, shadowing_thief]);
    }
    eprintln!("\nsimulated in {:.1} s", began.elapsed().as_secs_f64());
}

/// Prints a row of a Markdown table. The second row has dashes, which align the columns.
fn row(name: &str, cells: &[impl AsRef<str>]) {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    println!("| {name} | {} |", cells.join(" | "));
}

/// Prints when each policy detects a thief.
fn detection_row(name: &str, thief: Thief, owner: Owner) {
    let cells = Policy::ALL.map(|(_, policy)| detection_cell(Detection::of(thief, owner, policy, THEFTS, SEED)));
    row(name, &cells);
}

/// The false sign-outs per million refreshes, as a cell of the table.
fn per_million(sign_outs: u64) -> String {
    let rate = sign_outs as f64 * 1e6 / REFRESHES as f64;
    if sign_outs == 0 {
        "0".to_owned()
    } else if rate < 10.0 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}

/// The median and the 99.9th percentile of the owner's refreshes until the session ends, as a cell of the table.
fn detection_cell(detection: Detection) -> String {
    let never_percent = 100.0 * detection.never as f64 / THEFTS as f64;
    // A percentile is `None` if the theft at that percentile is never detected.
    match (detection.median, detection.percentile_99_9) {
        (Some(median), Some(percentile_99_9)) => format!("{median} / {percentile_99_9}"),
        (Some(median), None) => format!("{median} / never ({never_percent:.1} %)"),
        _ => format!("never ({never_percent:.0} %)"),
    }
}
