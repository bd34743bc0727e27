//! Renders all measurements as Markdown tables.

use std::fmt::Write;

use crate::{
    measurement::Scenario,
    results::{Key, Results, Spread},
    target::Name,
};

/// Renders one table per scenario.
pub fn all(results: &Results) -> String {
    let mut text = String::new();
    let mut previous_scenario = None;
    for key in results.keys() {
        let (scenario, connections, target) = key;
        if previous_scenario != Some(scenario) {
            previous_scenario = Some(scenario);
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n### {}\n\n| connections | | requests/s | p50 ms | p99 ms | p99.9 ms | server µs | Redis µs | RSS MiB | errors | latchkey is |\n\
                 | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
                scenario.text()
            );
        }
        let _ = writeln!(text, "| {connections} | {} | {} |", target.text(), measured_cells(results, key));
    }
    text
}

/// Renders the cells that follow the connections and the target in a row. A figure that was not measured is 0, and leaves its
/// cell empty. The last cell is Latchkey's rate divided by the target's.
fn measured_cells(results: &Results, key: Key) -> String {
    let median_and_range = |spread: Option<Spread>, digits: usize| match spread {
        Some(Spread { median, min, max }) if max > 0.0 => {
            format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
        }
        _ => String::new(),
    };
    let median = |spread: Option<Spread>, digits: usize| match spread {
        Some(Spread { median, .. }) if median > 0.0 => format!("{median:.digits$}"),
        _ => String::new(),
    };
    let errors: u64 = results.samples(key).iter().map(|sample| sample.errors).sum();
    let (scenario, connections, target) = key;
    let latchkey = latchkey_node(scenario);
    let ratio = if target == latchkey {
        None
    } else {
        results.ratio((scenario, connections, latchkey), key, |sample| sample.per_second)
    };
    [
        median_and_range(results.spread(key, |sample| sample.per_second), 0),
        median(results.spread(key, |sample| sample.p50), 2),
        median(results.spread(key, |sample| sample.p99), 2),
        median(results.spread(key, |sample| sample.p999), 2),
        median_and_range(results.spread(key, |sample| sample.server_micros), 1),
        median(results.spread(key, |sample| sample.redis_micros), 1),
        median(results.spread(key, |sample| sample.resident_mib), 0),
        errors.to_string(),
        ratio.map(|ratio| format!("{:.2} times", ratio.median)).unwrap_or_default(),
    ]
    .join(" | ")
}

/// The Latchkey node that a scenario uses.
pub fn latchkey_node(scenario: Scenario) -> Name {
    if scenario == Scenario::IntrospectCold { Name::LatchkeyCold } else { Name::Latchkey }
}
