//! The load generator: one thread with persistent, non-blocking connections. It takes at most one core from the targets,
//! which run on the same machine.
//!
//! Each connection sends its next request after the previous response was checked. Latency runs from the first byte
//! written to the last byte read.

mod answer;
mod connection;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use mio::{Events, Poll};

pub use answer::Answer;
use connection::{Connection, Progress};

/// Produces requests and checks responses.
pub trait Workload {
    /// Writes the next request of a connection to `out`. Returns the request's class, which is the index of its latencies in
    /// [`Outcome::latencies`], or `None` if the workload has no further request for the connection, which then stops.
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> Option<usize>;

    /// Checks the response to a connection's last request; the error says what is wrong with the response.
    fn answer(&mut self, connection: usize, class: usize, answer: &Answer<'_>) -> Result<(), String>;
}

/// The number of connections and the duration of a load run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Concurrent connections.
    pub connections: usize,
    /// Warm-up, whose latencies are not recorded.
    pub warm_up: Duration,
    /// Measured time.
    pub measured: Duration,
}

/// The result of a load run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Latencies in microseconds by class, unsorted, of correct responses within the measured time.
    pub latencies: Vec<Vec<u32>>,
    /// Correct responses, warm-up included.
    pub correct: u64,
    /// Wrong or missing responses and failed connections, warm-up included.
    pub errors: u64,
    /// The first error.
    pub first_error: Option<String>,
    /// The actual duration of the measured time, which ends early when a connection stops.
    pub seconds: f64,
    /// Whether every connection has stopped because the workload had no further request for it.
    pub is_exhausted: bool,
}

impl Outcome {
    /// Correct responses within the measured time.
    pub fn measured_count(&self) -> usize {
        self.latencies.iter().map(Vec::len).sum()
    }

    fn record_latency(&mut self, class: usize, micros: u32) {
        if self.latencies.len() <= class {
            self.latencies.resize(class + 1, Vec::new());
        }
        self.latencies[class].push(micros);
    }

    fn record_error(&mut self, error: String) {
        self.errors += 1;
        self.first_error.get_or_insert(error);
    }
}

/// How long to wait for outstanding responses after the measured time.
const MAX_DRAIN: Duration = Duration::from_secs(15);

/// Runs a workload. Calls `on_edge` when the measured time begins and again when it ends: the caller reads its counters then.
pub fn drive(
    address: SocketAddr,
    plan: Plan,
    workload: &mut dyn Workload,
    mut on_edge: impl FnMut(),
) -> anyhow::Result<Outcome> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut connections = Vec::with_capacity(plan.connections);
    for number in 0..plan.connections {
        connections.push(Connection::open(address, number, &poll).context("connecting")?);
    }
    let planned_start = Instant::now() + plan.warm_up;
    let planned_end = planned_start + plan.measured;
    let mut outcome = Outcome::default();
    // when the measured time actually began: after a warm-up, up to one poll after `planned_start`
    let mut started: Option<Instant> = None;
    if plan.warm_up.is_zero() {
        on_edge();
        started = Some(Instant::now());
    }
    let mut in_flight = 0;
    let mut stopped_connections = 0;
    for (number, connection) in connections.iter_mut().enumerate() {
        if connection.send_next(workload, number)? {
            in_flight += 1;
        } else {
            stopped_connections += 1;
        }
    }
    let mut has_ended = false;
    while in_flight > 0 {
        let now = Instant::now();
        if started.is_none() {
            if stopped_connections > 0 {
                break; // reported below
            }
            if now >= planned_start {
                on_edge();
                started = Some(Instant::now());
            }
        }
        let is_past_end = now >= planned_end;
        if let Some(started) = started
            && !has_ended
            && (is_past_end || stopped_connections > 0)
        {
            on_edge();
            outcome.seconds = started.elapsed().as_secs_f64();
            has_ended = true;
        }
        if now > planned_end + MAX_DRAIN {
            outcome.record_error(format!("{in_flight} requests without an answer"));
            break;
        }
        // when no response arrives, the timeout of 5 ms limits how late the edges of the measured time are
        poll.poll(&mut events, Some(Duration::from_millis(5)))?;
        for event in &events {
            let number = event.token().0;
            let connection = &mut connections[number];
            match connection.advance() {
                Ok(Progress::Waiting) => continue,
                Ok(Progress::Answered) => {
                    let (class, answer, micros) = connection.answer();
                    match workload.answer(number, class, &answer) {
                        Ok(()) => {
                            outcome.correct += 1;
                            let is_measuring = started.is_some() && !has_ended;
                            if is_measuring {
                                outcome.record_latency(class, micros);
                            }
                        }
                        Err(error) => outcome.record_error(error),
                    }
                }
                Err(error) => {
                    outcome.record_error(format!("connection: {error:#}"));
                    *connection = Connection::open(address, number, &poll)?;
                }
            }
            in_flight -= 1;
            if is_past_end {
                continue;
            }
            // only sends: the response triggers an event of its own
            if connection.send_next(workload, number)? {
                in_flight += 1;
            } else {
                stopped_connections += 1;
            }
        }
    }
    outcome.is_exhausted = stopped_connections == plan.connections;
    let Some(started) = started else {
        if outcome.errors == 0 {
            bail!("the workload was exhausted while warming up");
        }
        bail!(
            "the workload was exhausted while warming up, with {} errors, the first: {}",
            outcome.errors,
            outcome.first_error.unwrap_or_default()
        );
    };
    if !has_ended {
        // The last connections stopped in the last pass of the loop, which could not notice that.
        on_edge();
        outcome.seconds = started.elapsed().as_secs_f64();
    }
    Ok(outcome)
}

/// The longest time that [`exhaust`] may take to exhaust a workload.
const EXHAUST_WITHIN: Duration = Duration::from_secs(120);

/// Runs a workload until it is exhausted, without measuring it.
///
/// # Errors
///
/// If a response was wrong, a connection failed, or the workload was not exhausted within `EXHAUST_WITHIN`.
pub fn exhaust(address: SocketAddr, connections: usize, workload: &mut dyn Workload) -> anyhow::Result<()> {
    let plan = Plan { connections, warm_up: Duration::ZERO, measured: EXHAUST_WITHIN };
    let outcome = drive(address, plan, workload, || {})?;
    match outcome.first_error {
        Some(error) => bail!("{error}"),
        None if outcome.is_exhausted => Ok(()),
        None => bail!("the target was too slow: after {EXHAUST_WITHIN:?} the workload has more requests"),
    }
}
