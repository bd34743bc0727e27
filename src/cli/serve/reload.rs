//! SIGHUP: reads the configuration again, applies `log.filter`, and logs the keys whose changes need a restart.

use crate::{
    cli::Global,
    config::{self, ConfigError, EffectiveSetting, Sources},
    logging::LogFilter,
};

/// The only setting whose change a running node applies.
const RELOADABLE: &str = "log.filter";

/// Reloads the configuration of a running node.
pub(super) struct Reloader {
    global: Global,
    log_filter: LogFilter,
    /// The configuration that the node runs with.
    running: Vec<EffectiveSetting>,
}

impl Reloader {
    /// Reads the configuration that the node starts with.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration has become invalid since the node loaded it.
    pub(super) fn new(global: Global, log_filter: LogFilter) -> Result<Self, ConfigError> {
        let running = effective_settings(&global.sources()?)?;
        Ok(Self { global, log_filter, running })
    }

    /// Applies a changed `log.filter`, and logs the other changes. An invalid configuration changes nothing.
    pub(super) fn reload(&mut self) {
        if let Err(error) = self.try_reload() {
            tracing::error!(
                %error,
                "SIGHUP: configuration not reloaded; the node keeps its settings. Correct the error and send SIGHUP \
                 again"
            );
        }
    }

    fn try_reload(&mut self) -> Result<(), ConfigError> {
        let sources = self.global.sources()?;
        let log_settings = config::load_log_settings(&sources)?;
        let reloaded = effective_settings(&sources)?;
        let changed = changed_keys(&self.running, &reloaded);
        let filter_changed = changed.contains(&RELOADABLE);
        if filter_changed {
            self.log_filter.replace(&log_settings)?;
        }
        let applied = if filter_changed { RELOADABLE } else { "nothing" };
        let needs_restart: Vec<_> = changed.iter().copied().filter(|key| *key != RELOADABLE).collect();
        let needs_restart = needs_restart.join(", ");
        if needs_restart.is_empty() {
            tracing::info!(
                applied,
                "SIGHUP: configuration reloaded; changed secrets are not detected and need a restart"
            );
        } else {
            tracing::warn!(
                applied,
                needs_restart,
                "SIGHUP: configuration reloaded; the settings in needs_restart change at the next restart"
            );
        }
        // only the applied setting is updated, so that the next signal reports the other changes again
        let new = reloaded.into_iter().find(|setting| setting.key == RELOADABLE);
        let old = self.running.iter_mut().find(|setting| setting.key == RELOADABLE);
        if let (Some(old), Some(new)) = (old, new) {
            *old = new;
        }
        Ok(())
    }
}

/// Every setting with its value. The next start logs the warnings.
fn effective_settings(sources: &Sources) -> Result<Vec<EffectiveSetting>, ConfigError> {
    let (settings, _warnings) = config::inspect(sources)?;
    Ok(settings)
}

/// The keys whose values differ. Both lists have all settings in the same order. Secrets are masked, so a changed secret is not detected.
fn changed_keys<'a>(old: &'a [EffectiveSetting], new: &'a [EffectiveSetting]) -> Vec<&'a str> {
    let changes = old.iter().zip(new).filter(|(old, new)| old.value != new.value);
    changes.map(|(old, _)| old.key.as_str()).collect()
}
