//! Log output: to standard error, as text on a terminal and as JSON elsewhere. The filter can be replaced at run time.
//! `FailureSeries` and `LogLimit` keep repeated failures from filling the log.

use std::{
    any::Any,
    fmt,
    io::{self, IsTerminal},
    mem,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, LevelFilter, Targets, filter_fn},
    fmt::MakeWriter,
    layer::SubscriberExt,
    registry, reload,
    util::SubscriberInitExt,
};

use crate::{
    config::{self, ConfigError, LogFormat, LogSettings, Problem},
    telemetry::{self, Tracer},
};

/// Targets of dependencies that print parts of connection URLs, passwords included (I6: no secrets in logs). No filter turns
/// them on.
const NEVER_LOGGED: [&str; 2] = ["sqlx_postgres::options", "sqlx_sqlite::options"];

/// The shortest interval between two lines of a [`LogLimit`].
const LIMIT_INTERVAL: Duration = Duration::from_mins(1);

/// Replaces the log filter of the running process.
pub struct LogFilter {
    /// A closure, because the type of the reload handle names the layers beneath the filter.
    replace: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogFilter").finish_non_exhaustive()
    }
}

impl LogFilter {
    /// Replaces the filter with `log.filter` of these settings.
    ///
    /// # Errors
    /// If the filter can't be parsed; [`config::load`] checks that too.
    pub fn replace(&self, settings: &LogSettings) -> Result<(), ConfigError> {
        let filter = parse_filter(settings)?;
        // fails only if `init` has kept another subscriber, so that this filter's subscriber no longer exists
        let _ = (self.replace)(filter);
        Ok(())
    }
}

/// Starts logging for the whole process, and exports spans through `tracer` if there is one. If a subscriber is already
/// installed, as in tests, the subscriber stays, and the returned filter has no effect.
///
/// # Errors
/// If `log.filter` can't be parsed; [`config::load`] checks that too.
pub fn init(settings: &LogSettings, tracer: Option<Tracer>) -> Result<LogFilter, ConfigError> {
    let is_terminal = io::stderr().is_terminal();
    let (subscriber, filter) = build_subscriber(settings, io::stderr, is_terminal, tracer)?;
    let _ = subscriber.try_init();
    Ok(filter)
}

/// The message of a caught panic, for a log line; `None` if the payload is not text.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// An error and its causes on one line, for a log line or a message. Omits a cause whose text is already part of the line.
pub(crate) fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text += &format!(": {cause}");
        }
    }
    text
}

/// Decides which outcomes of a repeated task are logged: the first of consecutive failures, and the first success after them.
#[derive(Debug, Default)]
pub(crate) struct FailureSeries {
    is_failing: bool,
}

impl FailureSeries {
    /// Records a failure. Returns whether it must be logged, because it is the first one.
    pub(crate) fn record_failure(&mut self) -> bool {
        !mem::replace(&mut self.is_failing, true)
    }

    /// Records a success. Returns whether it must be logged, because it follows a failure.
    pub(crate) fn record_success(&mut self) -> bool {
        mem::take(&mut self.is_failing)
    }
}

/// Limits a log line that many tasks may write, or one task may repeat quickly: the first line is logged at once, and then at most
/// one a minute.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    last_logged: Mutex<Option<Instant>>,
}

impl LogLimit {
    pub(crate) const fn new() -> Self {
        Self { last_logged: Mutex::new(None) }
    }

    /// Records that the line is logged now, if it is due. Returns whether it is.
    pub(crate) fn record_if_due(&self, now: Instant) -> bool {
        let mut last_logged = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last_logged.is_none_or(|last| now.saturating_duration_since(last) >= LIMIT_INTERVAL);
        if is_due {
            *last_logged = Some(now);
        }
        is_due
    }
}

/// Runs `events`, and returns what this thread logs meanwhile.
#[cfg(test)]
pub(crate) fn capture(events: impl FnOnce()) -> String {
    let (log, _guard) = tests::capture_until_drop();
    events();
    log.text()
}

/// Whether the lines on standard error are JSON with these settings.
pub fn writes_json(settings: &LogSettings) -> bool {
    match settings.format {
        LogFormat::Json => true,
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
    }
}

fn parse_filter(settings: &LogSettings) -> Result<EnvFilter, ConfigError> {
    let filter = config::log_filter(&settings.filter).map_err(|text| Problem {
        value: Some(format!("{:?}", settings.filter)),
        ..Problem::new("log.filter", text)
    })?;
    Ok(filter)
}

fn build_subscriber<W>(
    settings: &LogSettings,
    writer: W,
    is_terminal: bool,
    tracer: Option<Tracer>,
) -> Result<(Box<dyn Subscriber + Send + Sync>, LogFilter), ConfigError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, reload_handle) = reload::Layer::new(parse_filter(settings)?);
    // `and` keeps the level hint of the configured filter only if the second filter has a hint, too. Without a hint, tracing would
    // evaluate the events of every level.
    let filter = filter.and(filter_fn(may_be_logged).with_max_level_hint(LevelFilter::TRACE));
    let traces = tracer.map(|tracer| {
        let only_spans = Targets::new().with_target(telemetry::TARGET, Level::TRACE);
        telemetry::layer(tracer).with_filter(only_spans)
    });
    let traced = registry().with(traces);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let subscriber: Box<dyn Subscriber + Send + Sync> = match settings.format {
        // in colour, unless NO_COLOR is set
        LogFormat::Auto | LogFormat::Text if is_terminal => Box::new(traced.with(layer.with_filter(filter))),
        LogFormat::Text => Box::new(traced.with(layer.with_ansi(false).with_filter(filter))),
        // flattened: the fields are beside the message, so that log stores index them by their names
        LogFormat::Auto | LogFormat::Json => {
            Box::new(traced.with(layer.json().flatten_event(true).with_filter(filter)))
        }
    };
    Ok((subscriber, LogFilter { replace: Box::new(move |filter| reload_handle.reload(filter)) }))
}

