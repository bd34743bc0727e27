//! Log lines: where they go and how they look. To standard error; text on a terminal, JSON otherwise.

use std::io::{self, IsTerminal};

use opentelemetry_sdk::trace::Tracer;
use tracing::{Level, Subscriber};
use tracing_subscriber::{
    Layer, filter::Targets, fmt::MakeWriter, layer::SubscriberExt, registry, util::SubscriberInitExt,
};

use crate::{
    config::{self, ConfigError, LogFormat, LogSettings, Problem},
    telemetry,
};

/// Starts logging, for the whole process, and sends spans to a tracer if there is one. Where something logs already, as in
/// tests, that stays.
///
/// # Errors
/// If `log.filter` is no filter; [`config::load`] has checked that already.
pub fn init(settings: &LogSettings, tracer: Option<Tracer>) -> Result<(), ConfigError> {
    let is_terminal = io::stderr().is_terminal();
    // Only the first call can succeed, and the first is as good as any.
    let _ = subscriber(settings, io::stderr, is_terminal, tracer)?.try_init();
    Ok(())
}

fn subscriber<W>(
    settings: &LogSettings,
    writer: W,
    is_terminal: bool,
    tracer: Option<Tracer>,
) -> Result<Box<dyn Subscriber + Send + Sync>, ConfigError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = config::filter(&settings.filter).map_err(|text| Problem {
        value: Some(format!("{:?}", settings.filter)),
        ..Problem::new("log.filter", text)
    })?;
    let traces = tracer.map(|tracer| {
        let ours = Targets::new().with_target(telemetry::TARGET, Level::TRACE);
        tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false).with_filter(ours)
    });
    let registry = registry().with(traces);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    Ok(match settings.format {
        // In colour, unless NO_COLOR says otherwise.
        LogFormat::Auto | LogFormat::Text if is_terminal => Box::new(registry.with(layer.with_filter(filter))),
        LogFormat::Text => Box::new(registry.with(layer.with_ansi(false).with_filter(filter))),
        // The fields beside the message, not below it, so that log stores find them by their names.
        LogFormat::Auto | LogFormat::Json => {
            Box::new(registry.with(layer.json().flatten_event(true).with_filter(filter)))
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, is_terminal: bool) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let settings = LogSettings { format, filter: "info".into() };
        let subscriber = subscriber(&settings, move || writer.clone(), is_terminal, None).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(status = 200, "answered");
            tracing::debug!("hidden");
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn lines_are_json_unless_someone_watches() {
        for (format, is_terminal) in [(LogFormat::Auto, false), (LogFormat::Json, false), (LogFormat::Json, true)] {
            let line = logged(format, is_terminal);
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!((value["message"].as_str(), value["status"].as_u64()), (Some("answered"), Some(200)));
            assert_eq!(value["level"], "INFO");
            assert_eq!(value["target"], "latchkey::logging::tests");
        }
        for (format, is_terminal) in [(LogFormat::Auto, true), (LogFormat::Text, false)] {
            let line = logged(format, is_terminal);
            assert!(line.contains("answered") && !line.starts_with('{'), "{line}");
        }
        assert!(!logged(LogFormat::Text, false).contains('\u{1b}'), "no colours in a file");
    }

    #[test]
    fn a_bad_filter_is_a_problem_of_its_key() {
        let error = init(&LogSettings { format: LogFormat::Auto, filter: "inof".into() }, None).unwrap_err();
        assert_eq!(
            error.problems[0].to_string(),
            "log.filter = \"inof\": must be a level (off, error, warn, info, debug, trace) or levels by module, such as \
             info,fred=warn"
        );
    }
}
