//! Draws SVG plots: a bar chart of rates on a logarithmic scale, and line plots.

use std::fmt::Write;

use crate::{measurement::Scenario, results::Results, target::Name};

// The size of a plot and its margins, in SVG user units.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;
/// Width of the legend of a line plot, left of the right margin.
const LEGEND: f64 = 240.0;

/// Returns the fill colour of a target's bars: one colour for each system, grey for the minimal programs.
fn colour(name: Name) -> &'static str {
    match name {
        Name::Latchkey | Name::LatchkeyCold => "#1f6feb",
        Name::Baseline | Name::BaselineCold => "#79b8ff",
        Name::Hello | Name::Floor | Name::Argon2 => "#8c959f",
        Name::FastApi => "#bf8700",
        Name::Fastify => "#1a7f37",
        Name::OidcProvider => "#8250df",
    }
}

/// Plots requests per second at 64 connections, one group of bars per scenario.
pub fn rates(results: &Results) -> String {
    let scenarios = [
        Scenario::Refresh,
        Scenario::IntrospectWarm,
        Scenario::IntrospectCold,
        Scenario::Logout,
        Scenario::Mix,
        Scenario::Login,
        Scenario::CodeFlow,
    ];
    let names = [
        Name::Hello,
        Name::Floor,
        Name::Argon2,
        Name::Latchkey,
        Name::LatchkeyCold,
        Name::Baseline,
        Name::BaselineCold,
        Name::FastApi,
        Name::Fastify,
        Name::OidcProvider,
    ];
    let connections = 64;
    let mut svg =
        begin(&format!("Requests per second at {connections} connections (bars: median; lines: minimum to maximum)"));
    // The vertical axis has the decades from 10 to 100 000.
    let low = 10_f64;
    let high = 100_000_f64;
    let y = |value: f64| {
        let share = (value.max(low) / low).log10() / (high / low).log10();
        HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
    };
    for rate in [10.0, 100.0, 1000.0, 10_000.0, 100_000.0] {
        grid(&mut svg, y(rate), &format!("{rate}"));
    }
    let group_width = (WIDTH - LEFT - RIGHT) / to_f64(scenarios.len());
    for (i, scenario) in (0_u8..).zip(scenarios) {
        let mut measured = Vec::new();
        for name in names {
            if let Some(spread) = results.spread((scenario, connections, name), |sample| sample.per_second) {
                measured.push((name, spread));
            }
        }
        let gap = 8.0;
        // The width of a bar and its gap, at most 36.
        let bar_pitch = ((group_width - gap) / to_f64(measured.len().max(1))).min(36.0);
        let width = bar_pitch - gap;
        let left = LEFT + f64::from(i) * group_width;
        text(&mut svg, left + group_width / 2.0, HEIGHT - BOTTOM + 42.0, 13, "middle", scenario.text());
        let mut x = left + gap;
        for (name, spread) in measured {
            let middle = x + width / 2.0;
            let top = y(spread.median);
            let bottom = y(low);
            let (height, fill) = (bottom - top, colour(name));
            let (max, min) = (y(spread.max), y(spread.min));
            let _ = writeln!(
                svg,
                r#"<rect x="{x:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" fill="{fill}"/><line x1="{middle:.1}" x2="{middle:.1}" y1="{max:.1}" y2="{min:.1}" stroke="black"/>"#
            );
            text(&mut svg, middle, top - 5.0, 10, "middle", &rate_label(spread.median));
            text(&mut svg, middle, bottom + 13.0, 8, "middle", name.text());
            x += bar_pitch;
        }
    }
    svg + "</svg>\n"
}

/// Converts a small count, for calculations with coordinates. `f64` has no lossless conversion from `usize`.
fn to_f64(count: usize) -> f64 {
    f64::from(u16::try_from(count).unwrap_or(u16::MAX))
}

/// Formats a rate for the label of a bar: `950`, `1.2k`.
fn rate_label(value: f64) -> String {
    if value >= 1000.0 { format!("{:.1}k", value / 1000.0) } else { format!("{value:.0}") }
}

/// Opens an SVG document with a background and a title.
fn begin(title: &str) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    text(&mut svg, WIDTH / 2.0, 26.0, 16, "middle", title);
    svg
}

/// Draws a horizontal grid line with a label.
fn grid(svg: &mut String, y: f64, label: &str) {
    let right = WIDTH - RIGHT;
    let _ = writeln!(svg, r##"<line x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}" stroke="#d0d7de"/>"##);
    text(svg, LEFT - 6.0, y + 4.0, 11, "end", label);
}

/// Writes text. `anchor` says which part of the text is at the point: its `start`, `middle` or `end`.
fn text(svg: &mut String, x: f64, y: f64, size: u8, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}">{words}</text>"#);
}

/// One line of a line plot.
pub struct Series {
    /// The label in the legend.
    pub name: String,
    /// The stroke colour.
    pub colour: &'static str,
    /// Whether the line is dashed.
    pub dashed: bool,
    /// The points from left to right: each with its label on the horizontal axis and its value.
    pub points: Vec<(String, f64)>,
}

/// Plots lines over equidistant points, with a legend on the right. All series have the labels of the first.
pub fn lines(title: &str, series: &[Series]) -> String {
    let mut svg = begin(title);
    // At least 1, so that the axis has a height if all values are 0.
    let max = series.iter().flat_map(|line| &line.points).map(|(_, value)| *value).fold(1.0, f64::max);
    // The distance between grid lines: the smallest that needs at most six lines above 0.
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]
        .into_iter()
        .find(|step| max / step <= 6.0)
        .unwrap_or(1000.0);
    let top = (max / step).ceil() * step;
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP);
    let mut value = 0.0;
    while value <= top {
        grid(&mut svg, y(value), &format!("{value}"));
        value += step;
    }
    let positions = series.first().map_or(0, |line| line.points.len());
    let (first_x, last_x) = (LEFT + 20.0, WIDTH - RIGHT - LEGEND + 20.0);
    // The distance between points. A lone point counts as two, to avoid a division by 0.
    let pitch = (last_x - first_x) / to_f64(positions.max(2) - 1);
    for (row, Series { name, colour, dashed, points }) in (0_u8..).zip(series) {
        let dash = if *dashed { r#" stroke-dasharray="6 4""# } else { "" };
        let mut polyline = String::new();
        for (i, (label, value)) in (0_u8..).zip(points) {
            let (x, y) = (first_x + f64::from(i) * pitch, y(*value));
            let _ = write!(polyline, "{x:.1},{y:.1} ");
            let _ = writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#);
            // The labels are the same for all series, so the first writes them.
            if row == 0 {
                text(&mut svg, x, HEIGHT - BOTTOM + 20.0, 12, "middle", label);
            }
        }
        let _ =
            writeln!(svg, r#"<polyline points="{polyline}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>"#);
        // The series' row of the legend: a short line, and the name right of it.
        let (x, y) = (last_x + 15.0, TOP + 20.0 * f64::from(row) + 10.0);
        let _ = writeln!(
            svg,
            r#"<line x1="{x}" x2="{}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"{dash}/>"#,
            x + 30.0
        );
        text(&mut svg, x + 38.0, y + 4.0, 12, "start", name);
    }
    svg + "</svg>\n"
}