fn may_be_logged(event: &Metadata<'_>) -> bool {
    !NEVER_LOGGED.into_iter().any(|module| is_within(event.target(), module))
}

/// Whether a target is a module, or a module in it.
fn is_within(target: &str, module: &str) -> bool {
    target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, LazyLock};

    use tracing::{
        Dispatch,
        subscriber::{DefaultGuard, NoSubscriber},
    };

    use super::*;

    // Values of `is_terminal`.
    const TERMINAL: bool = true;
    const FILE: bool = false;

    /// A dispatcher that is never used. While only one dispatcher exists, `tracing` lets the thread that first reaches an event
    /// decide whether the event is ever logged: a test without a dispatcher would turn it off for the test that captures it.
    static SECOND_DISPATCHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

    /// The captured log lines.
    #[derive(Clone, Default)]
    pub(crate) struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Captures what this thread logs until the guard is dropped.
    pub(crate) fn capture_until_drop() -> (Buffer, DefaultGuard) {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (buffer, set_default(subscriber))
    }

    fn set_default(subscriber: impl Subscriber + Send + Sync) -> DefaultGuard {
        LazyLock::force(&SECOND_DISPATCHER);
        tracing::subscriber::set_default(subscriber)
    }

    /// Runs `events`, which may replace the filter, and returns the log.
    fn logged(format: LogFormat, is_terminal: bool, filter: &str, events: impl FnOnce(&LogFilter)) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let settings = LogSettings { format, filter: filter.into() };
        let tracer = None;
        let (subscriber, filter) = build_subscriber(&settings, move || writer.clone(), is_terminal, tracer).unwrap();
        let _guard = set_default(subscriber);
        events(&filter);
        buffer.text()
    }

    /// The log of two events, of which the filter lets the first through.
    fn request_line(format: LogFormat, is_terminal: bool) -> String {
        logged(format, is_terminal, "info", |_| {
            tracing::info!(status = 200, "answered");
            tracing::debug!("hidden");
        })
    }

    #[test]
    fn log_lines_are_json_unless_stderr_is_a_terminal() {
        for (format, is_terminal) in [(LogFormat::Auto, FILE), (LogFormat::Json, FILE), (LogFormat::Json, TERMINAL)] {
            let line = request_line(format, is_terminal);
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["message"], "answered");
            assert_eq!(value["status"], 200);
            assert_eq!(value["level"], "INFO");
            assert_eq!(value["target"], "latchkey::logging::tests");
        }
        for (format, is_terminal) in [(LogFormat::Auto, TERMINAL), (LogFormat::Text, FILE)] {
            let line = request_line(format, is_terminal);
            assert!(line.contains("answered") && !line.starts_with('{'), "{line}");
        }
        assert!(
            !request_line(LogFormat::Text, FILE).contains('\u{1b}'),
            "a log that is not on a terminal has colour codes"
        );
    }

    #[test]
    fn event_that_another_thread_reaches_first_is_captured() {
        let event = || tracing::info!("reached by two threads");
        let text = capture(|| {
            std::thread::spawn(event).join().unwrap();
            event();
        });
        assert_eq!(text.matches("reached by two threads").count(), 1, "{text}");
    }

    #[test]
    fn error_with_causes_names_each_cause_once() {
        let error = anyhow::anyhow!("disk full").context("can't write a: disk full").context("no backup made");
        assert_eq!(with_causes(&error), "no backup made: can't write a: disk full");
    }

    #[test]
    fn failure_series_logs_the_first_failure_and_the_first_success_after_it() {
        let mut series = FailureSeries::default();
        assert!(!series.record_success(), "no failure came before");
        assert!(series.record_failure());
        assert!(!series.record_failure());
        assert!(series.record_success());
        assert!(!series.record_success());
        assert!(series.record_failure(), "the first failure of another series");
    }

    #[test]
    fn log_limit_is_due_at_once_and_then_once_a_minute() {
        let (limit, start) = (LogLimit::new(), Instant::now());
        let is_due_after = |secs| limit.record_if_due(start + Duration::from_secs(secs));
        assert!(is_due_after(0));
        assert!(!is_due_after(0));
        assert!(!is_due_after(59));
        assert!(is_due_after(60));
        assert!(!is_due_after(119), "the next interval begins with the last line");
        assert!(is_due_after(120));
    }

    #[test]
    fn replaced_filter_applies_to_later_events() {
        let text = logged(LogFormat::Text, FILE, "info", |filter| {
            tracing::debug!("before");
            filter.replace(&LogSettings { format: LogFormat::Text, filter: "debug".into() }).unwrap();
            tracing::debug!("after");
        });
        assert!(text.contains("after") && !text.contains("before"), "{text}");
    }

    #[test]
    fn i6_url_parameters_of_dependencies_are_never_logged() {
        let text = logged(LogFormat::Text, FILE, "trace", |_| {
            tracing::warn!(target: "sqlx_postgres::options::parse", key = "sslpassword", value = "hunter2", "ignoring");
            // another target with the same prefix
            tracing::warn!(target: "sqlx_postgres::optionsx", "other");
        });
        assert!(text.contains("other") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn invalid_filter_is_reported_with_its_key() {
        let error = init(&LogSettings { format: LogFormat::Auto, filter: "inof".into() }, None).unwrap_err();
        assert_eq!(
            error.problems[0].to_string(),
            "log.filter = \"inof\": must be a level (off, error, warn, info, debug, trace) or levels by module, such as \
             info,fred=warn"
        );
    }
}
