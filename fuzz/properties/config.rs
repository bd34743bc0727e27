//! Properties of the configuration file.

use std::{fs, path::PathBuf};

use latchkey::config::{EffectiveSetting, Sources, inspect, to_toml};

/// A file that is deleted when the value is dropped.
struct TempFile(PathBuf);

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A file is accepted, or refused with an error text. If an accepted file has no secrets, its effective values stay the same
/// when they are written to a file and loaded from it.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // unique, because several threads and processes run the targets
    let name = format!("latchkey-fuzz-{}-{:?}.toml", std::process::id(), std::thread::current().id());
    let file = TempFile(std::env::temp_dir().join(name));
    let sources =
        Sources { working_dir: std::env::temp_dir(), config_file: Some(file.0.clone()), ..Sources::default() };
    fs::write(&file.0, text).expect("written");
    match inspect(&sources) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok((settings, _warnings)) => {
            let written = to_toml(&settings);
            // secrets are shown as this mask, which can't be loaded as a secret
            if written.contains("[secret]") {
                return;
            }
            fs::write(&file.0, &written).expect("written");
            let (reloaded, _warnings) = inspect(&sources).expect("effective values load");
            // the origins of the values differ
            let keys_and_values = |settings: &[EffectiveSetting]| -> Vec<(String, String)> {
                settings.iter().map(|setting| (setting.key.clone(), setting.value.clone())).collect()
            };
            assert_eq!(keys_and_values(&reloaded), keys_and_values(&settings));
        }
    }
}
