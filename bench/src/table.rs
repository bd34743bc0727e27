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
    let mut last = None;
    for key in results.keys() {
        let (scenario, connections, name) = key;
        if last != Some(scenario) {
            last = Some(scenario);
            let _ = write!(
                text,
                "\n### {}\n\n| connections | | requests/s | p50 ms | p99 ms | p99.9 ms | server µs | Redis µs | RSS MiB | errors | latchkey is |\n\
                 | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
                scenario.text()
            );
        }
        let _ = writeln!(text, "| {connections} | {} | {}", name.text(), measured_cells(results, key));
    }
    text
}

/// Renders the cells of a row after its connections and its target. A figure that was not measured is 0, and leaves its cell
/// empty. The last cell is Latchkey's rate divided by the target's.
fn measured_cells(results: &Results, key: Key) -> String {
    let median_and_range = |spread: Option<Spread>, digits: usize| match spread {
        Some(s) if s.median == 0.0 && s.max == 0.0 => String::new(),
        Some(s) => format!("{:.digits$} ({:.digits$} to {:.digits$})", s.median, s.min, s.max),
        None => String::new(),
    };
    let median = |spread: Option<Spread>, digits: usize| match spread {
        Some(s) if s.median > 0.0 => format!("{:.digits$}", s.median),
        _ => String::new(),
    };
    let errors: u64 = results.samples(key).iter().map(|sample| sample.errors).sum();
    let (scenario, connections, name) = key;
    let latchkey = latchkey_node(scenario);
    let ratio = if name == latchkey {
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
        ratio.map(|ratio| format!("{:.2} times", ratio.median)).unwrap_or_default() + " |",
    ]
    .join(" | ")
}

/// The Latchkey node that a scenario uses.
pub fn latchkey_node(scenario: Scenario) -> Name {
    if scenario == Scenario::IntrospectCold { Name::LatchkeyCold } else { Name::Latchkey }
}
