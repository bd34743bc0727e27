//! Captures the log of the test process at level TRACE.

use std::{
    io,
    sync::{LazyLock, Mutex, MutexGuard},
};

use tracing_subscriber::{
    Registry,
    filter::LevelFilter,
    fmt::MakeWriter,
    layer::SubscriberExt,
    reload::{self, Handle},
    util::SubscriberInitExt,
};

/// The captured lines.
static TEXT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// Locked by the test that captures the log, so that only one does at a time.
static TURN: Mutex<()> = Mutex::new(());
/// The level of the subscriber. The first [`Log::start`] installs the subscriber. The level is off while no test captures the log.
static LEVEL: LazyLock<Handle<LevelFilter, Registry>> = LazyLock::new(|| {
    let (level, handle) = reload::Layer::new(LevelFilter::TRACE);
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(CapturingWriter);
    tracing_subscriber::registry().with(level).with(lines).init();
    handle
});

/// Writes lines to [`TEXT`].
struct CapturingWriter;

impl io::Write for CapturingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        TEXT.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for CapturingWriter {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        Self
    }
}

/// Captures the log at every level until this value is dropped. The log includes the lines of tests that run at the same time:
/// search only for values that no other test uses.
pub struct Log {
    _turn: MutexGuard<'static, ()>,
}

impl Log {
    pub fn start() -> Self {
        // A test that failed while it captured the log poisons the lock, which protects no data.
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        LEVEL.modify(|level| *level = LevelFilter::TRACE).unwrap();
        Self { _turn: turn }
    }

    /// Returns everything logged since [`Log::start`].
    pub fn bytes(&self) -> Vec<u8> {
        TEXT.lock().unwrap().clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Fails only after a panic of another test, which is reported already.
        let _ = LEVEL.modify(|level| *level = LevelFilter::OFF);
        TEXT.lock().unwrap().clear();
    }
}
